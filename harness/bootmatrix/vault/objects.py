"""Files by the sha256 of their content, compressed, in one directory: what is equal is there once.

A file's name is its digest, and what is in it is compared with that whenever it is read. So who can
write there can damage it, and can put nothing else in its place.
"""

from __future__ import annotations

import hashlib
import lzma
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from bootmatrix.errors import UserError
from bootmatrix.files import given_file

LARGEST = 1 << 30
"""Bytes of one content, unpacked: as much as a migration stream can have (see migration.file)."""
SUFFIX = ".xz"
_LARGEST_PACKED = LARGEST + (LARGEST >> 6)  # what cannot be compressed grows by less
_PART = 1 << 20
# xz's own preset 2: a stream of a BIOS guest takes a quarter of a second, the next ones twice that
# for a tenth less. To unpack what any preset of xz has packed takes 65 MiB.
_PRESET = 2
_MEMORY = 128 << 20


class Objects:
    """The contents in a directory. UserError, with the file's name, for what is not as it was."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, digest: str) -> Path:
        """Where a content is, or would be."""
        return self.directory / f"{digest}{SUFFIX}"

    def put(self, content: bytes | Path) -> tuple[str, int]:
        """Keep a content, of bytes or of a file of ours; its digest, and its bytes.

        What has its name already is looked at, and is replaced where it is damaged.
        """
        with _opened(content) as parts:
            hashed, size = hashlib.sha256(), 0
            for part in parts:
                hashed.update(part)
                size += len(part)
        digest = hashed.hexdigest()
        if not self._holds(digest, size):
            with suppress(FileExistsError):
                self.directory.mkdir(parents=True, exist_ok=True)
            os.close(self._opened_directory())
            packer = lzma.LZMACompressor(preset=_PRESET)
            with given_file.replacing(self.path(digest)) as file, _opened(content) as parts:
                for part in parts:
                    file.write(packer.compress(part))
                file.write(packer.flush())
        return digest, size

    def _holds(self, digest: str, size: int) -> bool:
        try:
            self.check(digest, size)
        except UserError:  # it is not there, or not as it was
            return False
        return True

    def get(self, digest: str, largest: int = LARGEST) -> bytes:
        """A content of so many bytes at most."""
        return b"".join(self._parts(digest, largest))

    def get_into(self, digest: str, size: int, target: Path) -> None:
        """Unpack a content, which has so many bytes, into a new file of ours."""
        with target.open("xb") as file:
            self._write(digest, size, file)

    def check(self, digest: str, size: int) -> None:
        """Look at a content, which has so many bytes, and keep nothing of it."""
        self._write(digest, size, None)

    def _write(self, digest: str, size: int, file: BinaryIO | None) -> None:
        found = 0
        for part in self._parts(digest, size):
            found += len(part)
            if file is not None:
                file.write(part)
        if found != size:
            raise self._damaged(digest, f"it has {found} bytes, not {size}")

    def _parts(self, digest: str, largest: int) -> Iterator[bytes]:
        """What is in a file, checked at its end: nothing counts before that is reached."""
        hashed, left = hashlib.sha256(), largest
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY)
        try:
            with self._open(digest) as file:
                while not unpacker.eof:
                    packed = file.read(_PART) if unpacker.needs_input else b""
                    if unpacker.needs_input and not packed:
                        raise self._damaged(digest, "it is cut off")
                    part = unpacker.decompress(packed, _PART)
                    left -= len(part)
                    if left < 0:
                        raise self._damaged(digest, f"it unpacks to more than {largest} bytes")
                    hashed.update(part)
                    yield part
                if unpacker.unused_data or file.read(1):
                    raise self._damaged(digest, "there is more behind its end")
        except lzma.LZMAError as error:
            raise self._damaged(digest, str(error)) from None
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", file=self.path(digest)) from None
        if hashed.hexdigest() != digest:
            raise self._damaged(digest, "its bytes are not those that it was named for")

    @contextmanager
    def _open(self, digest: str) -> Iterator[BufferedReader]:
        directory = self._opened_directory()
        try:
            with given_file.open_regular(
                    f"{digest}{SUFFIX}", _LARGEST_PACKED, directory) as file:
                yield file
        except given_file.Unreadable as error:
            raise UserError(str(error), file=self.path(digest)) from None
        finally:
            os.close(directory)

    def _opened_directory(self) -> int:
        try:
            return os.open(
                self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}", file=self.directory,
                            hint="the directory of a vault's files, and no link") from None

    def _damaged(self, digest: str, why: str) -> UserError:
        return UserError(f"is damaged: {why}", file=self.path(digest),
                         hint="take it from a copy of the vault, or remove the matrix files of its"
                              " guests, and add them anew")


@contextmanager
def _opened(content: bytes | Path) -> Iterator[Iterator[bytes]]:
    if isinstance(content, bytes):
        yield iter((content,))
        return
    with content.open("rb") as file:
        yield iter(lambda: file.read(_PART), b"")
