"""Directories that are filled once, and kept: while they are in use, and the latest after that."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bootmatrix.roots import manifest
from bootmatrix.roots.debian import remove
from bootmatrix.roots.manifest import Manifest

MOST_ENTRIES = 8
"""How many entries of one kind stay, beside those in use."""
MOST_BUILT = 64
"""And of what was built from source: it took minutes, and is small."""
BUILT = "built"


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
        """The directory of this name, filled by ``fill`` if it is not there yet, or is damaged.

        ``name.json`` and ``name.docker`` beside it are its users', and go when the entry goes.
        """
        directory = self._home / name
        self._home.mkdir(parents=True, exist_ok=True)
        if name not in self._held:
            self._held[name] = self._lock(name)
            self._forget_old(name.partition("-")[0])
            if self.damage(name) is not None:
                remove(directory)
        try:
            if not directory.is_dir():
                self._fill(directory, fill)
            os.utime(directory)
        except BaseException:
            self._manifest(name).unlink(missing_ok=True)
            self._file(name).unlink(missing_ok=True)
            os.close(self._held.pop(name))
            raise
        return directory

    def _fill(self, directory: Path, fill: Callable[[Path], None]) -> None:
        with self._work(directory.name) as work:
            new = work / "new"
            new.mkdir()
            fill(new)
            # Before the rename: who else has filled it at this moment has filled it with the same.
            Manifest.of(new).write(self._manifest(directory.name))
            try:
                new.rename(directory)
            except OSError:  # another process was faster, with the same
                if not directory.is_dir():
                    raise

    def has(self, name: str) -> bool:
        """Whether an entry is there, and undamaged as far as it looks."""
        return (self._home / name).is_dir() and self.damage(name) is None

    @contextlib.contextmanager
    def filled_once(self, name: str, wait: Callable[[], None]) -> Iterator[None]:
        """Be the only process that fills an entry: another one is waited for.

        ``wait`` is called until that has ended, and takes its time.
        """
        path = self._home / f"{name}.filling"
        self._home.mkdir(parents=True, exist_ok=True)
        while True:
            with path.open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    wait()
                    continue
                # The one who held it has removed the file: then this lock is nobody's.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                        try:
                            yield
                        finally:
                            path.unlink()
                        return

    def damage(self, name: str, *, whole: bool = False) -> str | None:
        """What is not as it was when an entry was filled; None if all is, or it is not there."""
        directory = self._home / name
        if not directory.is_dir():
            return None
        return manifest.damage(directory, self._manifest(name), whole=whole)

    @contextlib.contextmanager
    def _work(self, name: str) -> Iterator[Path]:
        """A directory to fill something in. It is held, so that what a killed one left is known."""
        with _locked(self._home):
            self._forget_unfinished()
            work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self._home))
            held = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(held, fcntl.LOCK_SH)
        try:
            yield work
        finally:
            remove(work)
            os.close(held)

    def remove_unfinished(self) -> None:
        """Remove what those have left who were killed while they filled an entry."""
        with contextlib.suppress(FileNotFoundError), _locked(self._home):
            self._forget_unfinished()

    def _forget_unfinished(self) -> None:
        for work in filter(Path.is_dir, self._home.glob(".*-*")):
            held = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(work)
            except BlockingIOError:
                pass
            finally:
                os.close(held)

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
                (self._home / f"{name}.docker").unlink(missing_ok=True)
                self._manifest(name).unlink(missing_ok=True)
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

    def _manifest(self, name: str) -> Path:
        return self._home / f"{name}.manifest"

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
        most = MOST_BUILT if kind == BUILT else MOST_ENTRIES
        return [path.name for path in sorted(entries, key=used, reverse=True)[most:]]


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock; the kernel lets go of it when its holder dies."""
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
