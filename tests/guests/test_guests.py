"""Which program runs behind which firmware: the table of guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.boards import ARCHITECTURES
from bootmatrix.guests import (
    PROGRAMS,
    Program,
    program_of,
)
from bootmatrix.guests.boot_sector import BOOT_SECTOR
from bootmatrix.guests.efi import EFI
from bootmatrix.guests.linux import LINUX, LINUX_KERNEL
from bootmatrix.guests.open_firmware import OPEN_FIRMWARE
from bootmatrix.guests.prompt import PROMPT
from bootmatrix.model import Arch, FirmwareBuild, GuestKind, Interface

BIOS = FirmwareBuild("bios", "", 1, Path())
SLOF = FirmwareBuild("slof", "", 1, Path(), Interface.OPENFIRMWARE)
S390_CCW = FirmwareBuild("s390-ccw", "", 1, Path(), Interface.IPL)
UEFI = FirmwareBuild("uefi", "", 1, Path(), Interface.UEFI)


@pytest.mark.parametrize(("kind", "firmware", "arch", "program"), [
    (GuestKind.PROBE, BIOS, Arch.X86_64, BOOT_SECTOR),
    (GuestKind.PROBE, UEFI, Arch.X86_64, EFI),
    (GuestKind.PROBE, UEFI, Arch.AARCH64, EFI),
    (GuestKind.PROBE, BIOS, Arch.RISCV64, EFI),  # U-Boot's interface, behind OpenSBI
    (GuestKind.PROBE, UEFI, Arch.LOONGARCH64, EFI),
    (GuestKind.PROBE, SLOF, Arch.PPC64, OPEN_FIRMWARE),
    (GuestKind.PROMPT, SLOF, Arch.SPARC64, PROMPT),
    (GuestKind.PROMPT, S390_CCW, Arch.S390X, PROMPT),
    (GuestKind.LINUX, BIOS, Arch.X86_64, LINUX),
    (GuestKind.LINUX_KERNEL, UEFI, Arch.X86_64, LINUX_KERNEL),
])  # fmt: skip
def test_what_runs_behind_a_firmware(
    kind: GuestKind, firmware: FirmwareBuild, arch: Arch, program: Program
) -> None:
    assert program_of(kind, firmware, arch) is program


def test_every_kind_runs_behind_every_firmware_and_one_program_alone() -> None:
    for kind in GuestKind:
        for firmware in (BIOS, UEFI):
            for arch in Arch:
                boots = [each for each in PROGRAMS
                         if each.kind is kind and each.boots(firmware, arch)]
                none = kind is GuestKind.PROBE and not ARCHITECTURES[arch].has_probe
                assert len(boots) == (0 if none else 1)


def test_a_kernel_is_given_to_one_that_is_booted_by_it_alone() -> None:
    assert [each for each in PROGRAMS if each.kernel is not None] == [LINUX_KERNEL]
    assert [each.mib for each in PROGRAMS] == [0, 0, 0, 0, 256, 256, 256]
