"""What a board's row tells: its loader, its ROM, its memory, its own disk."""

from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.boards import (
    Board,
    Loader,
    board_of,
)
from bootmatrix.model import Arch, Disk, FirmwareBuild, Interface

MIB = 1 << 20


def firmware(interface: Interface, variables: str = "") -> FirmwareBuild:
    return FirmwareBuild(
        name="f-1", sha256="0" * 64, size=MIB, path=Path("code"), interface=interface,
        variables=Path(variables) if variables else None,
    )  # fmt: skip


BIOS = firmware(Interface.BIOS)
COMBINED = firmware(Interface.UEFI)
SLOF = firmware(Interface.OPENFIRMWARE)
S390_CCW = firmware(Interface.IPL)
SPLIT = firmware(Interface.UEFI, variables="vars")


def board(machine: str, arch: Arch = Arch.X86_64) -> Board:
    found = board_of(machine, arch)
    assert found is not None
    return found


@pytest.mark.parametrize("machine", ["pc-q35-5.2", "pc-i440fx-5.2"])
def test_a_pc_has_bios_in_rom_and_uefi_in_flash(machine: str) -> None:
    pc = board(machine)
    assert pc.loader(BIOS) is Loader.ROM
    assert pc.loader(SPLIT) is Loader.FLASH
    assert pc.loader(COMBINED) is Loader.WRITABLE_FLASH
    assert pc.loader(replace(COMBINED, in_flash=False)) is Loader.ROM


@pytest.mark.parametrize("machine", ["isapc", "microvm"])
def test_a_board_without_flash_reloads_memory(machine: str) -> None:
    assert not board(machine).has_flash
    assert {board(machine).loader(each) for each in (BIOS, SPLIT, COMBINED)} == {Loader.MEMORY}


def test_virt_of_arm_and_loongarch_has_flash_and_that_of_risc_v_memory() -> None:
    assert board("virt-5.2", Arch.AARCH64).loader(SPLIT) is Loader.FLASH
    assert board("virt", Arch.LOONGARCH64).loader(SPLIT) is Loader.FLASH
    assert board("virt", Arch.RISCV64).loader(COMBINED) is Loader.MEMORY


def test_slof_and_s390_ccw_are_in_memory_and_openbios_in_a_rom() -> None:
    assert board("pseries-5.2", Arch.PPC64).loader(SLOF) is Loader.MEMORY
    assert board("s390-ccw-virtio-5.2", Arch.S390X).loader(S390_CCW) is Loader.MEMORY
    assert board("sun4u", Arch.SPARC64).loader(SLOF) is Loader.ROM


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
    assert board("virt", Arch.LOONGARCH64).rom_address(MIB) == 0x1C000000


# SeaBIOS without PAM registers, and OpenSBI, write to the memory that they were loaded to.
@pytest.mark.parametrize(
    ("machine", "arch"),
    [("isapc", Arch.X86_64), ("microvm", Arch.X86_64), ("virt", Arch.RISCV64),
     ("pseries-5.2", Arch.PPC64), ("sun4u", Arch.SPARC64),
     ("s390-ccw-virtio-5.2", Arch.S390X)],
)
def test_bytes_that_the_firmware_changes_are_no_witness(machine: str, arch: Arch) -> None:
    assert board(machine, arch).rom_address(MIB) is None


def test_memory_is_what_the_firmware_needs() -> None:
    smm = replace(SPLIT, features=("requires-smm",))
    assert [board("q35").memory_mib(each) for each in (BIOS, SPLIT, smm)] == [32, 128, 256]
    assert board("virt", Arch.AARCH64).memory_mib(SPLIT) == 128
    assert board("virt", Arch.RISCV64).memory_mib(BIOS) == 256
    assert board("virt", Arch.LOONGARCH64).memory_mib(SPLIT) == 1024


def test_the_own_disk_needs_no_controller_beside_the_boards() -> None:
    own = [board(machine).own_disk for machine in ("pc", "q35", "isapc", "microvm")]
    assert own == [Disk.IDE, Disk.AHCI, Disk.IDE, Disk.VIRTIO]


def test_only_x86_has_a_reset_vector_to_swap_at_and_versions_differ() -> None:
    assert board("pc-q35-5.2").swaps
    assert not board("virt-5.2", Arch.AARCH64).swaps
    assert not board("virt", Arch.RISCV64).swaps
    assert board("virt-5.2", Arch.AARCH64).versioned
    assert not any(board(name).versioned for name in ("isapc", "microvm"))
