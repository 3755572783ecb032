"""Roots as one file, to carry them to where there is no archive of packages: written, and read.

It is a tar compressed by gzip. Of each root it has ``STEM.json``, what is said of it, and then all
that is in it below ``STEM``. The same roots give the same file.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

from bootmatrix.errors import ImageError
from bootmatrix.roots import manifest

LARGEST = 8 << 30
"""The most bytes that are unpacked: forty roots."""
MOST_FACTS = 1 << 20
"""The most bytes of what is said of a root."""
_LEVEL = 3  # of compression: the next ones take twice the time for a twentieth less


class Packed(NamedTuple):
    """A root and what is said of it, as they go into a file and come out of it."""

    stem: str
    root: Path
    facts: bytes


def write(file: BinaryIO, packed: Iterable[Packed]) -> str:
    """Write roots; the sha256 of all that was written."""
    digest = DigestWriter(file)
    with gzip.GzipFile("", "wb", _LEVEL, digest, mtime=0) as zipped, \
            tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for stem, root, facts in packed:
            info = tarfile.TarInfo(f"{stem}.json")
            info.size = len(facts)
            tar.addfile(info, io.BytesIO(facts))
            tar.addfile(_directory(stem, 0o755))
            for path, found in sorted(manifest.walk(root), key=lambda item: item[0].split("/")):
                _add(tar, f"{stem}/{path}", root / path, found.st_mode)
    return digest.hexdigest()


def _add(tar: tarfile.TarFile, name: str, path: Path, mode: int) -> None:
    # Not gettarinfo: it tells of owners, times and hard links.
    if stat.S_ISDIR(mode):
        tar.addfile(_directory(name, stat.S_IMODE(mode)))
        return
    info = tarfile.TarInfo(name)
    if stat.S_ISLNK(mode):
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
        tar.addfile(info)
        return
    info.mode = stat.S_IMODE(mode)
    with path.open("rb") as content:
        info.size = path.stat().st_size
        tar.addfile(info, content)


def _directory(name: str, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    return info


class DigestWriter(io.RawIOBase):
    """Hashes what is written to a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()

    def writable(self) -> bool:
        """Nothing else is done with it."""
        return True

    def write(self, data: Any) -> int:
        """Write, and hash."""
        self._sha256.update(data)
        return self._file.write(data)

    def hexdigest(self) -> str:
        """That of all so far."""
        return self._sha256.hexdigest()


def read(file: IO[bytes], place: Callable[[str, bytes], Path | None]) -> None:
    """Unpack each root to where ``place(STEM, FACTS)`` says, a new path; None passes it over.

    Nothing is written elsewhere, and nothing but files, directories and links is made; what a link
    leads to is the root's own business, as a sandbox sees it. Raises ImageError.
    """
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as zipped:
            with tarfile.open(fileobj=zipped, mode="r|") as tar:
                _Unpacking(place).unpack(tar)
            while zipped.read(1 << 20):  # its own sum is compared when all is read
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
        raise ImageError(f"it is cut off or damaged: {error}") from None


class _Unpacking:
    def __init__(self, place: Callable[[str, bytes], Path | None]) -> None:
        self._place = place
        self._roots: dict[str, Path | None] = {}
        self._made: set[str] = set()
        self._bytes = 0

    def unpack(self, tar: tarfile.TarFile) -> None:
        for member in tar:
            self._bytes += max(member.size, 512)
            if self._bytes > LARGEST:
                raise ImageError(f"there is more than {LARGEST >> 30} GiB in it")
            top, _, inside = member.name.partition("/")
            if not inside and member.isreg() and top.endswith(".json"):
                self._facts(tar, member)
                continue
            _check_name(member.name)
            if top not in self._roots:
                raise ImageError(f"{member.name} belongs to no root of it")
            above = member.name.rpartition("/")[0]
            # A directory that was made here, and so were all above it: no link leads away.
            outside = above not in self._made if inside else not member.isdir()
            if outside or member.name in self._made:
                raise ImageError(f"{member.name} is not where it can be")
            if member.isdir():
                self._made.add(member.name)
            root = self._roots[top]
            if root is not None:
                _make(tar, member, root / inside)

    def _facts(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        stem = member.name.removesuffix(".json")
        _check_name(stem)
        if member.size > MOST_FACTS or stem in self._roots:
            raise ImageError(f"{member.name} is not what is said of a root")
        content = tar.extractfile(member)
        assert content is not None
        self._roots[stem] = self._place(stem, content.read())


def _check_name(name: str) -> None:
    if name.startswith("/") or {"", ".", ".."} & {*name.split("/")}:
        raise ImageError(f"{name!r} leaves the root")


def _make(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    try:
        if member.isdir():
            path.mkdir()
            path.chmod(member.mode & 0o755)
        elif member.issym():
            path.symlink_to(member.linkname)
        elif member.isreg():
            content = tar.extractfile(member)
            assert content is not None
            with path.open("xb") as file:
                while part := content.read(1 << 20):
                    file.write(part)
            path.chmod(member.mode & 0o755)
        else:
            raise ImageError(f"{member.name} is neither file, directory nor link")
    except FileExistsError:
        raise ImageError(f"{member.name} is there twice") from None
