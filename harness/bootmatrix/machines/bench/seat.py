"""A board's seat in this user's cache: who uses it now, what its chip held, and what is wrong.

It outlasts the process that holds it: what a killed one has left is found by the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

from bootmatrix.files import given_file
from bootmatrix.model import BoardSource

_MOST = 64 << 10  # of a journal or a mark, in bytes


@dataclass(frozen=True)
class Journal:
    """What is being done to a chip: the sha256 of the image that it gets.

    ``done``: it was verified. ``restore``: what was kept is to be written back.
    """

    wanted: str
    done: bool
    restore: bool


class Seat:
    """The seat in a directory.

    ``kept`` is the file with what the chip held before it was written.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self.kept = directory / "kept.bin"

    @classmethod
    def of(cls, source: BoardSource, cache: Path) -> Seat:
        """The seat of a board: one for each target of an environment file."""
        told = f"{source.env.resolve()}\n{source.target}"
        return cls(cache / "bench" / f"{source}-{hashlib.sha256(told.encode()).hexdigest()[:16]}")

    @contextmanager
    def held(self, *, wait: bool = True) -> Iterator[bool]:
        """Be the one who uses the board; False: another does, and is not waited for.

        It is over with the process that holds it, however that ends.
        """
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(lock)

    # -- what is being done to the chip ----------------------------------------------------------

    @property
    def journal(self) -> Journal | None:
        """What was begun, and is not over; None for nothing that could be read."""
        try:
            data = json.loads(given_file.read(self._directory / "journal.json", _MOST))
            return Journal(str(data["wanted"]), data["done"] is True, data["restore"] is True)
        except (given_file.Unreadable, ValueError, TypeError, LookupError):
            return None

    @journal.setter
    def journal(self, journal: Journal | None) -> None:
        if journal is None:
            (self._directory / "journal.json").unlink(missing_ok=True)
        else:
            _write(self._directory / "journal.json", json.dumps(asdict(journal)).encode())

    def keep(self, image: bytes) -> None:
        """What the chip holds, before it is written."""
        _write(self.kept, image)

    def one_at_a_time(self, tool: str) -> str:
        """A programmer's command that waits until the one before it is over.

        That goes on when its harness is killed: who reads the chip meanwhile reads half an image.
        """
        script = self._directory / "programmer"
        lock = self._directory / "programmer.lock"
        _write(script, f'#!/bin/sh\nexec flock {quote(str(lock))} {quote(tool)} "$@"\n'.encode())
        script.chmod(0o700)
        return str(script)

    # -- what is wrong with the board ------------------------------------------------------------

    @property
    def mark(self) -> str:
        """What was last found wrong with the board; "" for nothing."""
        try:
            return given_file.read(self._directory / "mark", _MOST).decode(errors="replace")
        except given_file.Unreadable:
            return ""

    @mark.setter
    def mark(self, reason: str) -> None:
        if reason:
            _write(self._directory / "mark", reason.encode())
        else:
            (self._directory / "mark").unlink(missing_ok=True)


def _write(file: Path, content: bytes) -> None:
    """In one step, and so that a power failure here does not lose it."""
    new = file.with_suffix(".new")
    with new.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)
