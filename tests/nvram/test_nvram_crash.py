"""Cut at every write: whatever is cut off, an nvram file is in the old or in the new state."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bootmatrix.errors import HarnessError, NvramError
from bootmatrix.nvram import ChangedBy, Nvram, Part, System, inspect, repair
from bootmatrix.nvram.file import File
from bootmatrix.nvram.layout import HEAD

OLD, NEW, OTHER = b"old!" * 2048, b"new!" * 2048, b"oth!" * 2048
SECTOR = 512
# How much of the write at which the cut comes has reached the file.
PARTS = (0.0, 0.001, 0.3, 0.999)
PARTS_OF_A_FULL_DISK = (0.0, 0.3)


class Killed(BaseException):
    """SIGKILL: nothing runs after it, no handler and no clean-up."""


def full_disk() -> BaseException:
    return OSError(errno.ENOSPC, "No space left on device")


@dataclass
class Cut:
    """System calls that stop at the ``at``-th change, after a ``part`` of it is done."""

    at: int
    part: float
    fault: Callable[[], BaseException]
    sticky: bool = True
    count: int = 0

    @property
    def reached(self) -> bool:
        return self.count > self.at

    def _stops(self) -> bool:
        self.count += 1
        return self.count - 1 == self.at or (self.sticky and self.count - 1 > self.at)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        if self._stops():
            if self.count - 1 == self.at:
                os.pwrite(fd, data[:int(len(data) * self.part)], offset)
            raise self.fault()
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        if self._stops():
            raise self.fault()
        os.ftruncate(fd, size)

    def rename(self, source: Path, target: Path) -> None:
        if self._stops():
            raise self.fault()
        source.replace(target)

    def unlink(self, path: Path) -> None:
        if self._stops():
            raise self.fault()
        path.unlink()

    @property
    def system(self) -> System:
        return System(self.pwrite, lambda fd: None, self.truncate, self.rename, self.unlink)


def quick() -> System:
    return System(sync=lambda fd: None)


def make(path: Path, firmware: bytes = OLD) -> Nvram:
    nvram = Nvram(path, system=quick())
    nvram.initialise(firmware, qemu="5.2.0", variables=b"vars" * 1024)
    return nvram


@dataclass(frozen=True)
class Act:
    """Something done to a prepared file, and how the file is prepared."""

    name: str
    do: Callable[[Nvram], object]
    prepare: tuple[Callable[[Nvram], object], ...] = ()
    # What others do to the prepared file, behind the harness's back.
    behind: Callable[[Path], object] = lambda path: None
    force: bool = False


def guest_flashes(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(HEAD)
        file.write(OTHER)


def stage(nvram: Nvram) -> None:
    nvram.stage(NEW, "new")


ACTS = (
    Act("stage", stage),
    Act("stage again", lambda nvram: nvram.stage(OTHER, "other"), (stage,)),
    Act("take", lambda nvram: nvram.take_staged(), (stage,)),
    Act("take the second", lambda nvram: nvram.take_staged(),
        (stage, lambda nvram: nvram.stage(OTHER, "other"))),
    Act("clear", lambda nvram: nvram.clear(), (stage,)),
    Act("initialise again", lambda nvram: nvram.initialise(NEW, qemu="11.1.3"),
        (lambda nvram: nvram.clear(),)),
    Act("import", lambda nvram: nvram.replace_contents({Part.FIRMWARE: NEW}), (stage,)),
    Act("lend", lambda nvram: nvram.lend("5.2.0", "source")),
    Act("settle", lambda nvram: None, (lambda nvram: nvram.lend("5.2.0", "source"),),
        guest_flashes),
    Act("force", lambda nvram: None,
        (lambda nvram: nvram.move_to(nvram.path.with_name("elsewhere")).close(),), force=True),
)


@dataclass(frozen=True)
class Seen:
    """The state that matters of one nvram."""

    firmware: bytes | None
    variables: bytes | None
    staged: bytes | None
    stamp: str | None
    name: str
    moved: bool = False


def look(path: Path) -> Seen:
    """The state after a crash: what the next harness finds, by looking and by opening it."""
    if inspect(path).header.moved is None:
        with Nvram(path, system=quick()) as nvram:
            return look_at(nvram)
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    with Nvram(copy, force=True, system=quick()) as nvram:
        return replace(look_at(nvram), moved=True)


def look_at(nvram: Nvram) -> Seen:
    header = nvram.header
    staged = None
    if header.staged is not None:
        data = nvram.path.read_bytes()
        staged = data[header.staged.offset:header.staged.offset + header.staged.size]
    contents = nvram.contents()
    return Seen(
        contents.get(Part.FIRMWARE), contents.get(Part.VARIABLES), staged,
        header.origin.qemu if header.origin else None, header.firmware,
    )


def prepared(directory: Path, act: Act) -> Path:
    directory.mkdir()
    path = directory / "nvram"
    nvram = make(path)
    for step in act.prepare:
        step(nvram)
    if act.behind is not Act.behind:
        # The harness is killed while a QEMU has the file: the mark stays, the lock goes.
        data = path.read_bytes()
        nvram.close()
        path.write_bytes(data)
        act.behind(path)
    nvram.close()
    return path


def copy_of(path: Path, directory: Path) -> Path:
    shutil.copytree(path.parent, directory)
    return directory / path.name


def perform(path: Path, act: Act, system: System) -> None:
    # Leaving the block closes the file, as the kernel does for a killed process: no system
    # call that changes anything gets through any more.
    with Nvram(path, force=act.force, system=system) as nvram:
        act.do(nvram)


def cuts(
    directory: Path, path: Path, do: Callable[[Path, System], None],
    fault: Callable[[], BaseException], sticky: bool = True,
) -> Iterator[Path]:
    """A copy of the file for each place at which ``do`` can be cut off, cut off there."""
    at = 0
    while True:
        for part in PARTS if fault is Killed else PARTS_OF_A_FULL_DISK:
            here = copy_of(path, directory / f"{at}-{part}")
            cut = Cut(at, part, fault, sticky)
            try:
                do(here, cut.system)
            except (Killed, HarnessError):
                assert cut.reached
            if not cut.reached:
                assert at > 3, "there was something to cut"
                return
            yield here
            shutil.rmtree(here.parent)
        at += 1


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
@pytest.mark.parametrize("fault", ["killed", "full disk", "full disk for a moment"])
def test_old_or_new(tmp_path: Path, act: Act, fault: str) -> None:
    path = prepared(tmp_path / "prepared", act)
    done = copy_of(path, tmp_path / "done")
    perform(done, act, quick())
    new, old = look(done), look(copy_of(path, tmp_path / "old"))
    seen = []
    for here in cuts(
        tmp_path / "cuts", path, lambda path, system: perform(path, act, system),
        Killed if fault == "killed" else full_disk, sticky="moment" not in fault,
    ):
        state = look(here)
        assert state in (old, new)
        assert look(here) == state, "and it stays that"
        seen.append(state)
    assert old in seen
    if fault == "killed" and act.name not in ("initialise again", "import"):
        assert new in seen  # those two count by their very last act, a rename


@pytest.mark.parametrize("act", ACTS[:7], ids=lambda act: act.name)
@pytest.mark.parametrize("sticky", [True, False], ids=["stays full", "for a moment"])
def test_the_object_goes_on_after_a_full_disk(tmp_path: Path, act: Act, sticky: bool) -> None:
    path = prepared(tmp_path / "prepared", act)
    done = copy_of(path, tmp_path / "done")
    perform(done, act, quick())
    new, old = look(done), look(copy_of(path, tmp_path / "old"))

    def do(here: Path, system: System) -> None:
        nvram = Nvram(here, system=system)
        try:
            act.do(nvram)
        except HarnessError:
            state = new if sticky else look_at(nvram)
            assert state in (old, new)
            if state == old:
                act.do(nvram)
            raise
        finally:
            nvram.close()

    for here in cuts(tmp_path / "cuts", path, do, full_disk, sticky=sticky):
        assert look(here) in (old, new)


def test_a_new_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    def do(path: Path, system: System) -> None:
        make_with(path, system)

    def make_with(path: Path, system: System) -> None:
        with Nvram(path, system=system) as nvram:
            nvram.initialise(OLD, qemu="5.2.0")

    for here in cuts(tmp_path / "cuts", tmp_path / "empty" / "nvram", do, Killed):
        if here.exists():
            assert look(here).firmware == OLD
        else:
            make_with(here, quick())
            assert look(here).firmware == OLD


# ---- a guest is never in two places, and never in none -----------------------------------------


def move(source: Path, system: System) -> None:
    with Nvram(source, system=system) as nvram:
        nvram.move_to(source.with_name("there")).close()


def migrate(source: Path, system: System) -> None:
    with Nvram(source, system=system) as nvram:
        nvram.lend("5.2.0", "source")
        there = source.with_name("there")
        with Nvram.expecting(there, nvram, qemu="11.1.3", role="destination") as target:
            with target.path.open("r+b") as file:  # what QEMU does
                for window in nvram.header.windows:
                    file.seek(window.offset)
                    file.write(nvram.read(window.part))
            target.received_from(nvram)


@pytest.mark.parametrize("do", [move, migrate], ids=["move", "migrate"])
@pytest.mark.parametrize("there", ["nothing", "what moved away", "another guest's"])
@pytest.mark.parametrize("fault", ["killed", pytest.param("full disk", marks=pytest.mark.thorough)])
def test_the_guest_is_in_one_place(
    tmp_path: Path, do: Callable[[Path, System], None], there: str, fault: str
) -> None:
    (tmp_path / "prepared").mkdir()
    path = tmp_path / "prepared" / "nvram"
    nvram = make(path)
    guest = nvram.header.guest
    nvram.stage(NEW)
    if there == "another guest's":
        make(path.with_name("there"), OTHER).close()
    elif there == "what moved away":
        nvram = nvram.move_to(path.with_name("there")).move_to(path)
    nvram.close()

    def lives_in(place: Path) -> bool:
        try:
            with Nvram(place, system=quick()) as nvram:
                if not nvram.initialised or nvram.header.guest != guest:
                    return False
                assert look_at(nvram).staged == NEW
                return nvram.read() == OLD
        except NvramError:
            return False

    stayed = 0
    failure = Killed if fault == "killed" else full_disk
    for here in cuts(tmp_path / "cuts", path, do, failure):
        assert not (lives_in(here) and lives_in(here.with_name("there"))), "not twice"
        if not lives_in(here) and not lives_in(here.with_name("there")):
            repair(here.with_name("there"))
        lives = [place for place in (here, here.with_name("there")) if lives_in(place)]
        assert len(lives) == 1, "neither twice nor lost"
        stayed += lives == [here]
        if lives == [here] and there == "another guest's":
            assert inspect(here.with_name("there")).contents[Part.FIRMWARE] == OTHER
    assert stayed > 0
    do(path, quick())
    assert lives_in(path.with_name("there"))
    assert not lives_in(path)


# ---- loss of power: what was not synced may be there in part, in any order ---------------------


@dataclass
class Log:
    """System calls that are done, and written down."""

    calls: list[tuple[str, int, bytes]] = field(default_factory=list)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self.calls.append(("write", offset, bytes(data)))
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        self.calls.append(("truncate", size, b""))
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        self.calls.append(("sync", 0, b""))

    @property
    def system(self) -> System:
        return System(self.pwrite, self.sync, self.truncate)


def after_power_loss(before: bytes, calls: list[tuple[str, int, bytes]], chance: random.Random
                     ) -> bytes:
    """The file as a disk may hold it: all up to the last sync, of the rest any sectors."""
    disk = bytearray(before)
    last_sync = max((n for n, call in enumerate(calls) if call[0] == "sync"), default=-1)
    for number, (call, offset, data) in enumerate(calls):
        durable = number < last_sync
        if call == "write":
            for at in range(0, len(data), SECTOR):
                if durable or chance.random() < 0.5:
                    sector = data[at:at + SECTOR]
                    disk.extend(bytes(max(0, offset + at + len(sector) - len(disk))))
                    disk[offset + at:offset + at + len(sector)] = sector
        elif call == "truncate" and (durable or chance.random() < 0.5):
            disk.extend(bytes(max(0, offset - len(disk))))
            del disk[offset:]
    return bytes(disk)


def test_loss_of_power(tmp_path: Path) -> None:
    path = tmp_path / "nvram"
    make(path).close()
    before = path.read_bytes()
    log = Log()
    nvram = Nvram(path, system=log.system)
    states, marks = [look_at(nvram)], [len(log.calls)]
    for act in (
        stage, lambda nvram: nvram.stage(OTHER, "other"), lambda nvram: nvram.take_staged(),
        lambda nvram: nvram.lend("5.2.0", "source"), lambda nvram: nvram.settle(), stage,
        lambda nvram: nvram.take_staged(), lambda nvram: nvram.clear(),
    ):
        act(nvram)
        states.append(look_at(nvram))
        marks.append(len(log.calls))
    nvram.close()
    chance = random.Random(4)
    broken = tmp_path / "broken"
    for cut in range(marks[-1]):
        number = next(n for n, mark in enumerate(marks) if cut <= mark)
        allowed = states[max(0, number - 1):number + 1]
        for _ in range(6):
            broken.write_bytes(after_power_loss(before, log.calls[:cut], chance))
            assert look(broken) in allowed, (cut, log.calls[cut - 1][:2])


# ---- the tests can fail ------------------------------------------------------------------------


def test_a_store_without_a_journal_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(File, "commit", File.write_headers)
    with pytest.raises(NvramError, match="header page"):
        test_old_or_new(tmp_path, ACTS[0], "killed")


def test_a_store_that_writes_the_window_first_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(nvram: Nvram) -> None:
        staged = nvram.header.staged
        assert staged is not None
        nvram._opened.write(nvram._staged_content(staged), nvram.window.offset)
        nvram.take_staged()

    act = Act("take", careless, (stage,))
    with pytest.raises(NvramError, match="firmware window is damaged"):
        test_old_or_new(tmp_path, act, "killed")


def test_a_store_that_never_syncs_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(File, "sync", lambda file: None)
    with pytest.raises((NvramError, AssertionError)):
        test_loss_of_power(tmp_path)


def test_marking_the_source_last_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(self: Nvram, source: Nvram) -> None:
        final = source.path.with_name("there")
        self._arriving = False
        self._opened.rename(final)
        self.path = final
        source.clear(ChangedBy.HARNESS)
        source.close()

    monkeypatch.setattr(Nvram, "_take_over", careless)
    with pytest.raises(AssertionError, match="not twice"):
        test_the_guest_is_in_one_place(tmp_path, move, "nothing", "killed")
