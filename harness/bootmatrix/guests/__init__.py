"""Guests of ours: one file a kind, built from the sources in images/guests, cached by content."""

from pathlib import Path

from bootmatrix.guests import linux, own_disk, tools
from bootmatrix.guests.base import LinuxKernel, Program
from bootmatrix.guests.boot_sector import BOOT_SECTOR, DISK_SIZE, PROBE_SOURCE, probe_disk
from bootmatrix.guests.efi import EFI, EFI_SOURCES, uefi_disk
from bootmatrix.guests.linux import (
    LINUX,
    LINUX_KERNEL,
    LINUX_SOURCES,
    linux_disk,
    linux_kernel,
)
from bootmatrix.guests.open_firmware import CLIENT_SOURCES, OPEN_FIRMWARE, client_disk
from bootmatrix.guests.prompt import PROMPT
from bootmatrix.model import Arch, FirmwareBuild, GuestKind

__all__ = [
    "CLIENT_SOURCES", "DISK_SIZE", "EFI_SOURCES", "LINUX_SOURCES", "PROBE_SOURCE", "PROGRAMS",
    "LinuxKernel", "Program", "client_disk", "damaged", "linux_disk", "linux_kernel", "probe_disk",
    "program_of", "uefi_disk",
]  # fmt: skip

PROGRAMS = (BOOT_SECTOR, EFI, OPEN_FIRMWARE, PROMPT, LINUX, LINUX_KERNEL, own_disk.OWN_DISK)


def program_of(kind: GuestKind, firmware: FirmwareBuild, arch: Arch) -> Program:
    """What runs behind a firmware where the guest axis says ``kind``."""
    return next(
        program for program in PROGRAMS if program.kind is kind and program.boots(firmware, arch)
    )


def damaged(cache: Path) -> list[Path]:
    """What guests are made of, and is not, or is not known to be, what was made; all is read."""
    images = (path for path in cache.glob("*.img") if not tools.is_intact(path))
    kernels = (path for path in cache.glob("kernel-*") if path.is_dir()
               and not linux.are_intact(path))
    return sorted((*images, *kernels))
