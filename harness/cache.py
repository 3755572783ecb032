"""Directories that are filled once, and kept: while they are in use, and the latest after that."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.debian import remove

KEPT = 8
"""How many entries of one kind stay, beside those in use."""


class Cache:
    """The entries below one directory. The kind of an entry is its name up to the first dash.

    An entry is in use until the cache is closed that was asked for it, or its process ends: it
    holds the entry's lock, shared, which the kernel takes from the dead.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._held: dict[str, int] = {}

    def close(self) -> None:
        """Nothing that was asked for is in use any more."""
        while self._held:
            os.close(self._held.popitem()[1])

    def entry(self, name: str, fill: Callable[[Path], None]) -> Path:
        """The directory of this name, filled by ``fill`` if it is not there yet.

        ``name.json`` beside it is the caller's to use, and goes when the entry goes.
        """
        directory = self._home / name
        self._home.mkdir(parents=True, exist_ok=True)
        if name not in self._held:
            self._held[name] = self._lock(name)
            self._forget_old(name.partition("-")[0])
        try:
            if not directory.is_dir():
                self._fill(directory, fill)
            os.utime(directory)
        except BaseException:
            self._file(name).unlink(missing_ok=True)
            os.close(self._held.pop(name))
            raise
        return directory

    def _fill(self, directory: Path, fill: Callable[[Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=self._home) as work:
            new = Path(work) / "new"
            new.mkdir()
            fill(new)
            try:
                new.rename(directory)
            except OSError:  # another process was faster, with the same
                if not directory.is_dir():
                    raise

    def names(self) -> tuple[str, ...]:
        """The entries that are there."""
        return tuple(sorted(path.name for path in self._home.glob("[!.]*-*") if path.is_dir()))

    def remove(self, name: str) -> None:
        """Remove an entry, unless it is in use."""
        with contextlib.suppress(FileNotFoundError):
            held = os.open(self._file(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(self._home / name)
                (self._home / f"{name}.json").unlink(missing_ok=True)
                self._file(name).unlink(missing_ok=True)
            except BlockingIOError:
                pass
            finally:
                os.close(held)

    def _lock(self, name: str) -> int:
        """Hold an entry's lock, shared with all others who use it."""
        while True:
            held = os.open(self._file(name), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(held, fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(held), self._file(name).stat()):
                    return held
            os.close(held)  # it was removed meanwhile: this lock is nobody's

    def _file(self, name: str) -> Path:
        return self._home / f"{name}.lock"

    def _forget_old(self, kind: str) -> None:
        """Remove the entries of a kind that were not used lately, and are not in use."""
        for name in self._old(kind):
            self.remove(name)

    def _old(self, kind: str) -> Iterable[str]:
        def used(path: Path) -> float:
            with contextlib.suppress(FileNotFoundError):
                return path.stat().st_mtime
            return 0.0

        entries = (path for path in self._home.glob(f"{kind}-*") if path.is_dir())
        return [path.name for path in sorted(entries, key=used, reverse=True)[KEPT:]]
