"""The probe guest of Open Firmware: a client program, compiled by clang, in a PReP partition."""

from __future__ import annotations

import struct
from pathlib import Path

from bootmatrix.boards import offered
from bootmatrix.errors import ImageError
from bootmatrix.files.shipped import IMAGES
from bootmatrix.guests import tools
from bootmatrix.guests.base import Program
from bootmatrix.guests.boot_sector import DISK_SIZE
from bootmatrix.model import Arch, FirmwareBuild, GuestKind, Interface

CLIENT_SOURCES = IMAGES / "guests" / "openfirmware"

_FLAGS = (
    "--target=powerpc-unknown-none-elf", "-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-main",
    "-Os", "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-fno-asynchronous-unwind-tables",
    "-msoft-float", "-mno-altivec",
)  # fmt: skip
_SECTOR = 512
_PARTITIONS = 446  # in a master boot record: four rows of 16 bytes
_ACTIVE, _PREP = 0x80, 0x41


def client_disk(label: str, cache: Path, *, sources: Path = CLIENT_SOURCES) -> Path:
    """The path of the Open Firmware probe guest's disk image, built first if ``cache`` lacks it.

    As ``probe_disk``: raw, sparse, DISK_SIZE bytes, shared. It has one partition, of the type that
    firmware loads a client program from (0x41), and the program in it. Raises ImageError when a
    tool is missing or refuses, ValueError for a bad label.
    """
    tools.check_label(label)
    parts = tools.read_c(sources)
    flags = [*_FLAGS, f'-DLABEL="{label}"']

    def build(scratch: Path) -> Path:
        for name, content in parts.items():
            (scratch / name).write_bytes(content)
        for source in ("start.S", "probe.c"):
            tools.run(["clang", *flags, "-c", source], scratch, about=source)
        tools.run(["ld.lld", "-z", "max-page-size=4096", "-T", "image.lds", "start.o", "probe.o",
                   "-o", "probe.elf"], scratch, about="image.lds")
        tools.run(["llvm-objcopy", "--strip-all", "probe.elf"], scratch)
        disk = scratch / "disk.img"
        with disk.open("wb") as file:
            file.write(_partitioned((scratch / "probe.elf").read_bytes()))
            file.truncate(DISK_SIZE)
        return disk

    content = [*map(str.encode, parts), *parts.values(), *map(str.encode, flags)]
    return tools.cached(cache, f"client-{label}", content, build)


def _partitioned(program: bytes) -> bytes:
    """A disk's beginning: the boot record, and the program in the partition behind it."""
    sectors = -(-len(program) // _SECTOR)
    if (1 + sectors) * _SECTOR > DISK_SIZE:
        raise ImageError(f"the program has {len(program)} bytes, more than its disk")
    record = bytearray(_SECTOR)
    struct.pack_into("<B3xB3xII", record, _PARTITIONS, _ACTIVE, _PREP, 1, sectors)
    record[-2:] = b"\x55\xaa"
    return bytes(record) + program


def _boots(firmware: FirmwareBuild, arch: Arch) -> bool:
    """Compiled for the PowerPC alone."""
    return arch is Arch.PPC64 and offered(firmware, arch) is Interface.OPENFIRMWARE


OPEN_FIRMWARE = Program(
    GuestKind.PROBE, boots=_boots,
    disk=lambda label, cache, arch, firmware: client_disk(label, cache),
)  # fmt: skip
