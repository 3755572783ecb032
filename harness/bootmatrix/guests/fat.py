"""FAT file systems in a file, without a partition table, by mtools' commands."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from bootmatrix.guests import tools

_SECTOR = 512
_ROOT = PurePosixPath()
# The same files give the same bytes: no clock, no zone and no configuration of the user's.
ENVIRONMENT = {"SOURCE_DATE_EPOCH": "315532800", "TZ": "UTC", "MTOOLSRC": "/dev/null"}


def image(files: Mapping[str, Path | bytes], size: int, target: Path) -> None:
    """Make ``target`` a FAT file system of ``size`` bytes with ``files`` in it, sparse.

    ``files`` maps a path with slashes (``EFI/BOOT/BOOTX64.EFI``) to a content, or to the file
    that has it. The same files and size give the same bytes. The file system takes the whole
    image, as on a floppy. Raises ImageError if the files do not fit, or mtools is missing;
    ValueError for a size that is no multiple of 512.
    """
    if size % _SECTOR:
        raise ValueError(f"no size of a disk: {size}")
    with target.open("wb") as file:
        file.truncate(size)
    drive = ["-i", target.name]
    geometry = ["-T", str(size // _SECTOR), "-h", "16", "-s", "63", "-N", "00000000"]
    _mtools(["mformat", *drive, *geometry, "::"], target)
    directories = {parent for name in files for parent in PurePosixPath(name).parents}
    for directory in sorted(directories - {_ROOT}):
        _mtools(["mmd", *drive, f"::{directory}"], target)
    for name, content in sorted(files.items()):
        if isinstance(content, Path):
            _copy(content, name, target)
        else:
            # Not by a pipe: of one mcopy says nothing when the image is full.
            with tempfile.NamedTemporaryFile() as file:
                file.write(content)
                file.flush()
                _copy(Path(file.name), name, target)


def _copy(file: Path, name: str, target: Path) -> None:
    _mtools(["mcopy", "-i", target.name, str(file.resolve()), f"::{name}"], target)


def _mtools(argv: list[str], target: Path) -> None:
    tools.run(argv, target.parent, environment=ENVIRONMENT, about=f"the image {target.name}")
