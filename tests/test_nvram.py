"""The nvram's rules: initialised once, upgraded only when asked, moved and received whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.nvram import ERASED, Nvram

OLD, NEW, OTHER = b"old!" * 1024, b"new!" * 1024, b"other" * 1000


@pytest.fixture
def source(tmp_path: Path) -> Nvram:
    """An initialised nvram in a host's directory."""
    nvram = make(tmp_path, "source")
    nvram.initialise(OLD, stamp="5.2.0")
    return nvram


def make(tmp_path: Path, host: str) -> Nvram:
    (tmp_path / host).mkdir()
    return Nvram(tmp_path / host)


def files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_empty_at_first(tmp_path: Path) -> None:
    nvram = Nvram(tmp_path)
    assert (nvram.initialised, nvram.staged) == (False, False)
    assert files(tmp_path) == {}


def test_initialise(source: Nvram) -> None:
    assert (source.initialised, source.stamp, source.size) == (True, "5.2.0", 4096)
    assert source.image.read_bytes() == OLD
    assert not source.staged


def test_it_is_initialised_once(source: Nvram) -> None:
    before = files(source.directory)
    with pytest.raises(HarnessError, match="never overwritten"):
        source.initialise(NEW, stamp="11.1.3")
    assert files(source.directory) == before


def test_it_outlives_the_object(source: Nvram) -> None:
    again = Nvram(source.directory)
    assert (again.initialised, again.stamp) == (True, "5.2.0")
    again.stage(NEW)
    assert source.staged


# ---- upgrades ----------------------------------------------------------------------------------


def test_a_staged_upgrade_leaves_the_firmware_alone(source: Nvram) -> None:
    source.stage(NEW)
    assert source.staged
    assert source.image.read_bytes() == OLD


def test_taking_it_makes_it_the_firmware_once(source: Nvram) -> None:
    source.stage(NEW)
    assert source.take_staged() == NEW
    assert source.image.read_bytes() == NEW
    assert not source.staged
    assert source.take_staged() is None
    assert source.image.read_bytes() == NEW
    assert set(files(source.directory)) == {"nvram.bin", "nvram.json"}


def test_an_upgrade_keeps_the_stamp(source: Nvram) -> None:
    # The stamp is the QEMU version that initialised it.
    source.stage(NEW)
    source.take_staged()
    assert source.stamp == "5.2.0"


def test_nothing_staged_nothing_taken(source: Nvram) -> None:
    assert source.take_staged() is None
    assert source.image.read_bytes() == OLD


def test_the_last_upgrade_counts(source: Nvram) -> None:
    third = b"3rd!" * 1024
    source.stage(NEW)
    source.stage(third)
    assert source.take_staged() == third


def test_a_running_qemu_sees_the_upgrade_in_the_file_it_has_open(source: Nvram) -> None:
    with source.image.open("rb") as opened:
        source.stage(NEW)
        source.take_staged()
        assert opened.read() == NEW
        assert opened.seek(0) == 0
    assert source.size == 4096


@pytest.mark.parametrize("image", [b"", OLD[:-1], OLD + b"\0", OTHER])
def test_an_image_of_another_size_does_not_fit(source: Nvram, image: bytes) -> None:
    source.stage(NEW)
    before = files(source.directory)
    with pytest.raises(HarnessError, match=f"{len(image):#x} bytes does not fit .* 0x1000"):
        source.stage(image)
    assert files(source.directory) == before


# ---- clearing ----------------------------------------------------------------------------------


def test_clear_lets_it_be_initialised_again(source: Nvram) -> None:
    source.stage(NEW)
    source.clear()
    assert (source.initialised, source.staged) == (False, False)
    assert files(source.directory) == {}
    source.initialise(OTHER, stamp="11.1.3")
    assert (source.image.read_bytes(), source.stamp) == (OTHER, "11.1.3")
    assert source.take_staged() is None


def test_clearing_an_empty_one_is_no_mistake(tmp_path: Path) -> None:
    Nvram(tmp_path).clear()
    assert files(tmp_path) == {}


def test_an_empty_one_has_nothing_to_upgrade(source: Nvram) -> None:
    source.clear()
    with pytest.raises(HarnessError, match="no nvram here"):
        source.stage(NEW)
    with pytest.raises(HarnessError, match="no nvram here"):
        source.take_staged()
    with pytest.raises(HarnessError, match="no nvram here"):
        _ = source.stamp
    assert files(source.directory) == {}


# ---- the guest goes to another host, shut down -------------------------------------------------


def test_move_takes_all_of_it(tmp_path: Path, source: Nvram) -> None:
    target = make(tmp_path, "destination").directory
    source.stage(NEW)
    before = files(source.directory)
    moved = source.move_to(target)
    assert files(target) == before
    assert (moved.stamp, moved.staged) == ("5.2.0", True)
    assert moved.take_staged() == NEW
    assert files(source.directory) == {}
    assert not source.initialised


def test_move_replaces_what_was_there(tmp_path: Path, source: Nvram) -> None:
    there = make(tmp_path, "destination")
    there.initialise(OTHER, stamp="7.2.0")
    there.stage(OTHER[::-1])
    moved = source.move_to(there.directory)
    assert (moved.image.read_bytes(), moved.stamp, moved.staged) == (OLD, "5.2.0", False)
    assert moved.take_staged() is None
    assert set(files(there.directory)) == {"nvram.bin", "nvram.json"}


def test_move_to_where_it_is(source: Nvram) -> None:
    source.stage(NEW)
    before = files(source.directory)
    assert source.move_to(source.directory).staged
    assert files(source.directory) == before


def test_moving_an_empty_one_leaves_none_over_there(tmp_path: Path, source: Nvram) -> None:
    there = make(tmp_path, "destination")
    there.initialise(OTHER, stamp="7.2.0")
    source.clear()
    moved = source.move_to(there.directory)
    assert not moved.initialised
    moved.initialise(NEW, stamp="11.1.3")
    assert moved.image.read_bytes() == NEW


# ---- the guest goes to another host, running ---------------------------------------------------


def test_room_for_what_a_migration_brings(tmp_path: Path) -> None:
    nvram = Nvram(tmp_path)
    nvram.expect_migration(4096)
    assert nvram.image.read_bytes() == ERASED * 4096
    assert not nvram.initialised


def test_room_where_something_else_was(tmp_path: Path) -> None:
    nvram = Nvram(tmp_path)
    nvram.initialise(OTHER, stamp="7.2.0")
    nvram.expect_migration(4096)
    assert nvram.size == 4096


def receive(source: Nvram, target: Nvram) -> None:
    """What QEMU does in a migration: the destination's file is written with the source's."""
    target.expect_migration(source.size)
    target.image.write_bytes(source.image.read_bytes())
    target.received_from(source)


def test_received_with_all_that_is_known(tmp_path: Path, source: Nvram) -> None:
    target = make(tmp_path, "destination")
    source.stage(NEW)
    receive(source, target)
    assert (target.image.read_bytes(), target.stamp, target.staged) == (OLD, "5.2.0", True)
    assert target.take_staged() == NEW
    assert target.image.read_bytes() == NEW


def test_the_source_has_given_it_away(tmp_path: Path, source: Nvram) -> None:
    source.stage(NEW)
    receive(source, make(tmp_path, "destination"))
    assert (source.initialised, source.staged) == (False, False)
    with pytest.raises(HarnessError, match="no nvram here, or it has moved away"):
        source.take_staged()
    # What is left there is only room for it to come back.
    assert files(source.directory) == {"nvram.bin": OLD}


def test_received_over_what_was_there(tmp_path: Path, source: Nvram) -> None:
    target = make(tmp_path, "destination")
    target.initialise(OTHER, stamp="7.2.0")
    target.stage(OTHER[::-1])
    receive(source, target)
    assert (target.image.read_bytes(), target.stamp, target.staged) == (OLD, "5.2.0", False)
    assert target.take_staged() is None


def test_there_and_back(tmp_path: Path, source: Nvram) -> None:
    target = make(tmp_path, "destination")
    receive(source, target)
    target.stage(NEW)
    target.take_staged()
    receive(target, source)
    assert (source.image.read_bytes(), source.stamp) == (NEW, "5.2.0")
    assert not target.initialised


def test_nothing_can_be_received_from_an_empty_one(tmp_path: Path) -> None:
    source, target = make(tmp_path, "source"), make(tmp_path, "destination")
    target.initialise(OLD, stamp="5.2.0")
    with pytest.raises(HarnessError, match="no nvram here"):
        target.received_from(source)
    assert target.stamp == "5.2.0"


# ---- any order of all of them ------------------------------------------------------------------


@given(st.lists(st.sampled_from(["stage", "take", "move", "migrate"]), max_size=10))
def test_the_firmware_changes_only_by_taking_what_was_staged(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    here = tmp_path_factory.mktemp("nvram")
    nvram, there = make(here, "a"), make(here, "b")
    nvram.initialise(OLD, stamp="5.2.0")
    firmware, staged = OLD, None
    for count, act in enumerate(acts):
        if act == "stage":
            staged = bytes([count]) * len(OLD)
            nvram.stage(staged)
        elif act == "take":
            assert nvram.take_staged() == staged
            firmware, staged = staged or firmware, None
        else:
            if act == "move":
                source, nvram, there = nvram, nvram.move_to(there.directory), nvram
            else:
                receive(nvram, there)
                source, nvram, there = nvram, there, nvram
            assert not source.initialised
        assert nvram.image.read_bytes() == firmware
        assert (nvram.stamp, nvram.staged) == ("5.2.0", staged is not None)
