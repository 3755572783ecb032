"""What a guest of ours is: the shape of the rows that its files end with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.model import Arch, FirmwareBuild, GuestKind


@dataclass(frozen=True)
class LinuxKernel:
    """What ``-kernel``, ``-initrd`` and ``-append`` are given."""

    kernel: Path
    initramfs: Path
    command_line: str


@dataclass(frozen=True)
class Program:
    """What runs in a guest once its firmware is done.

    ``kind`` is the value of the guest axis for which it is taken, where it ``boots`` by a firmware
    on an architecture. ``disk`` makes its disk with a label, in a cache, and ``kernel`` what
    ``-kernel`` is given. ``mib`` is the memory that it needs, beside what its firmware does.
    """

    kind: GuestKind
    boots: Callable[[FirmwareBuild, Arch], bool]
    disk: Callable[[str, Path, Arch, FirmwareBuild], Path]
    mib: int = 0
    kernel: Callable[[Path, Arch], LinuxKernel] | None = None
