"""An nvram file, and what a guest does to it."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.nvram import Nvram, System
from bootmatrix.nvram.layout import HEAD

OLD, NEW, OTHER = b"old!" * 2048, b"new!" * 2048, b"oth!" * 2048
VARIABLES = b"vars" * 1024
QUICK = System(sync=lambda fd: None)  # no power is lost in these tests


def make(path: Path, firmware: bytes = OLD, variables: bytes = b"") -> Nvram:
    """One that has been initialised."""
    nvram = Nvram(path, system=QUICK)
    nvram.initialise(firmware, qemu="5.2.0", machine="pc-q35-5.2", policy="guest-owned",
                     name="seabios-old", variables=variables)
    return nvram


def open_again(nvram: Nvram) -> Nvram:
    """As another process would."""
    nvram.close()
    return Nvram(nvram.path, system=QUICK)


def guest_writes(path: Path, content: bytes, offset: int = HEAD) -> None:
    """What QEMU does for a guest: it writes into the window, past the harness."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def files(directory: Path) -> set[str]:
    """What lies there."""
    return {file.name for file in directory.iterdir()}
