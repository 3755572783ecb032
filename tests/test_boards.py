"""The table of boards: names, loaders, and where the bytes of a firmware can be read."""

from pathlib import Path

import pytest

from harness.boards import Board, Loader, board_of
from harness.model import Arch, FirmwareBuild, Interface

MIB = 1 << 20


def firmware(interface: Interface, variables: str = "") -> FirmwareBuild:
    return FirmwareBuild(
        name="f-1", sha256="0" * 64, size=MIB, path=Path("code"), interface=interface,
        variables=Path(variables) if variables else None,
    )  # fmt: skip


BIOS = firmware(Interface.BIOS)
COMBINED = firmware(Interface.UEFI)
SPLIT = firmware(Interface.UEFI, variables="vars")


def board(machine: str, arch: Arch = Arch.X86_64) -> Board:
    found = board_of(machine, arch)
    assert found is not None
    return found


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
    ],
)
def test_a_machine_type_is_a_version_of_a_board(machine: str, arch: Arch, name: str) -> None:
    assert (board(machine, arch).name, board(machine, arch).arch) == (name, arch)


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


@pytest.mark.parametrize("machine", ["pc-q35-5.2", "pc-i440fx-5.2"])
def test_a_pc_has_bios_in_rom_and_uefi_in_flash(machine: str) -> None:
    pc = board(machine)
    assert pc.loader(BIOS) is Loader.ROM
    assert pc.loader(SPLIT) is Loader.FLASH
    assert pc.loader(COMBINED) is Loader.WRITABLE_FLASH


@pytest.mark.parametrize("machine", ["isapc", "microvm"])
def test_a_board_without_flash_reloads_memory(machine: str) -> None:
    assert not board(machine).has_flash
    assert {board(machine).loader(each) for each in (BIOS, SPLIT, COMBINED)} == {Loader.MEMORY}


def test_virt_of_arm_has_flash_and_that_of_risc_v_memory() -> None:
    assert board("virt-5.2", Arch.AARCH64).loader(SPLIT) is Loader.FLASH
    assert board("virt", Arch.RISCV64).loader(COMBINED) is Loader.MEMORY


@pytest.mark.parametrize(
    ("loader", "has_store"),
    [
        (Loader.ROM, False),
        (Loader.MEMORY, False),
        (Loader.FLASH, True),
        (Loader.WRITABLE_FLASH, True),
    ],
)
def test_a_variable_store_lies_in_flash_alone(loader: Loader, *, has_store: bool) -> None:
    assert loader.has_store is has_store


def test_where_the_bytes_of_a_firmware_are() -> None:
    assert board("pc-q35-5.2").rom_address(MIB) == (4 << 30) - MIB
    assert board("virt-5.2", Arch.AARCH64).rom_address(MIB) == 0


# SeaBIOS without PAM registers, and OpenSBI, write to the memory that they were loaded to.
@pytest.mark.parametrize(
    ("machine", "arch"),
    [("isapc", Arch.X86_64), ("microvm", Arch.X86_64), ("virt", Arch.RISCV64)],
)
def test_bytes_that_the_firmware_changes_are_no_witness(machine: str, arch: Arch) -> None:
    assert board(machine, arch).rom_address(MIB) is None


def test_only_x86_has_a_reset_vector_to_swap_at_and_versions_differ() -> None:
    assert board("pc-q35-5.2").reset_vector
    assert not board("virt-5.2", Arch.AARCH64).reset_vector
    assert not board("virt", Arch.RISCV64).reset_vector
    assert board("virt-5.2", Arch.AARCH64).versioned
    assert not any(board(name).versioned for name in ("isapc", "microvm"))
