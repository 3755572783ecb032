"""What guests run on, as far as a step asks; the QEMUs are 5.2.0 and 11.1.3."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.boards import known_board
from bootmatrix.model import Arch, FirmwareBuild, GuestKind, Host, Interface, QemuBuild
from bootmatrix.steps.base import Platform, Step

SEABIOS = FirmwareBuild("seabios", "5e", 1 << 18, Path())
OVMF = FirmwareBuild("ovmf-4m", "0f", 1 << 22, Path(), Interface.UEFI, variables=Path())
SLOF = FirmwareBuild("slof", "51", 1 << 20, Path(), Interface.OPENFIRMWARE)
OPENSBI = FirmwareBuild("opensbi", "05", 1 << 18, Path(), payload=Path())


def hosts(*firmware: FirmwareBuild) -> tuple[Host, Host]:
    """Source and destination, with this firmware on them."""
    return tuple(
        Host(version, QemuBuild(f"q-{version}", version, "", Path()), build)
        for version, build in zip(("5.2.0", "11.1.3"), firmware * 2, strict=False)
    )  # type: ignore[return-value]


def platform(
    firmware: FirmwareBuild = SEABIOS, machine: str = "pc-q35-5.2", arch: Arch = Arch.X86_64,
    guest: GuestKind = GuestKind.PROBE,
) -> Platform:
    """A guest on a board."""
    return Platform(known_board(machine, arch), hosts(firmware), guest)


SECTOR, UEFI_PROBE = platform(), platform(OVMF)
BIOS_LINUX = platform(guest=GuestKind.LINUX)
UEFI_LINUX = platform(OVMF, guest=GuestKind.LINUX)
ISAPC, MICROVM = platform(machine="isapc"), platform(machine="microvm")
ARM = platform(OVMF, "virt-5.2", Arch.AARCH64)
PSERIES = platform(SLOF, "pseries-5.2", Arch.PPC64)
RISCV = platform(OPENSBI, "virt", Arch.RISCV64)


def why(step: Step, on: Platform, host: int = 0) -> str | None:
    """The first reason for which a step cannot be done there; None: it can."""
    return next(step.unsupported(on, host), None)
