"""What a run has kept of its cells: no link leads out of its directory, which may be a stranger's.

A record names its cell's place, and a stranger's record can name any. Paths are plain strings here:
ten thousand times, paths as objects take longer than all the rest.
"""

from __future__ import annotations

import os
from functools import cache
from io import BufferedReader
from pathlib import Path

from bootmatrix.files.given_file import Unreadable, open_regular


def logs(place: str, run: str) -> list[str]:
    """The files in a cell's place, and in its directories, one for each QEMU in order of launch.

    As names below the ``place``, such as ``1-source/console.log``; links are none. Empty where the
    place is not inside the directory of the ``run``.
    """
    if "\0" in place or not f"{os.path.realpath(place)}{os.sep}".startswith(_inside(run)):
        return []
    return [f"{directory}{name}" for directory in ("", *(
        f"{one}/" for one in _entries(place, files=False))) for name in _entries(
            f"{place}/{directory}", files=True)]


def open_log(path: str, run: str, largest: int) -> BufferedReader:
    """A file of at most so many bytes, to be read. Raises Unreadable, if it is elsewhere, too."""
    file = open_regular(path, largest)
    # Where it is, asked of the kernel: to resolve each part of a path takes far longer.
    if not os.readlink(f"/proc/self/fd/{file.fileno()}").startswith(_inside(run)):  # noqa: PTH115
        file.close()
        raise Unreadable("is outside the run's directory")
    return file


def _entries(place: str, *, files: bool) -> list[str]:
    """The names of the files, or of the directories, in a directory; links are neither."""
    try:
        with os.scandir(place) as found:
            return sorted((one.name for one in found
                           if (one.is_file if files else one.is_dir)(follow_symlinks=False)),
                          key=_launch_order)
    except OSError:
        return []


def _launch_order(name: str) -> tuple[int, str]:
    number = name.partition("-")[0]
    return int(number) if number.isdecimal() and len(number) < 9 else 0, name


@cache
def _inside(run: str) -> str:
    """How the real paths begin of what is in a run's directory."""
    return str(Path(run).resolve()) + os.sep
