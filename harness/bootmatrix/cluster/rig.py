"""The rig of a run whose cells go to a cluster: builds are made ready here, cells run elsewhere."""

from __future__ import annotations

import math
import os
import platform
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootmatrix import arguments
from bootmatrix.cluster import address as addresses
from bootmatrix.cluster import artifacts
from bootmatrix.cluster.client import Cluster, GivenCell
from bootmatrix.cluster.local import LocalCluster
from bootmatrix.cluster.model import (
    HostData,
    LimitsData,
    Needs,
    Task,
    guest_data,
    known_data,
    words_data,
)
from bootmatrix.cluster.table import Packing
from bootmatrix.cluster.wishes import ClusterWishes
from bootmatrix.errors import HarnessError
from bootmatrix.guests import program_of
from bootmatrix.model import BoardSource, Verdict
from bootmatrix.records import rows
from bootmatrix.records.model import parsed
from bootmatrix.run.rig import Begun, Rig
from bootmatrix.run.sharing import key_of, shared_steps
from bootmatrix.run.workers import side_by_side
from bootmatrix.steps.library import written

if TYPE_CHECKING:
    from bootmatrix.cell import Cell
    from bootmatrix.model import Host, HostSpec, Known
    from bootmatrix.records.model import CellRow, Record

_POLL_SECONDS = 0.5
# A step's guest is waited for by a clock that stands still where QEMU cannot run.
_MOST_SECONDS = 300.0
_TIMES_PATIENCE = 3


class ClusterRig(Rig):
    """A rig whose cells run on the workers of a cluster."""

    def __init__(
        self, wishes: ClusterWishes, engine_name: str | None, run_dir: Path, worker: str = "main"
    ) -> None:
        super().__init__(engine_name, run_dir, worker)
        self._wishes = wishes
        self._engine_wanted = engine_name
        self._packing = Packing()
        self._name = os.urandom(8).hex()
        self._cluster: Cluster | None = None
        self._local: LocalCluster | None = None
        self._prepared: set[HostSpec] = set()
        self._made: dict[HostSpec, Host] = {}
        self._given: dict[GivenCell, Begun] = {}
        self._lock = threading.Lock()
        self._progress: Callable[[str], None] = lambda line: None

    def prepare(
        self, hosts: Iterable[HostSpec], progress: Callable[[str], None] = lambda line: None
    ) -> None:
        """Make ready what hosts need, here: what workers lack of it is sent to them."""
        new = [host for host in hosts if host not in self._prepared]
        if new:
            super().prepare(new, progress)
            self._progress = progress
            self._prepared |= set(new)

    def open(self, cells: Sequence[Cell], progress: Callable[[str], None]) -> None:
        """Find the workers, and send them what these cells need. Raises HarnessError."""
        if self._broken is not None:
            raise self._broken
        try:
            self._open(cells, progress)
        except HarnessError as error:
            self._broken = error
            raise

    def _open(self, cells: Sequence[Cell], progress: Callable[[str], None]) -> None:
        for spec in dict.fromkeys(host for cell in cells for host in cell.hosts):
            self._made.setdefault(spec, self.builds.host(spec))
            self._packing.key(self._made[spec])
        for guest in dict.fromkeys(cell.guest for cell in cells):
            guest_data(guest, self._packing.disk)
        address = addresses.parse(self._wishes.address)
        if address.local:
            slots = self._wishes.jobs or side_by_side()
            boards = {spec.qemu.env: None for cell in cells for spec in cell.hosts
                      if isinstance(spec.qemu, BoardSource)}
            self._local = LocalCluster(
                address.local, max(1, slots // address.local), self._engine_wanted, boards)
            address = self._local.open()
        self._cluster = Cluster(
            address, addresses.security(self._wishes.tls), self._name,
            self._packing.table(self.builds.firmwares()), self._packing.sent, progress,
            self._wishes.same_roots)
        self._cluster.open()
        self._cluster.wait_for_workers(address.local or 1)
        names = ", ".join(f"{at.name} ({at.facts.slots})"
                          for at in self._cluster.ready if at.facts)
        progress(f"workers, with so many cells side by side: {names}")
        self._tell_of_homeless(cells, progress)

    def _tell_of_homeless(self, cells: Sequence[Cell], progress: Callable[[str], None]) -> None:
        """Say of which cells no worker can run any, and what is missing."""
        assert self._cluster is not None
        found: dict[str, int] = {}
        for cell in cells:
            if lacks := self._cluster.lacking(self._needs(cell)):
                found[lacks] = found.get(lacks, 0) + 1
        for lacks, number in found.items():
            progress(f"{number} cell{'s' * (number != 1)} can run on no worker: {lacks}")

    @property
    def has_capacity(self) -> bool:
        """Whether another cell keeps a worker busy."""
        return self._cluster is not None and self._cluster.has_capacity

    def begin(self, cell: Cell, known: Sequence[Known], repeat: int = 1) -> Begun:
        """Give a cell to the cluster; its record comes later."""
        if self._broken is not None:
            raise self._broken
        if self._cluster is None:
            self.open([cell], self._progress)
        assert self._cluster is not None
        needs = self._needs(cell)
        lacks = self._cluster.lacking(needs)
        if lacks and self._cluster.ready:
            record = rows.record(
                self.describe(cell), Verdict.UNSUPPORTED, f"no worker can run it: {lacks}",
                scenario=cell.scenario, engine=self._engine_wanted or "", seconds=0)
            return Begun(record)
        hosts = self._hosts(cell)
        given = self._cluster.give(
            self._task(cell, hosts, known, repeat), needs, self._beginning(cell, hosts),
            _most(cell))

        def judged() -> Record:
            while not given.over:
                self.wait(_POLL_SECONDS)
            return self._record(given, cell, known)

        begun = Begun(None, lambda: given.over, judged)
        self._given[given] = begun
        return begun

    def wait(self, seconds: float) -> list[Begun]:
        """Those of the cells that have come back meanwhile; for so many seconds at most."""
        assert self._cluster is not None
        return [self._given.pop(given) for given in self._cluster.take(seconds)
                if given in self._given]

    def close(self) -> None:
        """Let go of the cluster: what still runs there ends."""
        try:
            if self._cluster is not None:
                self._cluster.close()
            if self._local is not None:
                self._local.close()
        finally:
            super().close()

    # ---- a cell as data, and back -----------------------------------------------------------

    def _hosts(self, cell: Cell) -> list[Host]:
        """A cell's builds, which stay what they are as long as the run lasts."""
        for spec in cell.hosts:
            if spec not in self._made:
                self._made[spec] = self.builds.host(spec)
        return [self._made[spec] for spec in cell.hosts]

    def describe(self, cell: Cell) -> CellRow:
        """The cell as its record describes it."""
        return rows.cell_row(cell, self._hosts(cell))

    def _needs(self, cell: Cell) -> Needs:
        hosts = self._hosts(cell)
        boards = {host.qemu.digest: str(host.qemu.board) for host in hosts if host.qemu.board}
        if boards:  # which need nothing else, whatever machine their bench is at
            return Needs(machine=None, boards=tuple(boards.items()))
        return Needs(
            machine=platform.machine(), kvm=cell.accel.with_kvm, memory=_memory(cell, hosts),
            engine=self._engine_wanted)

    def _task(
        self, cell: Cell, hosts: Sequence[Host], known: Sequence[Known], repeat: int
    ) -> Task:
        return Task(
            run=self._name, matrix=self.matrix, id=cell.id,
            hosts=[HostData(name=spec.name, builds=self._packing.key(host), arch=spec.arch.value,
                            arguments=list(spec.arguments))
                   for spec, host in zip(cell.hosts, hosts, strict=True)],
            values=cell.values, words=words_data(cell),
            guest=guest_data(cell.guest, self._packing.disk), steps=_steps(cell),
            seconds=cell.seconds, patience=cell.patience, debug_log=cell.debug_log,
            limits=LimitsData(**cell.limits.given), known=[known_data(one) for one in known],
            repeat=repeat, engine=self._engine_wanted,
            share=self.share, all_artifacts=self._wishes.all_artifacts, attempt=1)

    def _beginning(self, cell: Cell, hosts: Sequence[Host]) -> str | None:
        """What cells share that begin alike, where beginnings are shared."""
        if not self.share:
            return None
        steps = cell.scenario.steps[: shared_steps(cell.scenario.steps, cell.migration)]
        return key_of(cell, hosts, steps) if steps else None

    def _record(self, given: GivenCell, cell: Cell, known: Sequence[Known]) -> Record:
        """The record of a cell that has come back. Raises HarnessError."""
        if given.error is not None:
            self._broken = given.error
            raise given.error
        assert given.answer is not None
        if given.answer.state != "done":
            record = rows.record(
                self.describe(cell), Verdict.ERROR, given.answer.why, scenario=cell.scenario,
                declared=known, engine=self._engine_wanted or "", seconds=0)
        else:
            try:
                record = parsed(given.record)
            except ValueError as error:
                raise HarnessError(f"{given.worker}: {error}") from None
            self._check_about(record, self.describe(cell), given.worker)
        if given.packed:
            place = artifacts.inside(self.run_dir, record.get("artifacts") or "")
            artifacts.unpack(given.packed, place)
        if given.worker:
            record["worker"] = given.worker
        if given.lost:
            record["attempts"] = len(given.lost) + (given.answer.state == "done")
        return record

    def _check_about(self, record: Record, described: CellRow, worker: str) -> None:
        """Raise HarnessError for the record of another cell, or of other builds."""
        if record["cell"] != described:
            raise HarnessError(f"{worker}: what came for {described['id']} is about something else")


def _most(cell: Cell) -> float:
    """Seconds after which a cell that has not ended never will, however busy its machine is."""
    if any(isinstance(host.qemu, BoardSource) for host in cell.hosts):
        return math.inf  # its bench has time limits, of which one is half an hour
    return _MOST_SECONDS + _TIMES_PATIENCE * cell.longest * (len(cell.scenario.steps) + 1)


def _memory(cell: Cell, hosts: Sequence[Host]) -> int:
    """MiB that its guest takes on two hosts, as it is told or needs; 0: nothing is known."""
    own, need = cell.own_machine, 0
    if cell.board is not None:
        need = max(program_of(cell.guest.kind, hosts[0].firmware, cell.arch).mib,
                   *(cell.board.memory_mib(host.firmware) for host in hosts))
    configured = arguments.mib(cell.memory or (own.memory if own else ""))
    each = [arguments.mib(arguments.last((*cell.words, *host.arguments), "m") or "")
            or configured or need for host in hosts]
    return sum(sorted(each)[-2:])


def _steps(cell: Cell) -> list[Any]:
    return [written(step) for step in cell.scenario.steps]
