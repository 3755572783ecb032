"""The data files that a QEMU build finds beside itself: how large its option ROMs are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath

from bootmatrix.model import QemuBuild

# Where Debian's packages and QEMU's own installation put them, in the order in which they are
# looked for; what is found behind a link is inside the same root.
_DIRECTORIES = ("usr/share/qemu", "usr/lib/ipxe/qemu", "usr/local/share/qemu",
                "usr/share/qemu-kvm", "usr/share/ipxe/qemu")
_MOST_LINKS = 8


def rom_bytes(build: QemuBuild, name: str) -> int:
    """The size of the file that a QEMU finds by a name for an option ROM; 0: none was found."""
    return next((size for path in _places(build, name) if (size := _size(build, path))), 0)


def _places(build: QemuBuild, name: str) -> Iterator[PurePosixPath]:
    """Where it can be, by paths inside."""
    for option, value in pairwise(build.arguments):
        if option == "-L":
            yield PurePosixPath(value) / name
    for directory in _DIRECTORIES:
        yield PurePosixPath("/", directory, name)


def _size(build: QemuBuild, inside: PurePosixPath) -> int:
    for _ in range(_MOST_LINKS):
        path = _outside(build, inside)
        try:
            if not path.is_symlink():
                return path.stat().st_size if path.is_file() else 0
            inside = inside.parent / path.readlink()
        except OSError:
            break
    return 0


def _outside(build: QemuBuild, inside: PurePosixPath) -> Path:
    """Where a path inside lies on this host."""
    for directory, at in build.mounts:
        if inside.is_relative_to(at):
            return directory / inside.relative_to(at)
    return build.root / inside.relative_to("/")
