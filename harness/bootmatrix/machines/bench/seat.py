"""A board's seat in this user's cache: who uses it now, what its chip held, and what is wrong.

It outlasts the process that holds it: what a killed one has left is found by the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

from bootmatrix.deadline import Deadline
from bootmatrix.errors import BoardTaken
from bootmatrix.files import given_file
from bootmatrix.model import BoardSource

_MOST = 64 << 10  # of a journal or a mark, in bytes
CHIP_SECONDS = 1800
"""How long a programmer may take: a chip of 32 MiB by a slow one."""

_LOOK_SECONDS = 0.05  # no lock of this kind can be waited for until a deadline


@dataclass(frozen=True)
class Journal:
    """What is being done to a chip: the sha256 of the image that it gets.

    ``done``: it was verified. ``restore``: what was kept is to be written back. ``held`` is the
    sha256 of what was in it when the board itself began to change it, "" where a programmer does.
    """

    wanted: str
    done: bool
    restore: bool
    held: str = ""


class Seat:
    """The seat in a directory.

    ``saved`` is the file with what the chip held before it was written, ``original`` the one with
    what it held before it was written for the first time.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self.saved = directory / "kept.bin"
        self.original = directory / "original.bin"

    @classmethod
    def of(cls, source: BoardSource, cache: Path) -> Seat:
        """The seat of a board: one for each target of an environment file."""
        board = f"{source.env.resolve()}\n{source.target}"
        return cls(cache / "bench" / f"{source}-{hashlib.sha256(board.encode()).hexdigest()[:16]}")

    @contextmanager
    def held(
        self, user: str = "", seconds: float = 0.0, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Be the one who uses the board, as ``user``. Raises BoardTaken, which names who does.

        Who uses it under the same name is waited for without end, others for so many seconds, and
        nobody once there is to be a ``stop``. It is over with the process, however that ends.
        """
        with self._lock() as lock:
            deadline = Deadline.after(seconds)
            while (other := _taken(lock)) is not None:
                if stop():
                    raise BoardTaken("the run was ended before the board was free")
                if deadline.expired and (other != user or not user):
                    raise BoardTaken(f"it is used by {other or 'another process of yours'}")
                time.sleep(_LOOK_SECONDS)
            os.ftruncate(lock, 0)
            os.pwrite(lock, user.encode(), 0)
            yield

    @property
    def user(self) -> str | None:
        """Who uses the board, "" for one who has not said so yet; None: nobody."""
        with self._lock() as lock:
            return _taken(lock)

    @contextmanager
    def _lock(self) -> Iterator[int]:
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield lock
        finally:
            os.close(lock)

    # -- what is being done to the chip ----------------------------------------------------------

    @property
    def journal(self) -> Journal | None:
        """What was begun, and is not over; None for nothing that could be read."""
        try:
            data = json.loads(given_file.read(self._directory / "journal.json", _MOST))
            return Journal(str(data["wanted"]), data["done"] is True, data["restore"] is True,
                           str(data.get("held", "")))
        except (given_file.Unreadable, ValueError, TypeError, LookupError):
            return None

    @journal.setter
    def journal(self, journal: Journal | None) -> None:
        if journal is None:
            (self._directory / "journal.json").unlink(missing_ok=True)
        else:
            _write(self._directory / "journal.json", json.dumps(asdict(journal)).encode())

    def keep(self, image: bytes) -> None:
        """What the chip holds, before it is written; what it held first of all stays, too."""
        if not self.original.exists():
            _write(self.original, image)
        _write(self.saved, image)

    def one_at_a_time(self, tool: str) -> str:
        """A programmer's command that waits until the one before it is over.

        That goes on when its harness is killed: who reads the chip meanwhile reads half an image.
        It is in a session of its own: Ctrl-C at a terminal is for the harness, which lets it end.
        """
        script = self._directory / "one-at-a-time" / Path(tool).name
        lock = self._directory / "programmer.lock"
        script.parent.mkdir(exist_ok=True)
        # Who waits here may wait for nobody any more: not for longer than a chip takes.
        alone = f'exec setsid -w flock -w {CHIP_SECONDS} {quote(str(lock))} {quote(tool)} "$@"'
        _write(script, f"#!/bin/sh\n{alone}\n".encode())
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


def _taken(lock: int) -> str | None:
    """Take a lock; None: it is taken, or who has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(lock, _MOST, 0).decode(errors="replace")
    return None


def _write(file: Path, content: bytes) -> None:
    """In one step, and so that a power failure here does not lose it."""
    new = file.with_suffix(".new")
    with new.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)
