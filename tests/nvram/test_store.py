"""The nvram's rules: initialised once, upgraded only when asked, lent, moved and received whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.errors import NvramError
from bootmatrix.nvram import ERASED, ChangedBy, Nvram, Part, inspect
from bootmatrix.nvram.layout import HEAD, PAGE
from helpers.nvram_files import NEW, OLD, OTHER, VARIABLES, files, guest_writes, make, open_again

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


def test_an_upgrade_after_the_guests_own(source: Nvram) -> None:
    source.lend("5.2.0", "source")
    guest_writes(source.path, OTHER)
    source.stage(NEW, "seabios-new")
    source.take_staged()
    source.settle()
    assert (source.read(), source.header.firmware) == (NEW, "seabios-new")
    assert source.header.changed.by is ChangedBy.USER


# ---- locks -------------------------------------------------------------------------------------


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
