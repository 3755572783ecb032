"""Cells of real boards end to end: no engine, one board at a time, a bench that may be to blame."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

from bootmatrix.builds import image_store
from bootmatrix.builds.host import Builds
from bootmatrix.cell import Cell
from bootmatrix.engines import Sandbox
from bootmatrix.engines.confinement import Priority
from bootmatrix.errors import (
    BenchError,
    BoardTaken,
    EngineError,
    HarnessError,
    ImageMisfit,
    PlaceTaken,
)
from bootmatrix.machines.base import Hosts
from bootmatrix.machines.board import Bench, BoardFacts, BoardHosts, facts
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.matrix import unsupported
from bootmatrix.model import BoardSource, Host, Known, ResetBy, ShutdownBy, Verdict
from bootmatrix.policies import Policy
from bootmatrix.records.model import BenchRow, Record
from bootmatrix.run.cell_run import CellRun
from bootmatrix.run.guest import Guest
from bootmatrix.run.runner import Runner, Unjudged
from bootmatrix.steps.base import Ability, Step
from bootmatrix.steps.clear_nvram import ClearNvram
from bootmatrix.steps.guest_flash import GuestFlash
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from bootmatrix.steps.upgrade_host import UpgradeHost
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from bootmatrix.verdict import Judgement
from bootmatrix.witnesses.observation import StepObserved

NAME = "bench"
"""What stands in records in the place of an engine."""


class _NoEngine:
    """What a board runs in."""

    name = NAME
    priority = Priority.USUAL

    def sandbox(self, *_: object, **__: object) -> Sandbox:
        raise EngineError("a board runs in no sandbox")

    def close(self) -> None:
        """There is nothing."""

    def __enter__(self) -> _NoEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        """There is nothing."""


class BenchRunner(Runner):
    """Runs cells of boards: what misses its usual time is waited for at once, on the one board."""

    def __init__(
        self, builds: Builds, run_dir: Path, worker: str, cache: Path | None = None
    ) -> None:
        super().__init__(builds, _NoEngine(), run_dir, f"{worker}-{NAME}")
        self._cache = cache or image_store.cache_home()
        self._bench: Bench | None = None
        self._hosts: BoardHosts | None = None
        self._ending = False
        self._run_dir = run_dir
        # A worker whose controller was killed has others' cells left, which nobody wants.
        self._is_worker, self._parent = worker.startswith("gw"), os.getppid()

    def end(self) -> None:
        """Let what runs come to its end soon; from any thread."""
        self._ending = True
        bench = self._bench
        if bench is not None:
            bench.give_up()

    def _over(self) -> bool:
        """Whether no cell is to begin any more: the run ends, or who would read of it is gone."""
        return self._ending or (self._is_worker and os.getppid() != self._parent)

    def machines(self, setup: GuestSetup, rows: list[dict[str, Any]]) -> Hosts:
        """The board that is held."""
        assert self._bench is not None
        hosts = self._hosts = BoardHosts(self._bench, setup, self._scratch, rows)
        try:
            hosts.begin()
        except BaseException:
            hosts.close()
            raise
        return hosts

    def _cannot(self, cell: Cell, hosts: Sequence[Host]) -> str | None:
        boards = [host.qemu.board for host in hosts if host.qemu.board is not None]
        there = facts(boards[0])
        cannot = unsupported.reason(cell, hosts, there.abilities)
        return cannot or next(_reasons(cell, hosts, boards[0], there), None)

    def _attempt(self, run: CellRun, setup: GuestSetup) -> Record | Unjudged:
        """With the board held, which is waited for as long as a boot if somebody else has it."""
        patient = replace(run.cell, seconds=run.cell.longest, patience=run.cell.longest)
        run = replace(run, cell=patient, usual=run.cell.seconds)
        boards = [host.qemu.board for host in setup.hosts if host.qemu.board is not None]
        # One board: what one of its hosts asks for is done to all that it held.
        source = replace(boards[0], restore=any(board.restore for board in boards))
        self._bench = self._hosts = None
        try:
            if self._over():
                raise BoardTaken("the run was ended before the board was free")
            self._bench = Bench(source, self._cache, run.cell.longest,
                                f"the run in {self._run_dir.resolve()}", self._over)
        except HarnessError as error:
            return run.broken(error, [], [])
        try:
            return super()._attempt(run, setup.patient(run.cell.longest))
        finally:
            self._bench.close()

    def _behind(self, error: HarnessError, guest: Guest | None, run: CellRun) -> HarnessError:
        assert self._bench is not None
        run.notes["bench"] = cast(BenchRow, self._bench.notes)
        fine = isinstance(error, ImageMisfit | PlaceTaken)
        if isinstance(error, BenchError) and not fine and not self._ending:
            self._bench.blame(error.message)
        return error

    def _judged(
        self, run: CellRun, setup: GuestSetup, seen: list[StepObserved],
        qemus: list[dict[str, Any]], launched: list[int], judgement: Judgement, begin: int = 0,
    ) -> Record | Unjudged:
        """What failed where the bench is known to be at fault tells nothing of the firmware."""
        assert self._hosts is not None
        bench = self._hosts.bench
        run.notes["bench"] = cast(BenchRow, bench.notes)
        bench.notes["noise"] = round(bench.line.hearing.noise, 4)
        complaint = self._hosts.complaint() if judgement.verdict is not Verdict.PASS else None
        if complaint is not None:
            if not self._ending:
                bench.blame(complaint)
            return run.broken(BenchError(complaint), seen, qemus)
        bench.clear()
        return run.record(judgement, seen, qemus)

    def _start_apart(self, key: str, setup: GuestSetup, start: Start) -> list[StepObserved]:
        return []  # there is one board, and it is in use


class BesideRunner:
    """A BenchRunner in a thread of its own, so that QEMUs' cells wait for no board.

    labgrid is one thread's: boards go side by side in several workers.
    """

    def __init__(self, builds: Builds, run_dir: Path, worker: str) -> None:
        self._runner = BenchRunner(builds, run_dir, worker)
        self._thread = ThreadPoolExecutor(1, NAME)
        self._begun: list[Future[Record]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._runner.end()
        if any(not cell.done() for cell in self._begun):
            with suppress(OSError):
                os.write(2, b"bootmatrix: a board is seen to, and what is in its chip ...\n")
        self._thread.shutdown(cancel_futures=True)
        self._runner.close()

    def begin(
        self, matrix: str, cell: Cell, declared: Sequence[Known], repeat: int
    ) -> Future[Record]:
        """Run a cell of that matrix as soon as those before it are done."""
        def run() -> Record:
            self._runner.matrix = matrix
            return self._runner.run(cell, declared, repeat)

        self._begun.append(future := self._thread.submit(run))
        return future


def _reasons(
    cell: Cell, hosts: Sequence[Host], board: BoardSource, there: BoardFacts
) -> Iterator[str]:
    """Why a cell cannot be run on a board, beside what its steps say that they need."""
    lacks = f"board {board} has none in its environment file"
    if len([host for host in hosts if host.qemu.board]) < len(hosts):
        yield "a guest does not move between a board and a QEMU"
    if cell.policy.reflashes and not there.programmer:
        yield (f"{cell.policy} needs {Ability.REPLACE_FIRMWARE.value}: a programmer, "
               f"and {lacks}")
    steps = cell.scenario.steps
    if any(isinstance(step, Shutdown) and step.by is ShutdownBy.GUEST for step in steps):
        yield "nobody sees that a board has shut itself down"
    if any(isinstance(step, GuestFlash) for step in steps) and there.update is None:
        yield ("guest-flash needs a file that the board programs itself from: "
               f"bootmatrix-update, and {lacks}")
    store = all(host.firmware.store_size for host in hosts) and there.programmer
    if any(isinstance(step, GuestFlash) for step in steps) and cell.policy.reflashes:
        yield f"under {cell.policy} a chip is not its guest's to program"
    if any(isinstance(step, ClearNvram) for step in steps) and not (there.clear_cmos or store):
        yield f"clear-nvram needs a digital output clear-cmos, or a programmer and UEFI: {lacks}"
    if not there.live and cell.policy is not Policy.MACHINE_OWNED:  # which waits for a start
        yield from _too_late(steps, board)


def _too_late(steps: Sequence[Step], board: BoardSource) -> Iterator[str]:
    """A chip that is written only while the board is off is not, before a guest's own reset."""
    running = waits = False
    for step in steps:
        if isinstance(step, Start):
            running = True
        elif isinstance(step, Shutdown):
            running = waits = False
        elif isinstance(step, UpgradeHost | UpgradeNvram):
            waits = running
        elif isinstance(step, Reset) and waits:
            if step.by is not ResetBy.MONITOR:
                yield (f"the chip of board {board} is written while it is off, and the guest resets"
                       " it before: bootmatrix-live-flash, if its programmer can do so")
            waits = False
