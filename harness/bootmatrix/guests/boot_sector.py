"""The boot sector: the probe guest of a BIOS, with what it loads, assembled by nasm."""

from __future__ import annotations

import os
from pathlib import Path

from bootmatrix.boards import offered
from bootmatrix.errors import ImageError
from bootmatrix.files.shipped import IMAGES
from bootmatrix.guests import tools
from bootmatrix.guests.base import Program
from bootmatrix.model import GuestKind, Interface

PROBE_SOURCE = IMAGES / "guests" / "probe.asm"
DISK_SIZE = 1_474_560
"""Bytes of a 1.44M floppy: the one size that serves as floppy and as any other disk."""


def probe_disk(label: str, cache: Path, *, source: Path = PROBE_SOURCE) -> Path:
    """The path of the probe guest's disk image, assembled first if ``cache`` lacks it.

    ``label`` is the text by which the guest names its disk. The image is raw, sparse, DISK_SIZE
    bytes, and shared by all who ask: a QEMU that may write gets a copy. Any number of processes
    may build at once. Raises ImageError when nasm is missing or refuses the source, ValueError
    for a label other than 1 to 32 letters, digits, dots, dashes and underscores.
    """
    tools.check_label(label)
    arguments = ["-f", "bin", "-Wall", f"-DLABEL='{label}'"]
    code = tools.read(source)

    def assemble(scratch: Path) -> Path:
        built = scratch / "disk.img"
        (scratch / source.name).write_bytes(code)
        argv = ["nasm", *arguments, "-o", built.name, source.name]
        tools.run(argv, scratch, about=source.name)
        if built.stat().st_size > DISK_SIZE:
            raise ImageError(f"{source.name} makes more than {DISK_SIZE} bytes", argv=argv)
        os.truncate(built, DISK_SIZE)
        return built

    return tools.cached(
        cache, f"probe-{label}", [code, *map(str.encode, arguments)], assemble
    )


BOOT_SECTOR = Program(
    GuestKind.PROBE, boots=lambda firmware, arch: offered(firmware, arch) is Interface.BIOS,
    disk=lambda label, cache, arch, firmware: probe_disk(label, cache),
)  # fmt: skip
