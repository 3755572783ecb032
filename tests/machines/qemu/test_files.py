"""The files of a guest: which lie where a sandbox can write, what a QEMU is launched with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.engines.scratch import Scratch
from bootmatrix.machines.fake import SIZE
from bootmatrix.machines.qemu.command_line import FlashWindow
from bootmatrix.machines.qemu.files import GuestFiles, cell_system
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import GuestKind, Interface, Limits, OwnDisk, OwnGuest
from helpers.fakes import QEMUS, setup

Opened = Callable[..., tuple[GuestFiles, GuestSetup, Scratch]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    with ExitStack() as stack:

        def make(
            policy: str = "stock", change: Callable[[GuestSetup], GuestSetup] = lambda made: made
        ) -> tuple[GuestFiles, GuestSetup, Scratch]:
            made = change(setup(tmp_path / "images", policy))
            scratch = stack.enter_context(Scratch(tmp_path / "scratch"))
            files = GuestFiles(made, scratch)
            stack.callback(files.close)
            return files, made, scratch

        yield make


def split(made: GuestSetup) -> GuestSetup:
    """UEFI firmware whose variables are in a file beside its code, each host's its own."""
    hosts = []
    for number, host in enumerate(made.hosts):
        template = host.firmware.path.with_suffix(".vars")
        template.write_bytes(bytes([number]) * 4096)
        hosts.append(replace(host, firmware=replace(
            host.firmware, interface=Interface.UEFI, variables=template)))
    return replace(made, machine="pc-q35-5.2", hosts=hosts)


def test_firmware_lies_where_no_sandbox_can_write(opened: Opened) -> None:
    files, made, scratch = opened()
    prepared = files.prepare(0, incoming=False)
    assert prepared.firmware == "/tmp/bootmatrix/source/bios.bin"
    shown = scratch.shown(made.hosts[0].qemu) / "source" / "bios.bin"
    assert shown.read_bytes() == prepared.image == made.hosts[0].firmware.path.read_bytes()
    assert prepared.rom_size == SIZE
    assert prepared.nvram is None
    assert sorted(path.name for path in scratch.cell.path.iterdir()) == [
        "destination", "disk.img", "host-3", "source"]


def test_what_is_installed_is_found_at_the_next_launch(opened: Opened) -> None:
    files, made, _ = opened()
    other = made.hosts[1].firmware
    files.install(0, other)
    assert files.code(0) == other.path.read_bytes() == files.prepare(0, incoming=False).image
    assert files.code(2) == made.hosts[2].firmware.path.read_bytes()


def test_the_disk_is_replaced_and_the_old_one_stays(opened: Opened) -> None:
    files, made, scratch = opened()
    first, second = (disk.read_bytes() for disk in made.disks)
    assert (scratch.cell.path / "disk.img").read_bytes() == first
    files.replace_disk()
    assert (scratch.cell.path / "disk.img").read_bytes() == second
    assert (scratch.cell.path / "disk.old.img").read_bytes() == first


def test_variables_are_made_once_from_the_template_and_then_the_guest_s(opened: Opened) -> None:
    files, _, scratch = opened(change=split)
    prepared = files.prepare(1, incoming=False)
    assert not isinstance(prepared.firmware, str)
    code, variables = prepared.firmware
    assert isinstance(code, FlashWindow)
    assert isinstance(variables, FlashWindow)
    assert (code.file, code.read_only) == ("/tmp/bootmatrix/destination/code.fd", True)
    assert (variables.file, variables.size) == ("/cell/destination/vars.fd", 4096)
    assert not variables.read_only
    mine = scratch.cell.path / "destination" / "vars.fd"
    assert mine.read_bytes() == bytes([1]) * 4096
    mine.write_bytes(b"x" * 4096)
    files.prepare(1, incoming=False)
    assert mine.read_bytes() == b"x" * 4096


def test_under_a_policy_that_keeps_it_the_firmware_is_in_the_nvram(opened: Opened) -> None:
    files, made, _ = opened("guest-owned")
    prepared = files.prepare(0, incoming=False)
    assert files.nvram is prepared.nvram is not None
    assert prepared.nvram.initialised
    assert prepared.nvram.stamp == QEMUS[0]
    window = prepared.firmware[0]
    assert isinstance(window, FlashWindow)
    assert window.file == "/cell/source/nvram.bin"
    assert prepared.image == made.hosts[0].firmware.path.read_bytes()


def test_an_nvram_is_the_guest_s_where_it_has_arrived_whole(opened: Opened) -> None:
    files, _, _ = opened("guest-owned")
    files.prepare(0, incoming=False)
    source = files.nvram
    assert files.arrived(None, alive=True) is None
    there = files.prepare(1, incoming=True).nvram
    assert there is not None
    assert files.nvram is source, "it has not arrived yet"
    assert files.arrived(there, alive=False) is False
    assert files.nvram is source
    assert files.arrived(there, alive=True) is False, "nothing has migrated the windows"
    assert files.nvram is there


def test_what_is_kept_can_be_taken_up_by_another(opened: Opened, tmp_path: Path) -> None:
    files, _, scratch = opened(change=split)
    files.prepare(0, incoming=False)
    (scratch.cell.path / "source" / "vars.fd").write_bytes(b"k" * 4096)
    files.keep(0, tmp_path / "kept")
    (scratch.cell.path / "source" / "vars.fd").unlink()
    assert files.take_up(0, tmp_path / "kept") == SIZE
    assert (scratch.cell.path / "source" / "vars.fd").read_bytes() == b"k" * 4096
    files.prepare(0, incoming=False)
    assert (scratch.cell.path / "source" / "vars.fd").read_bytes() == b"k" * 4096


def test_the_store_s_system_calls_stay_in_the_cell(opened: Opened, tmp_path: Path) -> None:
    _, _, scratch = opened()
    system = cell_system(scratch.cell)
    (scratch.cell.path / "a").write_text("a")
    system.rename(scratch.cell.path / "a", scratch.cell.path / "b")
    assert system.stat(scratch.cell.path / "b").st_size == 1
    system.unlink(scratch.cell.path / "b")
    with pytest.raises(FileNotFoundError):
        system.stat(scratch.cell.path / "b")
    with pytest.raises(ValueError, match="subpath"):
        system.stat(tmp_path / "outside")


def test_an_overlay_that_is_as_large_as_a_file_can_be_is_told_of(
    opened: Opened, tmp_path: Path
) -> None:
    guest = OwnGuest("mine", GuestKind.DISK, None, OwnDisk(tmp_path / "images" / "disk-A"), "x")
    files, _, scratch = opened(
        change=lambda made: replace(made, guest=guest, limits=Limits(file=16)))
    assert files.disk_full() is None
    disk = scratch.cell.path / "disk.img"
    os.truncate(disk, (16 << 20) - 1)
    assert "fills its sandbox's 16 MiB for a file; limits: {file: N}" in (files.disk_full() or "")
    os.truncate(disk, 15 << 20)
    assert files.disk_full() is None
