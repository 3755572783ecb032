"""The nvram's rules: initialised once, upgraded only when asked, lent, moved and received whole."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import NvramError
from harness.nvram import ERASED, ChangedBy, Nvram, Part, System, inspect, repair
from harness.nvram.layout import HEAD, HEADERS, JOURNAL, NOTE, PAGE
from harness.nvram.store import arrival

OLD, NEW, OTHER = b"old!" * 2048, b"new!" * 2048, b"oth!" * 2048
VARIABLES = b"vars" * 1024
QUICK = System(sync=lambda fd: None)  # no power is lost in these tests


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Nvram]:
    """An initialised nvram on one host."""
    with make(tmp_path / "source") as nvram:
        yield nvram


def make(path: Path, firmware: bytes = OLD, variables: bytes = b"") -> Nvram:
    nvram = Nvram(path, system=QUICK)
    nvram.initialise(firmware, qemu="5.2.0", machine="pc-q35-5.2", policy="guest-owned",
                     name="seabios-old", variables=variables)
    return nvram


def open_again(nvram: Nvram) -> Nvram:
    nvram.close()
    return Nvram(nvram.path, system=QUICK)


def guest_writes(path: Path, content: bytes, offset: int = HEAD) -> None:
    """What QEMU does for a guest: it writes into the window, past the harness."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def files(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()}


# ---- initialised once --------------------------------------------------------------------------


def test_nothing_there_at_first(tmp_path: Path) -> None:
    with Nvram(tmp_path / "nvram") as nvram:
        assert (nvram.initialised, nvram.staged) == (False, False)
    assert files(tmp_path) == set()


def test_initialise(source: Nvram, tmp_path: Path) -> None:
    assert (source.initialised, source.stamp, source.size) == (True, "5.2.0", len(OLD))
    assert source.path.read_bytes()[HEAD:HEAD + len(OLD)] == OLD == source.read()
    assert (source.window.offset, source.window.size) == (HEAD, len(OLD))
    origin = source.header.origin
    assert origin is not None
    assert (origin.machine, origin.policy, origin.name) == (
        "pc-q35-5.2", "guest-owned", "seabios-old")
    assert source.header.changed.by is ChangedBy.HARNESS
    assert files(tmp_path) == {"source"}


def test_it_is_initialised_once(source: Nvram) -> None:
    before = source.path.read_bytes()
    with pytest.raises(NvramError, match="never overwritten"):
        source.initialise(NEW, qemu="11.1.3")
    assert source.path.read_bytes() == before


def test_it_outlives_the_object(source: Nvram) -> None:
    source.stage(NEW)
    again = open_again(source)
    assert (again.initialised, again.stamp, again.staged) == (True, "5.2.0", True)
    assert again.read() == OLD
    again.close()


def test_variables_have_a_window_of_their_own(tmp_path: Path) -> None:
    with make(tmp_path / "nvram", variables=VARIABLES) as nvram:
        assert nvram.contents() == {Part.FIRMWARE: OLD, Part.VARIABLES: VARIABLES}
        variables = nvram.header.windows[1]
        assert variables.offset % PAGE == 0
        assert variables.offset == nvram.window.end


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE + 1, (64 << 20) + PAGE])
def test_an_image_that_is_no_flash(tmp_path: Path, size: int) -> None:
    with Nvram(tmp_path / "nvram") as nvram, pytest.raises(NvramError, match="multiple of 4 KiB"):
        nvram.initialise(bytes(size), qemu="5.2.0")
    assert files(tmp_path) == set()


# ---- upgrades ----------------------------------------------------------------------------------


def test_a_staged_upgrade_leaves_the_firmware_alone(source: Nvram) -> None:
    source.stage(NEW, "seabios-new")
    assert source.staged
    assert source.read() == OLD
    assert source.header.firmware == "seabios-old"


def test_taking_it_makes_it_the_firmware_once(source: Nvram) -> None:
    size = source.path.stat().st_size
    source.stage(NEW, "seabios-new")
    assert source.take_staged() == NEW
    assert (source.read(), source.header.firmware) == (NEW, "seabios-new")
    assert source.header.changed.by is ChangedBy.USER
    assert not source.staged
    assert source.take_staged() is None
    assert source.read() == NEW
    assert source.path.stat().st_size == size


def test_an_upgrade_keeps_the_stamp_and_the_variables(tmp_path: Path) -> None:
    with make(tmp_path / "nvram", variables=VARIABLES) as nvram:
        nvram.stage(NEW)
        nvram.take_staged()
        assert (nvram.stamp, nvram.read(Part.VARIABLES)) == ("5.2.0", VARIABLES)


def test_the_last_upgrade_counts(source: Nvram) -> None:
    for image in (NEW, OTHER, NEW, OTHER):
        source.stage(image)
    assert source.take_staged() == OTHER


def test_a_running_qemu_sees_the_upgrade_in_the_file_it_has_open(source: Nvram) -> None:
    with source.path.open("rb") as opened:
        source.stage(NEW)
        source.take_staged()
        opened.seek(HEAD)
        assert opened.read(len(NEW)) == NEW


@pytest.mark.parametrize("image", [b"", OLD[:-1], OLD + b"\0", OLD[:PAGE], OLD * 2])
def test_an_image_of_another_size_does_not_fit(source: Nvram, image: bytes) -> None:
    source.stage(NEW)
    before = source.path.read_bytes()
    with pytest.raises(NvramError, match=f"{len(image):#x} bytes does not fit .* 0x2000"):
        source.stage(image)
    assert source.path.read_bytes() == before


# ---- clearing ----------------------------------------------------------------------------------


def test_clear_lets_it_be_initialised_again(source: Nvram) -> None:
    guest = source.header.guest
    source.stage(NEW)
    source.clear()
    assert (source.initialised, source.staged) == (False, False)
    again = open_again(source)
    again.initialise(OTHER * 2, qemu="11.1.3")
    assert (again.read(), again.stamp, again.header.guest) == (OTHER * 2, "11.1.3", guest)
    assert again.take_staged() is None
    again.close()


def test_what_was_cleared_is_gone_from_the_file(source: Nvram) -> None:
    source.clear()
    assert OLD[:16] not in source.path.read_bytes()


def test_clearing_what_is_not_there_is_no_mistake(tmp_path: Path) -> None:
    Nvram(tmp_path / "nvram").clear()
    assert files(tmp_path) == set()


def test_an_empty_one_has_nothing_to_upgrade(source: Nvram) -> None:
    source.clear()
    for act in (lambda: source.stage(NEW), source.take_staged, lambda: source.stamp):
        with pytest.raises(NvramError, match="empty"):
            act()


def test_the_mode_outlives_a_new_file(source: Nvram) -> None:
    source.path.chmod(0o666)
    source.clear()
    source.initialise(NEW, qemu="11.1.3")
    assert source.path.stat().st_mode & 0o777 == 0o666


# ---- the guest has it --------------------------------------------------------------------------


def test_the_guest_may_change_what_is_lent(source: Nvram) -> None:
    source.lend("5.2.0", "source")
    guest_writes(source.path, b"mine", HEAD + PAGE)
    source.settle()
    changed = source.header.changed
    assert (changed.by, changed.blocks, source.header.firmware) == (ChangedBy.GUEST, 1, "")
    assert source.stamp == "5.2.0"
    assert source.header.origin is not None
    assert source.header.origin.name == "seabios-old", "what it was initialised with stays known"


def test_also_when_the_harness_was_killed_meanwhile(source: Nvram) -> None:
    source.lend("5.2.0", "source")
    data = bytearray(source.path.read_bytes())
    copy = source.path.with_name("copy")
    copy.write_bytes(data)
    guest_writes(copy, b"mine")
    with Nvram(copy) as nvram:
        assert nvram.header.changed.by is ChangedBy.GUEST
        assert nvram.header.lent is None
    with Nvram(copy) as nvram:
        assert nvram.header.changed.by is ChangedBy.GUEST


def test_variables_change_without_the_firmware(tmp_path: Path) -> None:
    with make(tmp_path / "nvram", variables=VARIABLES) as nvram:
        nvram.lend("5.2.0", "source")
        guest_writes(nvram.path, b"boot", nvram.window.end)
        nvram.settle()
        assert (nvram.header.changed.by, nvram.header.firmware) == (
            ChangedBy.HARNESS, "seabios-old")
        again = open_again(nvram)
        assert again.read(Part.VARIABLES)[:4] == b"boot"
        again.close()


def test_nobody_else_may_change_it(source: Nvram) -> None:
    source.close()
    guest_writes(source.path, b"rot!", HEAD + PAGE)
    before = source.path.read_bytes()
    with pytest.raises(NvramError, match="firmware window is damaged between 0x5000 and 0x6000"):
        Nvram(source.path)
    assert source.path.read_bytes() == before


def test_an_upgrade_after_the_guests_own(source: Nvram) -> None:
    source.lend("5.2.0", "source")
    guest_writes(source.path, OTHER)
    source.stage(NEW, "seabios-new")
    source.take_staged()
    source.settle()
    assert (source.read(), source.header.firmware) == (NEW, "seabios-new")
    assert source.header.changed.by is ChangedBy.USER


# ---- locks -------------------------------------------------------------------------------------


def test_a_second_one_is_told_who_has_it(source: Nvram) -> None:
    with pytest.raises(NvramError, match=rf"in use by harness, pid {os.getpid()} on .*, since "):
        Nvram(source.path)
    source.close()
    Nvram(source.path).close()


def _hold(path: Path, role: str, ready: multiprocessing.synchronize.Event) -> None:
    nvram = Nvram(path, role=role)
    ready.set()
    multiprocessing.Event().wait()
    nvram.close()


def test_another_process_is_told_too_and_its_death_frees_the_file(source: Nvram) -> None:
    source.close()
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    other = spawn.Process(target=_hold, args=(source.path, "the other one", ready), daemon=True)
    other.start()
    try:
        assert ready.wait(20)
        with pytest.raises(NvramError, match=rf"in use by the other one, pid {other.pid} on "):
            Nvram(source.path)
    finally:
        other.kill()
        other.join()
    with Nvram(source.path) as nvram:
        assert nvram.read() == OLD


def test_a_lock_survives_that_the_file_is_replaced(source: Nvram) -> None:
    source.replace_contents({Part.FIRMWARE: NEW})
    with pytest.raises(NvramError, match="in use by"):
        Nvram(source.path)


# ---- moved, shut down --------------------------------------------------------------------------


def test_move_takes_all_of_it(tmp_path: Path, source: Nvram) -> None:
    source.stage(NEW)
    guest = source.header.guest
    moved = source.move_to(tmp_path / "destination")
    assert (moved.stamp, moved.staged, moved.read()) == ("5.2.0", True, OLD)
    assert (moved.path, moved.header.guest) == (tmp_path / "destination", guest)
    assert moved.take_staged() == NEW
    moved.close()
    assert files(tmp_path) == {"source", "destination"}


def test_what_moved_away_does_not_start_again(tmp_path: Path, source: Nvram) -> None:
    source.move_to(tmp_path / "destination").close()
    before = source.path.read_bytes()
    with pytest.raises(NvramError, match=r"moved away to .*/destination .* must not run twice"):
        Nvram(source.path)
    assert source.path.read_bytes() == before
    with Nvram(source.path, force=True) as forced:
        assert forced.read() == OLD
    Nvram(source.path).close()


def test_move_replaces_what_was_there(tmp_path: Path, source: Nvram) -> None:
    there = make(tmp_path / "destination", OTHER)
    there.stage(NEW)
    there.close()
    moved = source.move_to(there.path)
    assert (moved.read(), moved.staged) == (OLD, False)
    moved.close()


def test_move_does_not_replace_what_is_in_use(tmp_path: Path, source: Nvram) -> None:
    with make(tmp_path / "destination", OTHER) as there:
        with pytest.raises(NvramError, match="in use by"):
            source.move_to(there.path)
        assert there.read() == OTHER
    assert source.header.moved is None
    assert files(tmp_path) == {"source", "destination"}


def test_move_to_where_it_is(source: Nvram) -> None:
    before = source.path.read_bytes()
    assert source.move_to(source.path) is source
    assert source.path.read_bytes() == before


def test_move_there_and_back(tmp_path: Path, source: Nvram) -> None:
    there = source.move_to(tmp_path / "destination")
    there.stage(NEW)
    there.take_staged()
    back = there.move_to(source.path)
    assert (back.read(), back.header.moved) == (NEW, None)
    with pytest.raises(NvramError, match="moved away"):
        Nvram(there.path)
    back.close()


def test_moving_an_empty_one_leaves_none_over_there(tmp_path: Path, source: Nvram) -> None:
    make(tmp_path / "destination", OTHER).close()
    source.clear()
    moved = source.move_to(tmp_path / "destination")
    assert not moved.initialised
    moved.initialise(NEW, qemu="11.1.3")
    assert moved.read() == NEW
    moved.close()


# ---- moved, running ----------------------------------------------------------------------------


def receive(source: Nvram, path: Path) -> Nvram:
    """What happens in a migration: QEMU writes the source's windows to the destination's file."""
    target = Nvram.expecting(path, source, qemu="11.1.3", role="destination")
    for window in source.header.windows:
        guest_writes(target.path, source.read(window.part), window.offset)
    assert target.same_windows_as(source)
    target.received_from(source)
    return target


def test_room_for_what_a_migration_brings(tmp_path: Path, source: Nvram) -> None:
    path = tmp_path / "destination"
    target = Nvram.expecting(path, source, qemu="11.1.3", role="destination")
    assert not target.initialised
    assert target.path != path
    assert target.read() == ERASED * len(OLD)
    assert not target.same_windows_as(source)
    target.close()
    assert files(tmp_path) == {"source"}, "no migration came: no room is left"
    assert source.header.moved is None


@pytest.mark.parametrize("variables", [b"", VARIABLES], ids=["bios", "uefi"])
def test_received_with_all_that_is_known(tmp_path: Path, variables: bytes) -> None:
    with make(tmp_path / "a", variables=variables) as source:
        source.lend("5.2.0", "source")
        source.stage(NEW)
        source.stage(NEW[::-1])  # is in the second staging area now
        before = source.contents()
        header = source.header
        target = receive(source, tmp_path / "b")
        assert target.contents() == before
        assert (target.stamp, target.staged, target.path) == ("5.2.0", True, tmp_path / "b")
        assert target.header.guest == header.guest
        assert target.header.generation > header.generation
        assert target.header.changed == header.changed
        assert target.header.came_from == str(tmp_path / "a")
        assert inspect(tmp_path / "a").contents == before
        assert target.take_staged() == NEW[::-1]
        again = open_again(target)
        assert again.read() == NEW[::-1]
        again.close()
        with pytest.raises(NvramError, match="moved away"):
            Nvram(source.path)


@pytest.mark.parametrize("there", ["nothing", "another nvram", "garbage", "moved away"])
def test_received_over_what_was_there(tmp_path: Path, source: Nvram, there: str) -> None:
    path = tmp_path / "destination"
    if there == "another nvram":
        make(path, OTHER).close()
    elif there == "garbage":
        path.write_bytes(b"\x5a" * 100)
    elif there == "moved away":
        make(path, OTHER).move_to(tmp_path / "third").close()
    before = path.read_bytes() if path.exists() else None
    room = Nvram.expecting(path, source, qemu="11.1.3", role="destination")
    assert (path.read_bytes() if path.exists() else None) == before
    room.close()
    target = receive(source, path)
    assert target.read() == OLD
    target.close()


def test_what_the_guest_did_before_and_after_is_known(tmp_path: Path, source: Nvram) -> None:
    source.lend("5.2.0", "source")
    guest_writes(source.path, OTHER)
    target = receive(source, tmp_path / "destination")
    assert (target.header.changed.by, target.header.firmware) == (ChangedBy.GUEST, "")
    guest_writes(target.path, NEW)
    target.settle()
    assert target.header.changed.by is ChangedBy.GUEST
    target.close()
    assert inspect(source.path).problems == ()


def test_there_and_back_running(tmp_path: Path, source: Nvram) -> None:
    target = receive(source, tmp_path / "destination")
    target.stage(NEW)
    target.take_staged()
    back = receive(target, source.path)
    assert (back.read(), back.stamp) == (NEW, "5.2.0")
    back.close()


def test_nothing_can_be_received_from_an_empty_one(tmp_path: Path, source: Nvram) -> None:
    target = Nvram.expecting(tmp_path / "destination", source, qemu="11.1.3", role="destination")
    source.clear()
    with pytest.raises(NvramError, match="empty"):
        target.received_from(source)
    target.close()
    assert files(tmp_path) == {"source"}


def test_two_migrations_to_one_place(tmp_path: Path, source: Nvram) -> None:
    with (
        Nvram.expecting(tmp_path / "d", source, qemu="11.1.3", role="destination"),
        pytest.raises(NvramError, match="in use by"),
    ):
        Nvram.expecting(tmp_path / "d", source, qemu="11.1.3", role="destination")


# ---- damage and repair -------------------------------------------------------------------------


@pytest.mark.parametrize("page", HEADERS)
@pytest.mark.parametrize("where", [0, 9, 20, 100, PAGE - 1])
def test_a_damaged_header_page_is_found_and_repaired(
    source: Nvram, page: int, where: int
) -> None:
    source.stage(NEW)
    header = source.header
    source.close()
    flip(source.path, page + where)
    before = source.path.read_bytes()
    with pytest.raises(NvramError, match=f"header page at {page:#x} is damaged.*nvram repair"):
        Nvram(source.path)
    assert source.path.read_bytes() == before
    assert repair(source.path) == [
        f"the header is whole again, as of generation {header.generation}"]
    with Nvram(source.path) as nvram:
        assert (nvram.staged, nvram.read()) == (True, OLD)
    assert repair(source.path) == []


def test_both_header_pages_damaged(source: Nvram) -> None:
    source.close()
    for page in HEADERS:
        flip(source.path, page + 100)
    before = source.path.read_bytes()
    with pytest.raises(NvramError, match="cannot be repaired"):
        Nvram(source.path)
    with pytest.raises(NvramError, match="no header page is whole"):
        repair(source.path)
    assert source.path.read_bytes() == before


def test_a_flip_in_the_journal_or_the_note_is_harmless(source: Nvram) -> None:
    source.close()
    for page in (JOURNAL, NOTE):
        flip(source.path, page + 3)
    with Nvram(source.path) as nvram:
        assert nvram.read() == OLD


def test_a_damaged_window_comes_back_from_a_known_build(source: Nvram) -> None:
    source.close()
    guest_writes(source.path, b"rot!", HEAD + 8)
    before = source.path.read_bytes()
    with pytest.raises(NvramError, match="cannot be repaired: no image with sha256"):
        repair(source.path)
    with pytest.raises(NvramError, match="cannot be repaired"):
        repair(source.path, lambda digest: NEW)
    assert source.path.read_bytes() == before
    assert repair(source.path, lambda digest: OLD) == [
        "the firmware window is written anew from the known build"]
    with Nvram(source.path) as nvram:
        assert nvram.read() == OLD


def test_a_damaged_upgrade_is_dropped(source: Nvram) -> None:
    source.stage(NEW)
    source.close()
    flip(source.path, HEAD + len(OLD) + 5)
    with pytest.raises(NvramError, match="staged upgrade at 0x6000 is damaged"):
        Nvram(source.path)
    assert repair(source.path) == ["the staged upgrade was damaged and is dropped"]
    with Nvram(source.path) as nvram:
        assert (nvram.staged, nvram.read()) == (False, OLD)


def test_an_arrival_that_was_cut_off(tmp_path: Path, source: Nvram) -> None:
    # The source is marked, the new file has not got its name yet.
    path = tmp_path / "destination"
    source.move_to(path).close()
    path.rename(arrival(path))
    with pytest.raises(NvramError, match=r"the guest has come from .*/source, .* nvram repair"):
        Nvram(path)
    with (
        make(tmp_path / "third", OTHER) as third,
        pytest.raises(NvramError, match="the guest has come from"),
    ):
        third.move_to(path)
    assert repair(path) == [f"the guest has arrived from {source.path}"]
    with Nvram(path) as nvram:
        assert nvram.read() == OLD


def test_a_departure_that_was_cut_off(tmp_path: Path, source: Nvram) -> None:
    # The new file is complete, the source is not marked yet: the guest is still there.
    path = tmp_path / "destination"
    source.move_to(path).close()
    path.rename(arrival(path))
    Nvram(source.path, force=True).close()
    assert repair(path) == [
        f"the guest has not left {source.path}: what came of it is removed"]
    assert files(tmp_path) == {"source"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no nvram file: it is empty"),
        (b"QFI\xfb" + bytes(HEAD), "a qcow2 image"),
        (bytes(16) + bytes.fromhex("8d2bf1ff96768b4ca9852747075b4f50") + bytes(8) + b"_FVH"
         + bytes(HEAD), "a plain UEFI variable store .*import"),
        (bytes(40) + b"_FVH" + bytes(HEAD), "a plain UEFI firmware image .*import"),
        (bytes(0x40000 - 16) + b"\xea" + bytes(15), "a plain BIOS image .*import"),
        (ERASED * 0x40000, "erased flash"),
        (b"hello world", "begins with 68 65 6c 6c 6f 20 77 6f"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "nvram"
    path.write_bytes(content)
    for attempt in (Nvram, inspect, repair):
        with pytest.raises(NvramError, match=message) as caught:
            attempt(path)
        assert "\n" not in caught.value.message
        assert caught.value.message.startswith(f"{path}: ")
    assert path.read_bytes() == content
    assert files(tmp_path) == {"nvram"}


@pytest.mark.parametrize("size", [8, PAGE, HEAD - 1, HEAD, HEAD + len(OLD) - 1])
def test_truncated(source: Nvram, size: int) -> None:
    source.close()
    os.truncate(source.path, size)
    before = source.path.read_bytes()
    for attempt in (Nvram, inspect, repair):
        with pytest.raises(NvramError, match=f"truncated: it has {size:#x} bytes"):
            attempt(source.path)
    assert source.path.read_bytes() == before


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NvramError, match="Is a directory"):
        Nvram(tmp_path)
    with pytest.raises(NvramError, match="no file"):
        inspect(tmp_path)
    with pytest.raises(NvramError, match="No such file"):
        inspect(tmp_path / "nothing")


def test_inspecting_touches_nothing(source: Nvram) -> None:
    source.lend("5.2.0", "source")
    guest_writes(source.path, NEW)
    before = source.path.read_bytes(), source.path.stat().st_mtime_ns
    seen = inspect(source.path)
    assert (seen.problems, seen.contents[Part.FIRMWARE]) == ((), NEW)
    assert (source.path.read_bytes(), source.path.stat().st_mtime_ns) == before


def test_the_note_names_no_one_once_it_is_closed(source: Nvram) -> None:
    def note() -> bytes:
        return source.path.read_bytes()[NOTE:HEAD]

    assert json.loads(note().rstrip(b"\0"))["pid"] == os.getpid()
    source.close()
    assert not note().strip(b"\0")


# ---- any order of all of them ------------------------------------------------------------------


ACTS = ["stage", "take", "move", "migrate", "reopen", "lend", "flash", "clear"]


@given(st.lists(st.sampled_from(ACTS), max_size=10))
def test_the_firmware_changes_only_by_the_users_or_the_guests_act(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    here = tmp_path_factory.mktemp("nvram")
    nvram, there = make(here / "a"), here / "b"
    firmware, staged, lent, by = OLD, None, False, ChangedBy.HARNESS
    for count, act in enumerate(acts):
        image = bytes([count]) * len(OLD)
        if act == "stage":
            staged = image
            nvram.stage(staged)
        elif act == "take":
            assert nvram.take_staged() == staged
            if staged is not None:
                firmware, staged, by = staged, None, ChangedBy.USER
        elif act == "flash" and lent:
            guest_writes(nvram.path, image)
            firmware, by = image, ChangedBy.GUEST
        elif act == "lend":
            nvram.lend("5.2.0", "source")
            lent = True
        elif act == "reopen":
            nvram, lent = open_again(nvram), False
        elif act == "clear":
            nvram.clear()
            nvram.initialise(image, qemu="5.2.0")
            firmware, staged, lent, by = image, None, False, ChangedBy.HARNESS
        elif act in ("move", "migrate"):
            left = nvram.path
            nvram = nvram.move_to(there) if act == "move" else receive(nvram, there)
            lent = act == "migrate"
            there = left
            with pytest.raises(NvramError, match="moved away"):
                Nvram(left)
        assert nvram.read() == firmware
        assert (nvram.stamp, nvram.staged) == ("5.2.0", staged is not None)
    nvram = open_again(nvram)
    assert (nvram.read(), nvram.header.changed.by) == (firmware, by)
    nvram.close()
