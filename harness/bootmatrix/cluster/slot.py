"""A process that runs cells for a worker, one after the other, with the ordinary rig.

It is told cells on its standard input and tells records on its standard output. It ends with its
worker: at the end of file there. While it lives it says so, whatever a cell does meanwhile.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from bootmatrix.builds import image_store
from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.cluster import artifacts, frames
from bootmatrix.cluster.model import CellAnswer, Task, read_task
from bootmatrix.cluster.table import BuildCache, SentBuilds, boards_of, read_table
from bootmatrix.ending import at_end_of_parent, end_tidily
from bootmatrix.errors import HarnessError, UserError, in_a_line
from bootmatrix.files.cell_files import remove_tree
from bootmatrix.machines.bench.seat import CHIP_SECONDS
from bootmatrix.model import Verdict
from bootmatrix.records.jsonl import as_line
from bootmatrix.records.outcome import Outcome, outcome_of
from bootmatrix.run.rig import Begun, Rig

BEAT_SECONDS = 1.0
"""So often it says that it lives."""
_POLL_SECONDS = 0.2
_END_SECONDS = 3.0
FORGET = "forget"
"""The key of a message that asks it to let go of a run."""
TABLE = "builds.json"
"""The run's table of builds, in its directory on a worker."""


class SentRig(Rig):
    """The rig of a run's cells on a worker: its builds are those that came with the run.

    ``boards`` are the environment files of this machine's bench.
    """

    def __init__(self, task: Task, run_dir: Path, worker: str, boards: Sequence[Path]) -> None:
        super().__init__(task.engine, run_dir, worker)
        self.share = task.share
        table = read_table((run_dir / TABLE).read_bytes())
        store = ImageStore()
        self._sent = SentBuilds(
            store, table, BuildCache(image_store.cache_home(), store), boards_of(boards))

    @property
    def builds(self) -> Builds:
        """Those of the run's table."""
        return self._sent

    def _is_of_a_board(self, cell: Cell) -> bool:
        return any(self._sent.host(host).qemu.board is not None for host in cell.hosts)

    def disk(self, digest: str) -> Path:
        """Where a disk image of a guest's own is. Raises HarnessError."""
        return self._sent.disk(digest)

    def close(self) -> None:
        """End what was opened, and let go of the builds."""
        try:
            super().close()
        finally:
            self._sent.close()


MakeRig = Callable[[Task, Path, str, Sequence[Path]], SentRig]


class Slot:
    """Runs cells that come on one file, and tells what comes of them on another."""

    def __init__(
        self, name: str, incoming: BinaryIO, outgoing: BinaryIO, make_rig: MakeRig = SentRig,
        boards: Sequence[Path] = (),
    ) -> None:
        self._name = name
        self._boards = boards
        self._in = incoming
        self._out = outgoing
        self._make_rig = make_rig
        self._writing = threading.Lock()
        self._over = threading.Event()
        self._rig: SentRig | None = None
        self._run = ""
        self._waiting: dict[str, tuple[Task, Path, Begun]] = {}

    def serve(self) -> None:
        """Run cells until nobody tells any more."""
        threading.Thread(target=self._beat, daemon=True).start()
        try:
            while True:
                if self._waiting and not self._comes():
                    self._look()
                    continue
                head, body, _ = frames.read(self._in)
                if head["key"] == FORGET:
                    if head["run"] == self._run:
                        self._close()
                    self._send({"key": FORGET})
                else:
                    self._take(str(head["key"]), Path(head["run_dir"]), body, head.get("engine"))
        except frames.Ended:
            pass
        finally:
            self._close()
            self._over.set()

    def _comes(self) -> bool:
        return bool(select.select([self._in], [], [], _POLL_SECONDS)[0])

    def _look(self) -> None:
        """Tell of those that were waited for."""
        for key, (task, run_dir, begun) in list(self._waiting.items()):
            if not begun.waits:
                del self._waiting[key]
                self._tell(key, *self._finish(task, run_dir, begun))

    def _take(self, key: str, run_dir: Path, body: bytes, engine: str | None) -> None:
        try:
            task = read_task(body)
            # A run that asks for another engine than this machine's never gives it a cell.
            task = task.model_copy(update={"engine": task.engine or engine})
            if task.run != self._run:
                self._close()
                self._rig, self._run = self._make_rig(
                    task, run_dir, self._name, self._boards), task.run
            assert self._rig is not None
            self._rig.matrix = task.matrix
            begun = self._rig.begin(task.cell(self._rig.disk), task.declared(), task.repeat)
        except Exception as error:
            self._tell(key, _broken(error))
            return
        if begun.waits:
            self._waiting[key] = task, run_dir, begun
            self._send({"key": key, "waits": True})
        else:
            self._tell(key, *self._finish(task, run_dir, begun))

    def _finish(self, task: Task, run_dir: Path, begun: Begun) -> tuple[CellAnswer, bytes, bytes]:
        try:
            record = begun.record()
            packed = b""
            if place := record.get("artifacts"):
                directory = artifacts.inside(run_dir, place)
                if task.all_artifacts or _of_interest(record["verdict"], outcome_of(record)):
                    packed = artifacts.pack(directory, run_dir)
                else:
                    record["artifacts"] = ""
                with suppress(OSError, HarnessError):
                    remove_tree(directory)
        except Exception as error:
            return _broken(error), b"", b""
        return CellAnswer(state="done"), as_line(record), packed

    def _tell(
        self, key: str, answer: CellAnswer, record: bytes = b"", packed: bytes = b""
    ) -> None:
        self._send({"key": key, "answer": answer.model_dump()}, record, packed)

    def _send(self, head: dict[str, Any], body: bytes = b"", packed: bytes = b"") -> None:
        with self._writing:
            frames.write(self._out, head, body, packed)

    def _beat(self) -> None:
        with suppress(frames.Ended):
            while not self._over.wait(BEAT_SECONDS):
                self._send({"beat": True})
        # Its worker is gone: it ends, even in the middle of a cell, as it would if it were asked.
        if not self._over.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
            if not self._over.wait(CHIP_SECONDS if self._boards else _END_SECONDS):
                os._exit(1)  # and the sandboxes with it

    def _close(self) -> None:
        self._waiting.clear()
        rig, self._rig, self._run = self._rig, None, ""
        if rig is not None:
            with suppress(HarnessError):
                rig.close()


def _of_interest(verdict: str, outcome: Outcome) -> bool:
    """Whether a cell's files come back where nobody asks for all."""
    return verdict == Verdict.ERROR or outcome not in (Outcome.PASSED, Outcome.UNSUPPORTED)


def _broken(error: Exception) -> CellAnswer:
    if isinstance(error, HarnessError | UserError):
        return CellAnswer(state="broken", why=str(error)[:4000])
    return CellAnswer(state="broken", why=in_a_line(error)[0][:4000])


def main(make_rig: MakeRig = SentRig) -> None:
    """Run cells for the worker that has started this process."""
    incoming = os.fdopen(os.dup(0), "rb", buffering=0)
    outgoing = os.fdopen(os.dup(1), "wb")
    # What anything prints by mistake must not come between messages.
    os.dup2(2, 1)
    with open(os.devnull) as nothing:  # noqa: PTH123  # a descriptor
        os.dup2(nothing.fileno(), 0)
    end_tidily()
    # It sees that its worker is gone only while it goes on.
    at_end_of_parent(signal.SIGCONT)
    # Ctrl-C on the worker's terminal is the worker's, which ends its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    slot = Slot(sys.argv[1], cast(BinaryIO, incoming), outgoing, make_rig,
                list(map(Path, sys.argv[2:])))
    with suppress(KeyboardInterrupt):
        slot.serve()


if __name__ == "__main__":
    main()
