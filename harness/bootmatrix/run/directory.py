"""A run's directory: one run's alone, from its beginning to its end."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from bootmatrix.errors import CellError, UserError

RECORDS = "records.jsonl"
CELLS = "cells"
"""A run's records, and its artifacts: a directory that has both is one of a run."""
_SCRATCH = "scratch-"
# How the names begin that runners have in it: see run.runner.
_USED = (RECORDS, CELLS, _SCRATCH, "shared", "waited", "offered")


def new_name() -> str:
    """A name that no other run has, however many start in one second; names sort by time."""
    now = datetime.now().astimezone().strftime("%Y-%m-%dT%H-%M-%S")
    return f"{now}-{os.urandom(2).hex()}"


LATEST = "latest"
"""Stands for the run in runs/ that has recorded a cell last."""
RUNS = Path("runs")


def records_of(given: Path) -> Path:
    """The records that are meant by a file of them, by a run's directory, or by ``latest``."""
    place = run_of(given)
    return place / RECORDS if (place / RECORDS).exists() else place


def run_of(given: Path) -> Path:
    """The run's directory that is meant by it, by its records, or by ``latest``.

    What is neither is left as it is. Raises UserError if there is no latest run.
    """
    if given == Path(LATEST) and not given.exists():
        # By when their last cell was recorded: a directory of one's own choice has any name.
        runs = [(path.stat().st_mtime_ns, path.parent) for path in RUNS.glob(f"*/{RECORDS}")]
        if not runs:
            raise UserError("there is no run in it: nothing is the latest", file=RUNS)
        return max(runs)[1]
    if given.name == RECORDS and (given.parent / CELLS).is_dir():
        return given.parent
    return given


def check_is_run(path: Path) -> None:
    """Raise UserError if this is no run's own directory, in which a run could go on.

    A run makes files and directories alone, and writes and removes by their names: something else,
    a link most of all, is of somebody who would have it done elsewhere.
    """
    if not path.is_dir():
        raise UserError("no such run directory", file=path)
    records, cells = path / RECORDS, path / CELLS
    for one in (records, cells):
        if one.is_symlink():
            raise UserError("is a symbolic link: no run has made it", file=one,
                            hint="remove it, if this is a run of yours")
    if not (records.is_file() and cells.is_dir()):
        raise UserError(f"is no directory of a run, which has a {RECORDS} and {CELLS}/ in it",
                        file=path, hint="a run says at its end where its artifacts are")
    try:
        foreign = next(_foreign(path), None)
    except OSError as error:
        raise UserError(f"is no directory of a run: {error.strerror}", file=path) from None
    if foreign is not None:
        raise UserError("is neither a file nor a directory: no run has made it", file=foreign,
                        hint="remove it, if this is a run of yours")


def _foreign(path: Path) -> Iterator[Path]:
    """What a run has not made, of what it would use.

    What sandboxes have left in a scratch directory is removed by descriptors, whatever it is.
    """
    left = [path]
    while left:
        directory = left.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                top = directory == path
                if top and not entry.name.startswith(_USED):
                    continue
                if not entry.is_dir(follow_symlinks=False):
                    if not entry.is_file(follow_symlinks=False):
                        yield directory / entry.name
                elif not (top and entry.name.startswith(_SCRATCH)):
                    left.append(directory / entry.name)


class RunDirectory:
    """A directory that a run claims for itself. Its workers need no claim: they are the run's.

    The kernel lets go of a claim when its holder dies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: int | None = None
        self._made = False

    def claim(self, *, resume: bool = False) -> None:
        """Hold the directory, which is made if need be; with ``resume`` it must be a run's.

        Raises UserError where a run goes on in it right now, and, unless with ``resume``, where
        anything is in it: records of two runs are never mixed, and none are lost.
        """
        if self._held is not None:
            return
        if not resume:
            self._make()
        elif not self.path.is_dir():
            raise UserError("no such run directory", file=self.path)
        self._held = self._lock()
        try:
            if resume:
                check_is_run(self.path)
            if any(list(map(_in_use, self.path.glob(f"{_SCRATCH}*")))):
                raise UserError("the workers of a run that was killed are still ending in it",
                                file=self.path, hint="try again in a moment")
            if not resume and os.listdir(self.path):  # noqa: PTH208
                raise UserError(
                    "this directory is not empty", file=self.path,
                    hint="a run goes on in its own by --resume, an exploration by the same "
                         "command; a new one needs an empty or a new directory")
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go of it; a directory that was made, but never used, goes."""
        if self._held is None:
            return
        if self._made:
            with contextlib.suppress(OSError):  # as a rule it has something in it
                self.path.rmdir()
        os.close(self._held)
        self._held = None

    def _make(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.path.mkdir()
                self._made = True
        except OSError as error:
            raise UserError(f"cannot make the run directory: {error.strerror}",
                            file=self.path) from None

    def _lock(self) -> int:
        try:
            held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise UserError(f"cannot be a run directory: {error.strerror}",
                            file=self.path) from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(held)
            why = ("another run goes on in this directory" if isinstance(error, BlockingIOError)
                   else f"cannot lock the run directory: {error.strerror}")
            raise UserError(why, file=self.path, hint="wait for its end, or give another") from None
        return held


def sweep(run_dir: Path) -> None:
    """Remove the scratch directories that killed runners have left in a run directory."""
    # Not above: every pytest names a run directory, and few have one.
    from bootmatrix.files.cell_files import remove_tree

    for scratch in run_dir.glob(f"{_SCRATCH}*"):
        # Another sweeper was quicker, or its runner lives.
        with contextlib.suppress(OSError, CellError), _held(scratch):
            remove_tree(scratch)


def _in_use(scratch: Path) -> bool:
    try:
        with _held(scratch):
            return False
    except BlockingIOError:
        return True
    except OSError:  # it has just gone
        return False


@contextlib.contextmanager
def _held(scratch: Path) -> Iterator[None]:
    """Hold a scratch directory that nobody holds, see Runner. Raises BlockingIOError, OSError."""
    held = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)
