"""The table of boards: names, loaders, and where the bytes of a firmware can be read."""

import re
from pathlib import Path

import pytest

from bootmatrix import boards
from bootmatrix.boards import (
    ARCHITECTURES,
    LABEL_LENGTH,
    Board,
    Loader,
    board_of,
    host_label,
    known_board,
)
from bootmatrix.errors import UserError
from bootmatrix.model import Arch, QemuBuild, ResetBy


@pytest.mark.parametrize(
    ("machine", "arch", "name"),
    [
        ("pc-q35-5.2", Arch.X86_64, "pc-q35"),
        ("pc-i440fx-11.1", Arch.X86_64, "pc-i440fx"),
        ("q35", Arch.X86_64, "pc-q35"),
        ("pc", Arch.X86_64, "pc-i440fx"),
        ("default", Arch.X86_64, "pc-i440fx"),
        ("isapc", Arch.X86_64, "isapc"),
        ("microvm", Arch.X86_64, "microvm"),
        ("virt-5.2", Arch.AARCH64, "virt"),
        ("default", Arch.AARCH64, "virt"),
        ("virt", Arch.RISCV64, "virt"),
        ("default", Arch.RISCV64, "virt"),
        ("pseries-5.2", Arch.PPC64, "pseries"),
        ("default", Arch.PPC64, "pseries"),
        ("sun4u", Arch.SPARC64, "sun4u"),
        ("virt-11.1", Arch.LOONGARCH64, "virt"),
        ("default", Arch.LOONGARCH64, "virt"),
        ("s390-ccw-virtio-5.2", Arch.S390X, "s390-ccw-virtio"),
        ("default", Arch.S390X, "s390-ccw-virtio"),
    ],
)
def test_a_machine_type_is_a_version_of_a_board(machine: str, arch: Arch, name: str) -> None:
    found = known_board(machine, arch)
    assert (found.name, found.arch) == (name, arch)


@pytest.mark.parametrize(
    ("machine", "arch"),
    [
        ("virt-5.2", Arch.X86_64),
        ("pc-q35-5.2", Arch.AARCH64),
        ("isapc", Arch.RISCV64),
        ("raspi3b", Arch.AARCH64),
        ("pc-q35-", Arch.X86_64),
    ],
)
def test_a_board_that_is_not_known_is_none(machine: str, arch: Arch) -> None:
    assert board_of(machine, arch) is None
    with pytest.raises(UserError, match="no guest of ours boots on machine"):
        known_board(machine, arch)


BOARDS = [board for architecture in ARCHITECTURES.values() for board in architecture.boards]


def test_every_architecture_has_its_boards() -> None:
    assert set(ARCHITECTURES) == set(Arch)
    for arch, architecture in ARCHITECTURES.items():
        assert {each.arch for each in architecture.boards} == {arch}
        names = [name for each in architecture.boards for name in (each.name, *each.aliases)]
        assert len(names) == len(set(names))
        assert {architecture.default, architecture.newest} <= set(names)


@pytest.mark.parametrize("each", BOARDS, ids=str)
def test_what_a_row_says_fits_together(each: Board) -> None:
    assert each.own_disk in each.disks
    assert each.bios in (Loader.ROM, Loader.MEMORY), "flash is what -bios is not"
    assert each.mib <= each.uefi_mib
    assert not each.resets & {ResetBy.MONITOR, ResetBy.EFI_COLD, ResetBy.EFI_WARM}, "no board's"


def test_a_guest_is_named_its_host_where_fw_cfg_brings_it() -> None:
    def label(version: str, arch: Arch, name: str = "q") -> str:
        return host_label(1, QemuBuild(name, version, "", Path(), arch=arch))

    assert label("5.2.0", Arch.X86_64) == "destination 5.2.0 q"
    assert label("5.2.0", Arch.X86_64, 'a"\n') == "destination 5.2.0 a??"
    assert len(label("5.2.0", Arch.AARCH64, "n" * 99)) == LABEL_LENGTH
    assert [label(version, Arch.RISCV64) for version in ("7.2.22", "10.0.13")] == [
        "", "destination 10.0.13 q"]


# What an image of an architecture looks like, and how a program for it is compiled.
# What a user's own machine is in words of ours, and which firmware it wants.
ELSEWHERE = {"firmware/image_file.py", "guests/efi.py", "vm/translate.py", "cli/import_.py"}


def test_nothing_is_said_of_a_board_outside_its_row() -> None:
    package = Path(boards.__file__).parents[1]
    names = {name for each in BOARDS for name in (each.name, *each.aliases)} - {"pc", "virt"}
    said = re.compile(rf"Arch\.(AARCH64|RISCV64)\b|[\"']({'|'.join(names)})[\"']")
    found = {str(path.relative_to(package)): match[0] for path in package.rglob("*.py")
             if path.parent.name != "boards" and (match := said.search(path.read_text()))}
    assert set(found) == ELSEWHERE, found
