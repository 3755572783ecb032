"""Which libraries a program gets in a root file system, as ld.so(8) would look for them.

Nothing is run for it: a program of a stranger's can name a loader of its own. What is looked at is
the root, and what is mounted into it, links followed inside the root alone.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bootmatrix.errors import ImageError, UserError
from bootmatrix.roots import elf
from bootmatrix.roots.debian import follow

# Of glibc (Debian's has the first four), and of musl.
_BY_ITSELF = ("/lib/{0}-linux-gnu", "/usr/lib/{0}-linux-gnu", "/lib64", "/usr/lib64", "/lib",
              "/usr/lib", "/usr/local/lib")  # fmt: skip
_CONFIGURATION = "/etc/ld.so.conf"
_INCLUDES_DEEP, _CONFIGURATION_BYTES = 4, 64 << 10
# A QEMU with everything in it has some 200, with those of its modules.
_MOST_LIBRARIES, _MOST_LOOKS = 2000, 50_000


@dataclass(frozen=True)
class Library:
    """A library as it is called, its path inside the root, and its file on this host."""

    name: str
    inside: str
    file: Path


@dataclass(frozen=True)
class ResolvedLibraries:
    """The libraries that a program gets, by name, and the names of those that it does not."""

    libraries: tuple[Library, ...]
    missing: tuple[str, ...]


class Tree:
    """A root file system with directories mounted into it: (directory of the host, path inside).

    ``root`` None: nothing but what is mounted.
    """

    def __init__(self, root: Path | None, mounts: Sequence[tuple[Path, str]] = ()) -> None:
        self._root = root
        self._mounts = mounts

    def file(self, inside: str) -> Path | None:
        """The regular file that a path inside leads to; None if there is none."""
        root, below = self._root, inside
        for directory, place in self._mounts:
            if PurePosixPath(inside).is_relative_to(place):
                root, below = directory, inside[len(place) :]
        if root is None:
            return None
        try:
            found = follow(root, below)
            return found if found.is_file() else None
        except (ImageError, OSError, ValueError):
            return None

    def search_path(self) -> tuple[str, ...]:
        """Where a loader looks by itself: /etc/ld.so.conf, then its own directories."""
        configured = self._configured(_CONFIGURATION, _INCLUDES_DEEP)
        own = (directory.format(platform.machine()) for directory in _BY_ITSELF)
        return tuple(dict.fromkeys((*configured, *own)))

    def _configured(self, inside: str, deep: int) -> list[str]:
        file = self.file(inside)
        if file is None or self._root is None or not deep:
            return []
        found = []
        with file.open("rb") as opened:
            text = opened.read(_CONFIGURATION_BYTES).decode(errors="replace")
        for line in text.splitlines():
            words = line.partition("#")[0].split()
            if words[:1] == ["include"]:
                for name in words[1:]:
                    where, _, pattern = name.rpartition("/")
                    if not pattern:  # a directory, of which ld.so reads nothing
                        continue
                    for below in sorted(follow(self._root, where).glob(pattern)):
                        found += self._configured(f"{where}/{below.name}", deep - 1)
            elif words and words[0].startswith("/"):
                found.append(words[0])
        return found


def resolve(
    tree: Tree, programs: Sequence[str], first: Sequence[str] = (), within: str = ""
) -> ResolvedLibraries:
    """The libraries that ``programs``, paths inside, get in a tree, and those that they want.

    ``first`` are directories that come before the loader's own, as LD_LIBRARY_PATH does. What a
    program's own RUNPATH names counts only below ``within``: a stranger's could name any
    directory of this host. Raises UserError for what asks for far more than a QEMU does.
    """
    found: dict[str, Library] = {}
    missing: dict[str, None] = {}
    looks = 0
    search = (*first, *tree.search_path())
    waiting: list[tuple[str, Path | None, tuple[str, ...]]] = [
        (program, tree.file(program), ()) for program in programs]
    while waiting and len(found) < _MOST_LIBRARIES:
        inside, file, inherited = waiting.pop(0)
        if file is None:
            continue
        try:
            program = elf.read(file)
        except UserError:
            continue
        own = tuple(path for path in _expanded(program.runpath, inside)
                    if within and PurePosixPath(path).is_relative_to(within))
        if program.inherited:
            inherited = tuple(dict.fromkeys((*own, *inherited)))
        if program.inherited or not program.runpath:
            own = inherited
        for name in program.needed:
            if name in found or name in missing:
                continue
            directories = tuple(dict.fromkeys((*own, *search)))
            looks += len(directories)
            if looks > _MOST_LOOKS or len(missing) > _MOST_LIBRARIES:
                raise UserError(f"{programs[0]} asks for too many libraries, in too many places",
                                hint="a QEMU with everything in it has some 200")
            library = None if "/" in name else _look(tree, name, directories)
            if library is None:
                missing[name] = None
            else:
                found[name] = library
                waiting.append((library.inside, library.file, inherited))
    return ResolvedLibraries(tuple(found.values()), tuple(missing))


def _look(tree: Tree, name: str, directories: Sequence[str]) -> Library | None:
    for directory in directories:
        inside = f"{directory.rstrip('/')}/{name}"
        file = tree.file(inside)
        if file is None:
            continue
        try:
            elf.read(file)
        except UserError:  # one for another processor: the loader passes it over, too
            continue
        return Library(name, inside, file)
    return None


def _expanded(runpath: Sequence[str], inside: str) -> list[str]:
    """A RUNPATH with $ORIGIN as what it stands for, and without any ``..`` in it."""
    origin = str(PurePosixPath(inside).parent)
    paths = (path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for path in runpath)
    return [_plain(path) for path in paths if path.startswith("/")]


def _plain(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
