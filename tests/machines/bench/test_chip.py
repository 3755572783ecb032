"""What was in a chip is never lost, whatever ends while it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import BenchError
from bootmatrix.firmware.identity import sha256
from bootmatrix.machines.bench.chip import Chip
from bootmatrix.machines.bench.seat import Journal, Seat

OLD, NEW, OTHER = b"old old old!", b"new new new!", b"any any any!"


class Killed(BaseException):
    """The process ends here."""


class Programmer:
    """A chip's content; ``kills`` ends the process in the middle of so manieth write."""

    def __init__(self, content: bytes = OLD, kills: int = 0) -> None:
        self.content, self.kills, self.reads = content, kills, 0

    def read(self) -> bytes:
        """It is looked at."""
        self.reads += 1
        return self.content

    def write(self, image: bytes) -> None:
        """The first half, and then the second one."""
        self.kills -= 1
        self.content = image[: len(image) // 2] + self.content[len(image) // 2 :]
        if self.kills == 0:
            raise Killed
        self.content = image


@pytest.fixture
def seat(tmp_path: Path) -> Seat:
    """A board's."""
    return Seat(tmp_path / "seat")


def test_what_it_held_is_kept_before_it_is_written(seat: Seat) -> None:
    programmer = Programmer()
    chip = Chip(programmer, seat, restore=False)
    chip.program(NEW)
    chip.program(NEW)
    assert (programmer.content, chip.writes, programmer.reads) == (NEW, 1, 1)
    assert (seat.saved.read_bytes(), chip.saved, chip.first) == (OLD, OLD, sha256(OLD))
    chip.program(OTHER)
    assert seat.saved.read_bytes() == OLD, "the first is what was there"
    assert not chip.finish()
    assert (programmer.content, seat.journal) == (OTHER, None)


def test_it_is_restored_if_that_is_asked_for(seat: Seat) -> None:
    programmer = Programmer()
    chip = Chip(programmer, seat, restore=True)
    chip.program(NEW)
    assert seat.journal == Journal(sha256(NEW), done=True, restore=True)
    assert chip.finish()
    assert programmer.content == OLD
    assert not (seat.saved.parent / "journal.json").exists()


def test_a_chip_that_was_only_read_is_not_written(seat: Seat) -> None:
    programmer = Programmer()
    chip = Chip(programmer, seat, restore=True)
    chip.program(OLD)
    assert not chip.finish()
    assert chip.writes == 0


def test_an_image_of_another_size_is_not_for_this_chip(seat: Seat) -> None:
    with pytest.raises(BenchError, match="the image has 0x3 bytes, the chip 0xc"):
        Chip(Programmer(), seat, restore=False).program(b"odd")
    assert seat.journal is None


@pytest.mark.parametrize("restore", [True, False])
def test_one_that_was_killed_half_way_is_found_by_the_next(seat: Seat, restore: bool) -> None:
    programmer = Programmer(kills=1)
    with pytest.raises(Killed):
        Chip(programmer, seat, restore=restore).program(NEW)
    assert programmer.content not in (OLD, NEW)
    again = Chip(programmer, seat, restore=False)
    assert again.recover() == (
        "the chip was left half-written by a killed or failed run: what it held before is restored")
    assert (programmer.content, seat.journal) == (OLD, None)
    assert again.recover() is None


def test_one_that_was_killed_while_it_was_restored(seat: Seat) -> None:
    programmer = Programmer(kills=2)
    chip = Chip(programmer, seat, restore=True)
    chip.program(NEW)
    with pytest.raises(Killed):
        chip.finish()
    assert Chip(programmer, seat, restore=False).recover() is not None
    assert programmer.content == OLD


def test_one_that_was_killed_behind_its_write(seat: Seat) -> None:
    programmer = Programmer()
    Chip(programmer, seat, restore=False).program(NEW)
    assert Chip(programmer, seat, restore=False).recover() is None
    assert programmer.content == NEW, "nobody had asked for more"
    Chip(programmer, seat, restore=True).program(OTHER)
    assert Chip(programmer, seat, restore=True).recover() == (
        "the chip was not restored by a killed or failed run: what it held before is restored")
    assert programmer.content == NEW


def test_nothing_was_kept_of_it(seat: Seat) -> None:
    seat.journal = Journal(sha256(NEW), done=False, restore=True)
    assert Chip(Programmer(), seat, restore=False).recover() == (
        "the chip is half-written, and nothing was kept of it")


def test_what_a_board_writes_itself_is_looked_at(seat: Seat) -> None:
    programmer = Programmer()
    chip = Chip(programmer, seat, restore=True)
    chip.changed()
    programmer.content = NEW
    assert chip.known is None
    assert chip.finish()
    assert programmer.content == OLD


class Broken(Programmer):
    """It writes half, and says that it has failed."""

    def write(self, image: bytes) -> None:
        """As a clip that slips."""
        self.content = image[: len(image) // 2] + self.content[len(image) // 2 :]
        raise BenchError("FAILED at 0x6")


def test_a_write_that_failed_is_the_next_one_s_to_see_to(seat: Seat) -> None:
    broken = Broken()
    chip = Chip(broken, seat, restore=False)
    with pytest.raises(BenchError, match="FAILED"):
        chip.program(NEW)
    assert not chip.finish()
    assert seat.journal == Journal(sha256(NEW), done=False, restore=False)
    programmer = Programmer(broken.content)
    again = Chip(programmer, seat, restore=False)
    assert again.recover() is not None
    assert programmer.content == seat.saved.read_bytes() == OLD, "half an image is never kept"


def test_what_a_board_has_changed_itself_is_whole(seat: Seat) -> None:
    programmer = Programmer()
    Chip(programmer, seat, restore=False).program(NEW)
    programmer.content = OTHER  # its variables: the journal says that the write was verified
    assert Chip(programmer, seat, restore=False).recover() is None
    assert programmer.content == OTHER


def test_a_board_that_was_to_program_itself_and_has_not(seat: Seat) -> None:
    programmer = Programmer()
    chip = Chip(programmer, seat, restore=False)
    chip.program(NEW)
    chip.changed()  # killed before the guest is told to
    assert Chip(programmer, seat, restore=False).recover() is None
    assert programmer.content == NEW


def test_what_it_held_first_of_all_stays(seat: Seat) -> None:
    programmer = Programmer()
    for content in (NEW, OTHER, NEW):
        chip = Chip(programmer, seat, restore=False)
        chip.program(content)
        chip.finish()
    assert (seat.original.read_bytes(), seat.saved.read_bytes()) == (OLD, OTHER)


@pytest.mark.parametrize("restore", [True, False])
def test_what_verifies_and_is_something_else_is_never_kept(seat: Seat, restore: bool) -> None:
    programmer = Programmer()
    chip = Chip(programmer, seat, restore=restore)
    chip.program(NEW)
    programmer.content = OTHER
    assert chip.written == NEW != chip.read()
    chip.distrust()
    assert chip.finish() is restore
    again = Chip(programmer, seat, restore=False)
    assert (again.recover() is None) is restore
    assert programmer.content == OLD
    again.program(NEW)
    assert seat.saved.read_bytes() == OLD
