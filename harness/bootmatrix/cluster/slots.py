"""The cells that run on a worker's machine: its processes, and what it keeps of each run.

Nothing here knows dask. A machine forgets a run, and ends what runs for it, when nobody has asked
for it for a while: whoever wanted it is dead, or cut off.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, cast

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cluster import frames
from bootmatrix.cluster.model import CellAnswer, WorkerFacts
from bootmatrix.cluster.slot import FORGET, TABLE
from bootmatrix.cluster.table import BuildCache, Table, read_table
from bootmatrix.deadline import awake
from bootmatrix.errors import HarnessError, UserError, in_a_line
from bootmatrix.files.cell_files import remove_tree
from bootmatrix.machines.bench.seat import CHIP_SECONDS

LEASE_SECONDS = 8.0
"""A run that nobody has asked for, for so long, is forgotten, and its cells end."""
HUNG_SECONDS = 20.0
"""A process that has not said for so long that it lives is ended."""
_END_SECONDS = 3.0
_LOOK_SECONDS = 0.25
SLOT = (sys.executable, "-m", "bootmatrix.cluster.slot")
Said = queue.SimpleQueue[tuple[dict[str, Any], bytes, bytes] | None]
Came = tuple[CellAnswer, bytes, bytes]
"""What has come of a cell, its record, and its files."""


class _Process:
    """One process that runs cells; started when there is one."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, boards: Sequence[Path]
    ) -> None:
        self.name = name
        self.run = ""
        self.cells: dict[str, Said] = {}
        self._command = [*command, name, *map(str, boards)]
        self._patience = CHIP_SECONDS if boards else _END_SECONDS
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._telling = threading.Lock()
        self._heard = 0.0

    def start(self) -> None:
        """Start it, unless it runs."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self.cells = {}
            self._heard = awake()
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                start_new_session=True, cwd=self._directory)
            threading.Thread(target=self._listen, args=(self._process, self.cells),
                             daemon=True).start()

    def send(self, key: str, head: dict[str, Any], body: bytes) -> Said:
        """Give it a cell; what it says of it comes in the queue, and None when it has ended."""
        said: Said = queue.SimpleQueue()
        self.cells[key] = said
        assert self._process is not None
        try:
            with self._telling:
                frames.write(cast(Any, self._process.stdin), head, body)
        except frames.Ended:
            said.put(None)
        return said

    def forget(self, run: str) -> None:
        """End what it does for a run; one that does nothing lets go of it, and stays."""
        if not self.cells and self._process is not None:
            said = self.send(FORGET, {"key": FORGET, "run": run}, b"")
            with suppress(queue.Empty):
                if said.get(timeout=self._patience) is not None:
                    self.cells.pop(FORGET, None)
                    return
        self.end()

    def _listen(
        self, process: subprocess.Popen[bytes], cells: dict[str, Said]
    ) -> None:
        assert process.stdout is not None
        with suppress(frames.Ended):
            while True:
                message = frames.read(cast(Any, process.stdout))
                self._heard = awake()
                if (said := cells.get(str(message[0].get("key")))) is not None:
                    said.put(message)
        with suppress(OSError):
            process.kill()  # who says what is no message is not to be heard again
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                cast(IO[bytes], pipe).close()
        for said in list(cells.values()):
            said.put(None)

    @property
    def silent(self) -> bool:
        """Whether it has not been heard for too long."""
        return awake() - self._heard > HUNG_SECONDS

    @property
    def ended(self) -> str:
        """How it has ended, in words."""
        status = None if self._process is None else self._process.wait()
        return f"signal {-status}" if status and status < 0 else f"status {status}"

    def end(self, *, at_once: bool = False) -> None:
        """End it: asked first, so that it tidies up. Sandboxes die with it in any case."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return
            if not at_once:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(self._patience)
            process.kill()
            process.wait()


@dataclass
class _Run:
    """What a machine keeps of a run."""

    directory: Path
    table: Table
    asked: float
    active: int = 0
    incoming: dict[str, IO[bytes]] = field(default_factory=dict)


class WorkerMachine:
    """Runs cells on this machine, so many side by side as ``facts`` say.

    ``cache`` is where builds are kept; runs have directories of their own in ``home``. ``boards``
    are the environment files of its bench: what writes a chip is waited for when it is to end.
    ``engine`` is what this machine was told to run QEMUs with, if it was told.
    """

    def __init__(
        self, facts: WorkerFacts, cache: Path, home: Path, command: Sequence[str] = (),
        boards: Sequence[Path] = (), engine: str | None = None,
    ) -> None:
        self.facts = facts
        self._engine = engine
        self._cache = cache
        self.home = home
        self._build_caches: dict[str, BuildCache] = {}
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        self._processes = [_Process(f"slot-{number}", command or SLOT, home, boards)
                           for number in range(facts.slots)]
        self._free: queue.LifoQueue[_Process] = queue.LifoQueue()
        for process in reversed(self._processes):
            self._free.put(process)
        self._numbers = itertools.count()
        self._closed = threading.Event()
        threading.Thread(target=self._keep_house, daemon=True).start()

    def close(self) -> None:
        """End all processes, forget all runs, and remove the directory of them."""
        self._closed.set()
        self.end_all()
        with suppress(OSError, HarnessError):
            remove_tree(self.home)

    def end_all(self) -> None:
        """End all cells, and forget all runs: nobody is there who wants them."""
        _side_by_side([process.end for process in self._processes])
        for run in list(self._runs):
            self.forget(run)

    # ---- runs ------------------------------------------------------------------------------

    def prepare(self, run: str, table: bytes) -> list[str]:
        """Take a run's table of builds; the digests of those that are not here."""
        with self._taking:
            there = self._runs.get(run)
            directory = there.directory if there else Path(tempfile.mkdtemp(
                prefix=f"run-{run}-", dir=self.home))
            read = read_table(table)
            (directory / f"{TABLE}.new").write_bytes(table)
            (directory / f"{TABLE}.new").replace(directory / TABLE)
            if run not in self._build_caches:
                self._build_caches[run] = BuildCache(self._cache, ImageStore())
            if there:
                there.table, there.asked = read, awake()
            else:
                self._runs[run] = _Run(directory, read, awake())
            cache = self._build_caches[run]
            return [digest for digest in (*read.trees, *read.files) if not cache.has(digest)]

    def build(self, run: str, digest: str, name: str) -> bool:
        """Build a build of the catalogue here; whether it is the one of this digest."""
        store = ImageStore()
        if name in store.names(None):
            store.build([name], lambda line: None)
        with self._taking:
            cache = self._build_caches[run] = BuildCache(self._cache, ImageStore())
            return cache.has(digest)

    def receive(
        self, run: str, digest: str, is_tree: bool, offset: int, piece: bytes, last: bool
    ) -> None:
        """Take a piece of a build that was not here. Raises HarnessError for what it is not."""
        with self._taking:
            if run not in self._runs:
                raise HarnessError("the run is not known here any more")
            at = self._runs[run]
            at.asked = awake()
            if offset == 0:
                at.incoming[digest] = tempfile.TemporaryFile(  # noqa: SIM115  # until it is whole
                    dir=at.directory)
            file = at.incoming[digest]
            if file.tell() != offset:
                raise HarnessError("a piece of a build is missing")
            file.write(piece)
            if last:
                file.seek(0)
                with at.incoming.pop(digest) as whole:
                    self._build_caches[run].take(digest, is_tree, whole)

    def ask(self, run: str) -> bool:
        """Say that a run is still wanted; whether it is known here."""
        with self._lock:
            if run not in self._runs:
                return False
            self._runs[run].asked = awake()
            return True

    def forget(self, run: str) -> None:
        """End what runs for a run, and remove what is kept of it."""
        with self._lock:
            there = self._runs.pop(run, None)
        _side_by_side([partial(process.forget, run) for process in self._processes
                       if process.run == run])
        with self._taking:
            if (cache := self._build_caches.pop(run, None)) is not None:
                cache.close()
        if there is not None:
            for file in there.incoming.values():
                file.close()
            with suppress(OSError, HarnessError):
                remove_tree(there.directory)

    def _keep_house(self) -> None:
        while not self._closed.wait(1.0):
            with self._lock:
                over = [run for run, at in self._runs.items()
                        if awake() - at.asked > LEASE_SECONDS and not at.active]
            for run in over:
                self.forget(run)

    # ---- cells -----------------------------------------------------------------------------

    def run(
        self, run: str, task: bytes, wanted: Callable[[], bool], waits: Callable[[], None],
    ) -> Came:
        """Run a cell of a run.

        ``wanted`` is asked while it runs; ``waits`` is called when nothing is to be done for it
        but to wait for a guest that may be late, and another cell can run.
        """
        try:
            return self._run(run, task, wanted, waits)
        except Exception as error:  # a fault of ours is told, and not one more of dask's
            return _without_record("broken", in_a_line(error)[0])

    def _run(
        self, run: str, task: bytes, wanted: Callable[[], bool], waits: Callable[[], None],
    ) -> Came:
        with self._lock:
            there = self._runs.get(run)
            if there is None:
                return _without_record("unknown")
            there.active += 1
        process = self._free.get()
        freed = False
        try:
            process.start()
            process.run = run
            key = f"{next(self._numbers)}"
            said = process.send(key, {"key": key, "run_dir": str(there.directory),
                                      "engine": self._engine}, task)
            while True:
                try:
                    message = said.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    if process.silent:
                        process.end(at_once=True)
                        return _without_record("lost", "the process that ran it has said nothing "
                                                       f"for {HUNG_SECONDS:.0f} s")
                    if not wanted() or awake() - there.asked > LEASE_SECONDS:
                        process.cells.pop(key, None)
                        if not freed or not process.cells:
                            process.end()
                        return _without_record("stopped")
                    continue
                if message is None:
                    return _without_record(
                        "lost", f"the process that ran it has ended ({process.ended})")
                head, record, packed = message
                if head.get("waits"):
                    if not freed:
                        freed = True
                        self._free.put(process)
                        waits()
                    continue
                process.cells.pop(key, None)
                return CellAnswer.model_validate(head["answer"]), record, packed
        finally:
            if not freed:
                self._free.put(process)
            with self._lock:
                there.active -= 1


def _side_by_side(deeds: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=deed) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _without_record(state: Literal["lost", "broken", "unknown", "stopped"], why: str = "") -> Came:
    return CellAnswer(state=state, why=why), b"", b""


def home_of(cache: Path) -> Path:
    """Where runs have their directories on this machine: made, and this process's alone.

    It is held as long as this process lives: what is not held, a killed worker has left, and goes.
    """
    try:
        home = cache / "cluster-runs"
        home.mkdir(parents=True, exist_ok=True)
        for left in home.glob("worker-*"):
            with suppress(OSError, HarnessError):
                held = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove_tree(left)
                finally:
                    os.close(held)
        made = Path(tempfile.mkdtemp(prefix=f"worker-{os.getpid()}-", dir=home))
        fcntl.flock(os.open(made, os.O_RDONLY | os.O_DIRECTORY), fcntl.LOCK_SH)
        return made
    except OSError as error:
        raise UserError(f"cannot be made: {error.strerror}", file=cache) from None
