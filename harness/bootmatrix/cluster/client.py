"""A run's side of a cluster: gives cells to its workers and takes what comes of them.

Which worker runs a cell is dask's decision, among those that can. What is added is what a run of
cells must have: no more of them are on their way than keep all workers busy, cells that take no
time go together, one is run again only so often, a worker that says nothing any more is not waited
for, nor a cell that never ends, and an answer counts once.

All is done on the thread of dask's client; the run's own thread gives cells and takes answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import queue
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bootmatrix.cell import AXES
from bootmatrix.cluster import quiet, worker
from bootmatrix.cluster.address import Address, trouble
from bootmatrix.cluster.model import (
    PROTOCOL,
    CellAnswer,
    Needs,
    Task,
    WorkerFacts,
    read_answer,
    read_facts,
)
from bootmatrix.cluster.table import Sent, Table
from bootmatrix.errors import HarnessError

if TYPE_CHECKING:
    from distributed.security import Security

MOST_ATTEMPTS = 3
"""So often a cell is run at most, where workers are lost with it."""
SILENT_SECONDS = 10.0
"""A worker that the scheduler has not heard for so long is not waited for."""
ALONE_SECONDS = 30.0
"""A run whose last worker has gone, or a cell's, waits so long for another one."""
MOST_CELLS = 64
"""So many cells go together at most, as one task of dask's."""
_TOGETHER_SECONDS = worker.BATCH_SECONDS / 2
_NEW_SHARE = 0.3  # of the last cells in what is known of how long cells take
_GONE = "it has gone"
_GONE_SECONDS = 15.0
_TICK_SECONDS = 1.0
_CALL_SECONDS = 30.0
_SEND_SECONDS = 900.0
_PIECE = 4 << 20
# Cells beyond those that can run at a time, so that no slot waits for the next one to arrive.
_AHEAD = 2
_AHEAD_AT_LEAST = 12


class State(Enum):
    """What a worker is to this run."""

    NEW = "new"
    READY = "ready"
    SILENT = "silent"
    UNFIT = "unfit"


@dataclass
class At:
    """A worker. ``why`` says what makes it unfit."""

    address: str
    state: State = State.NEW
    facts: WorkerFacts | None = None
    why: str = ""
    seen: float = 0.0  # by the scheduler's clock
    heard: float = 0.0  # by ours
    welcome: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """As its machine calls itself."""
        return self.facts.name if self.facts is not None else self.address


@dataclass(eq=False)
class GivenCell:
    """A cell that was given to the cluster; ``most`` is how many seconds it may take.

    ``began`` are the workers that have begun it, or the cells with which it went, one for each
    time; once one was lost, it goes ``alone``, as it may be why. When it is ``over``, there is an
    ``answer``, with its record and its files, or an ``error``; ``worker`` is who gave it.
    """

    task: Task
    needs: Needs
    beginning: str | None
    most: float
    began: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    alone: bool = False
    homeless_since: float | None = None
    batch: Batch | None = None
    waits: bool = False
    over: bool = False
    answer: CellAnswer | None = None
    record: bytes = b""
    packed: bytes = b""
    worker: str = ""
    error: HarnessError | None = None


@dataclass(eq=False)
class Batch:
    """Cells that go together, as one task of dask's. ``worker`` has begun it, ``since`` then."""

    key: str
    cells: list[GivenCell]
    allowed: tuple[str, ...]
    future: Any = None  # dask's: what there is of it has no types
    worker: str = ""
    since: float = 0.0

    @property
    def left(self) -> list[GivenCell]:
        """Those of its cells of which nothing has come yet, in their order."""
        return [given for given in self.cells if given.batch is self]


class Cluster:
    """The workers of a scheduler, for one run.

    ``table`` and ``sent`` are the run's builds. With ``same_roots`` workers get those that they
    lack from here; else they build the catalogue's themselves, and one whose build is another is
    not used. ``progress`` gets lines about workers.
    """

    def __init__(
        self, address: Address, security: Security | None, run: str, table: Table,
        sent: Mapping[str, Sent], progress: Callable[[str], None], same_roots: bool = True,
    ) -> None:
        self.address = address
        self.workers: dict[str, At] = {}
        self.flying = 0  # without those of boards, each of which waits for its turn
        self.most_flying = 0
        self._security = security
        self._run = run
        self._table = table
        self._table_data = table.model_dump_json().encode()
        self._sent = sent
        self._progress = progress
        self._same_roots = same_roots
        self._client: Any = None
        self._packed: dict[str, asyncio.Future[IO[bytes]]] = {}
        self._batches: dict[str, Batch] = {}
        self._new: deque[GivenCell] = deque()
        self._seconds = _TOGETHER_SECONDS
        self._unplaced: list[GivenCell] = []
        self._homes: dict[str, str] = {}
        self._bound: Counter[str] = Counter()  # cells that can go to one worker alone
        self._over: queue.SimpleQueue[GivenCell] = queue.SimpleQueue()
        self._arrived: list[Batch] = []
        self._broken: HarnessError | None = None
        self._number = 0
        self._alone_since = time.monotonic()
        self._watch: asyncio.Task[None] | None = None
        self._changed = threading.Event()
        self._background: set[asyncio.Task[Any]] = set()

    # ---- the run's own thread ------------------------------------------------------------------

    def open(self) -> None:
        """Find the scheduler. Raises HarnessError if none answers."""
        quiet.settle()
        import distributed

        make: Any = distributed.Client
        try:
            self._client = make(
                self.address.text, security=self._security, timeout=worker.CONNECT_SECONDS,
                set_as_default=False, direct_to_workers=False, name="bootmatrix")
        except (OSError, TimeoutError, ValueError) as error:
            reason = trouble(self.address, self._security) or (
                str(error).splitlines()[0] if str(error) else type(error).__name__)
            raise HarnessError(f"{self.address.text}: no scheduler answers: {reason[:200]}"
                               ) from None
        self._client.subscribe_topic(worker.topic(self._run), self._hear)
        self._on_loop(self._begin()).result()

    def close(self) -> None:
        """Let go of all that was given, and have the workers forget the run."""
        client, self._client = self._client, None
        if client is None:
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(
                self._end(client), client.loop.asyncio_loop).result(_CALL_SECONDS)
        with contextlib.suppress(Exception):
            client.close(timeout=5)
        for packed in self._packed.values():
            if packed.done() and not packed.cancelled() and packed.exception() is None:
                packed.result().close()

    def wait_for_workers(self, least: int = 1, seconds: float = _SEND_SECONDS) -> None:
        """Wait until all workers that are there are ready, or are known not to be fit.

        Raises HarnessError where there is none, or none that is fit.
        """
        begun = time.monotonic()
        while self._broken is None and time.monotonic() - begun < seconds:
            self._changed.clear()
            states = [at.state for at in list(self.workers.values())]
            if len(states) >= least and State.NEW not in states:
                break
            if not states and time.monotonic() - begun > ALONE_SECONDS:
                break
            self._changed.wait(_TICK_SECONDS)
        if self._broken is not None:
            raise self._broken
        if not self.ready:
            raise self._no_worker()

    @property
    def ready(self) -> list[At]:
        """The workers that cells can go to."""
        return [at for at in list(self.workers.values()) if at.state is State.READY]

    def lacking(self, needs: Needs) -> str:
        """What each worker lacks for a cell; empty if one can run it."""
        found = {}
        for at in self.ready:
            assert at.facts is not None
            if not (lacks := needs.lacking(at.facts)):
                return ""
            found[at.name] = lacks
        return "; ".join(f"{name} {lacks}" for name, lacks in sorted(found.items()))

    @property
    def has_capacity(self) -> bool:
        """Whether another cell keeps a worker busy."""
        slots = sum(at.facts.slots for at in self.ready if at.facts)
        most = max(_AHEAD * slots * self._together, slots + _AHEAD_AT_LEAST)
        return self.flying < most or self.flying < most + self._waiting()

    def give(
        self, task: Task, needs: Needs, beginning: str | None = None, most: float = math.inf
    ) -> GivenCell:
        """Give a cell to the cluster; it goes off when the run waits.

        ``beginning`` is what other cells share with it, ``most`` how many seconds it may take.
        """
        if self._broken is not None:
            raise self._broken
        given = GivenCell(task, needs, beginning, most)
        self.flying += not needs.boards
        self._new.append(given)
        return given

    def take(self, seconds: float) -> list[GivenCell]:
        """The cells that are over by now; waits for one, for so many seconds at most."""
        if self._new:
            self._client.loop.asyncio_loop.call_soon_threadsafe(self._place_new)
        taken: list[GivenCell] = []
        with contextlib.suppress(queue.Empty):
            taken.append(self._over.get(timeout=seconds))
            while True:
                taken.append(self._over.get_nowait())
        self.flying -= sum(not given.needs.boards for given in taken)
        return taken

    @property
    def _together(self) -> int:
        """How many cells go together: one, unless cells take next to no time."""
        return max(1, min(MOST_CELLS, int(_TOGETHER_SECONDS / self._seconds)))

    def _waiting(self) -> int:
        """How many cells only wait for a guest that may be late."""
        return sum(given.waits and not given.needs.boards
                   for batch in list(self._batches.values()) for given in batch.cells)

    def _on_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._client.loop.asyncio_loop)

    # ---- dask's thread --------------------------------------------------------------------------

    async def _begin(self) -> None:
        self._watch = asyncio.ensure_future(self._look_after())

    async def _end(self, client: Any) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for task in list(self._background):
            task.cancel()
        futures = [batch.future for batch in self._batches.values()]
        self._batches.clear()
        if client.status == "running" and self._broken is None:
            if futures:
                await client._cancel(futures)
            calls = [client._run(worker.forget, self._run, workers=[at.address])
                     for at in self.workers.values()
                     if at.state is not State.SILENT and at.why != _GONE]
            await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)

    def _later(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _place_new(self) -> None:
        given = []
        with contextlib.suppress(IndexError):
            while True:
                given.append(self._new.popleft())
        self._place(given)

    def _place(self, given: Sequence[GivenCell]) -> None:
        """Give cells to dask, those that can go to the same places in one graph."""
        groups: dict[tuple[Any, ...], list[GivenCell]] = {}
        self._bound = Counter(batch.allowed[0] for batch in self._batches.values()
                              if len(batch.allowed) == 1 for _ in batch.left)
        for one in given:
            if allowed := self._choose(one):
                groups.setdefault((allowed, one.needs.resources), []).append(one)
        for (allowed, resources), group in groups.items():
            batches = [self._batch(cells, allowed) for cells in self._cut(group)]
            futures = self._client.map(
                worker.run_cells, [list(map(_data, batch.cells)) for batch in batches],
                run=self._run, key=[batch.key for batch in batches], pure=False,
                workers=list(allowed), resources=dict(resources))
            for batch, future in zip(batches, futures, strict=True):
                batch.future = future
                self._later(self._wait_for(batch))

    def _choose(self, given: GivenCell) -> tuple[str, ...]:
        """The workers for a cell; one that none can take now is kept for later."""
        if self._broken is not None:
            self._finish(given, error=self._broken)
            return ()
        able = [at for at in self.ready if at.facts and not given.needs.lacking(at.facts)]
        others = [at for at in able if at.address not in given.lost]
        allowed = tuple(at.address for at in self._at_home(given, others or able))
        if not allowed or self._client is None:
            self._keep(given)
            return ()
        given.homeless_since = None
        return allowed

    def _keep(self, given: GivenCell) -> None:
        """Keep a cell for a worker that can run it; not for ever, where others are there."""
        now = time.monotonic()
        given.homeless_since = given.homeless_since or now
        states = {at.state for at in self.workers.values()}
        if now - given.homeless_since > ALONE_SECONDS and State.READY in states and \
                State.NEW not in states:
            self._finish(given, CellAnswer(
                state="lost", why=f"no worker is left that can run it: "
                                  f"{self.lacking(given.needs)}"))
        else:
            self._unplaced.append(given)

    def _at_home(self, given: GivenCell, able: list[At]) -> list[At]:
        """Of the workers that can run it, that which has its beginning, unless others are idle."""
        if given.beginning is None or len(able) < 2:
            return able

        def load(at: At) -> float:
            assert at.facts is not None
            return self._bound[at.address] / at.facts.slots

        home = next((at for at in able if at.address == self._homes.get(given.beginning)), None)
        if home is None or load(home) >= _AHEAD:
            home = min(able, key=load)
            self._homes.setdefault(given.beginning, home.address)
        self._bound[home.address] += 1
        return [home]

    def _cut(self, group: Sequence[GivenCell]) -> Iterator[list[GivenCell]]:
        """Cells that go together, in their order."""
        yield from ([given] for given in group if given.alone or given.needs.boards)
        others = [given for given in group if not (given.alone or given.needs.boards)]
        together = self._together
        for begin in range(0, len(others), together):
            yield others[begin:begin + together]

    def _batch(self, cells: list[GivenCell], allowed: tuple[str, ...]) -> Batch:
        self._number += 1
        batch = Batch(f"bootmatrix-{self._run}-{self._number}", cells, allowed)
        self._batches[batch.key] = batch
        for given in cells:
            given.batch, given.waits = batch, False
        return batch

    async def _wait_for(self, batch: Batch) -> None:
        """Take what comes of a batch's future; many that come at once are fetched at once."""
        future = batch.future
        await future._state.wait()
        if batch.key not in self._batches:
            return  # its cells were given anew
        if future.status == "finished":
            self._arrived.append(batch)
            if len(self._arrived) == 1:
                await asyncio.sleep(0)
                arrived, self._arrived = self._arrived, []
                await self._fetch(arrived)
        elif future.status == "error":
            error = await future._exception()
            message = " ".join(str(error).split())[:300]
            self._lose_all(batch, f"{type(error).__name__}: {message}", over=len(batch.cells) == 1)
        # Cancelled: the scheduler has gone, which is seen elsewhere.

    async def _fetch(self, arrived: list[Batch]) -> None:
        assert self._client is not None
        try:
            results = await self._client._gather(
                [batch.future for batch in arrived], errors="raise", direct=False)
        except Exception as error:
            if len(arrived) > 1:
                for one in arrived:
                    self._later(self._fetch([one]))
                return
            self._lose_all(
                arrived[0], f"what came of it cannot be had: {type(error).__name__}")
            return
        for batch, result in zip(arrived, results, strict=True):
            if batch.key in self._batches:  # an answer counts once
                self._came(batch, result)

    def _came(self, batch: Batch, result: Any) -> None:
        """Take what has come of a batch: of all its cells, or of some, and the others not begun."""
        try:
            seconds, said = result
            if seconds is not None:
                self._seconds += _NEW_SHARE * (float(seconds) / len(said) - self._seconds)
            self._take_said(batch, said)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            self._lose_all(batch, f"what came is no answer: {error}")
            return
        left = batch.left
        self._let_go(batch)
        for given in left:
            if given.began:
                given.began.pop()
        self._place(left)

    def _take_said(self, batch: Batch, said: Sequence[Any]) -> None:
        for given, (data, record, packed) in zip(batch.cells, said, strict=False):
            if given.batch is not batch:
                continue  # it was said before
            given.batch = None
            try:
                answer = read_answer(data)
            except HarnessError as error:
                self._lose(given, str(error))
                continue
            self._answered(given, answer, record, packed)

    def _answered(self, given: GivenCell, answer: CellAnswer, record: bytes, packed: bytes) -> None:
        at = self.workers.get(given.began[-1]) if given.began else None
        if answer.state == "done":
            self._finish(given, answer, record, packed)
        elif answer.state == "lost":
            self._lose(given, answer.why)
        elif answer.state == "broken":
            if at is not None and at.state is not State.UNFIT:
                at.state, at.why = State.UNFIT, answer.why
                self._tell(f"{at.name}: no cell goes there any more: {answer.why}")
            self._lose(given, answer.why)
        else:  # it does not know the run any more: we were away
            if at is not None and at.state is State.READY:
                at.state = State.NEW
                self._welcome_soon(at)
            if given.began:
                given.began.pop()
            self._place([given])

    def _finish(
        self, given: GivenCell, answer: CellAnswer | None = None, record: bytes = b"",
        packed: bytes = b"", error: HarnessError | None = None,
    ) -> None:
        if given.over:
            return
        given.over, given.waits, given.batch = True, False, None
        given.answer, given.record, given.packed, given.error = answer, record, packed, error
        if given.began:
            at = self.workers.get(given.began[-1])
            given.worker = at.name if at else given.began[-1]
        self._over.put(given)

    def _lose(self, given: GivenCell, why: str, over: bool = False) -> None:
        """A worker was lost with a cell: run it again elsewhere, or no more."""
        if given.over:
            return
        given.alone = True
        if len(given.began) > len(given.lost):
            given.lost.append(given.began[-1])
        names = list(dict.fromkeys(
            at.name if (at := self.workers.get(address)) else address for address in given.lost))
        if over or len(given.lost) >= MOST_ATTEMPTS or len(given.began) >= MOST_ATTEMPTS:
            times = max(len(given.began), len(given.lost), 1)
            runs = f"run {times} times" if times > 1 else "run"
            self._finish(given, CellAnswer(
                state="lost", why=f"{runs}, on {', '.join(names) or 'no worker'}: {why}"))
        else:
            given.batch = None
            self._place([given])

    def _lose_all(self, batch: Batch, why: str, over: bool = False) -> None:
        """A worker was lost with a batch, and nobody knows with which of its cells."""
        left = batch.left
        self._let_go(batch)
        for given in left:
            self._lose(given, why, over)

    def _let_go(self, batch: Batch) -> None:
        """Nothing of it is waited for any more; what runs of it is ended."""
        self._batches.pop(batch.key, None)
        for given in batch.left:
            given.batch, given.waits = None, False
        if batch.future is not None:
            batch.future.release()
            batch.future = None

    def _hear(self, event: tuple[float, Any]) -> None:
        """What workers say of cells: that they have begun some, or wait for the guest of one."""
        said = event[1]
        if not isinstance(said, dict):
            return
        batch = self._batches.get(str(said.get("began") or said.get("waits")))
        if batch is None:
            return
        if "waits" in said:
            self._set_apart(batch, said.get("said"))
            return
        again, batch.worker = bool(batch.worker), str(said.get("worker"))
        batch.since = time.monotonic()
        for given in batch.left:
            if len(given.began) > len(given.lost):
                # dask runs it again by itself, when it has lost the worker.
                given.lost.append(given.began[-1])
            given.began.append(batch.worker)
        too_often = any(len(given.lost) >= MOST_ATTEMPTS for given in batch.left)
        if again and (len(batch.cells) > 1 or too_often):
            for given in batch.left:
                given.began.pop()
            self._lose_all(batch, "each time its worker has ended, or was not to be reached any "
                                  "more", over=len(batch.cells) == 1)

    def _set_apart(self, batch: Batch, said: Any) -> None:
        """A cell waits: what came before it is there, and what comes after it is not begun."""
        with contextlib.suppress(ValueError, TypeError):
            self._take_said(batch, said)
        left = batch.left
        for given in left[:1]:
            given.waits = True
        for given in left[1:]:
            given.batch = None
            if given.began:
                given.began.pop()
        self._place(left[1:])

    # ---- workers -------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        """Look after workers, as long as the run lasts."""
        answered = time.monotonic()
        while self._broken is None:
            assert self._client is not None
            try:
                if self._client.status != "running":
                    raise OSError("the connection is lost")
                info = await asyncio.wait_for(
                    self._client.scheduler.identity(n_workers=-1), 5)
                answered = time.monotonic()
                self._see(info["workers"])
                self._check_given(await self._processing())
                self._ask_all()
                self._check_alone()
            except (OSError, TimeoutError, KeyError, AttributeError) as error:
                lost = self._client is None or self._client.status != "running"
                if lost or time.monotonic() - answered > _GONE_SECONDS:
                    self._break(HarnessError(
                        f"{self.address.text}: the scheduler has gone ({type(error).__name__})"))
            self._changed.set()
            await asyncio.sleep(_TICK_SECONDS)

    def _see(self, workers: Mapping[str, Any]) -> None:
        """Compare the workers that the scheduler has with those that are known."""
        now = time.monotonic()
        for address, info in workers.items():
            at = self.workers.get(address)
            if at is None:
                at = self.workers[address] = At(address, heard=now)
                self._welcome_soon(at)
            if info["last_seen"] != at.seen:
                at.seen, at.heard = info["last_seen"], now
                if at.state is State.SILENT:
                    self._tell(f"{at.name}: is back")
                    at.state = State.NEW
                    self._welcome_soon(at)
            elif now - at.heard > SILENT_SECONDS and at.state in (State.READY, State.NEW):
                self._tell(f"{at.name}: nothing is heard of it; its cells go elsewhere")
                at.state = State.SILENT
                if at.welcome is not None:
                    at.welcome.cancel()
        for address in self.workers.keys() - workers.keys():
            at = self.workers[address]
            if at.why != _GONE:
                self._tell(f"{at.name}: has gone")
            at.state, at.why = State.UNFIT, _GONE

    async def _processing(self) -> dict[str, list[str]]:
        """What the silent workers are to do, as far as the scheduler knows."""
        silent = [at.address for at in self.workers.values() if at.state is State.SILENT]
        if not silent or self._client is None:
            return {}
        return dict(await asyncio.wait_for(self._client.scheduler.processing(workers=silent), 5))

    def _check_given(self, processing: Mapping[str, list[str]]) -> None:
        """Give those anew that are with a worker that is not waited for, or never end."""
        at_silent = {str(key) for keys in processing.values() for key in keys}
        ready = {at.address for at in self.ready}
        for batch in list(self._batches.values()):
            at, left = self.workers.get(batch.worker), batch.left
            most = sum(given.most for given in left)
            if at is not None and at.state is State.SILENT:
                self._lose_all(batch, "its worker says nothing any more")
            elif batch.key in at_silent or not ready.intersection(batch.allowed):
                if not batch.worker:
                    self._let_go(batch)
                    self._place(left)
                elif batch.worker not in ready:
                    self._lose_all(batch, "its worker has gone")
            elif batch.worker and time.monotonic() - batch.since > most:
                self._lose_all(batch, f"it has not ended in {most:.0f} s")
        unplaced, self._unplaced = self._unplaced, []
        self._place(unplaced)

    def _ask_all(self) -> None:
        for at in self.workers.values():  # one that still gets its builds, too
            if at.state in (State.READY, State.NEW):
                self._later(self._ask(at))

    async def _ask(self, at: At) -> None:
        with contextlib.suppress(Exception):
            if not await self._call(at, worker.ask, self._run, seconds=5) and \
                    at.state is State.READY:
                at.state = State.NEW
                self._welcome_soon(at)

    def _check_alone(self) -> None:
        """Give up where nobody is left who could run what was given."""
        if any(at.state in (State.READY, State.NEW) for at in self.workers.values()):
            self._alone_since = time.monotonic()
        elif (self._unplaced or self._batches) and \
                time.monotonic() - self._alone_since > ALONE_SECONDS:
            self._break(self._no_worker())

    def _no_worker(self) -> HarnessError:
        states = "; ".join(f"{at.name}: {at.why or at.state.value}" for at in self.workers.values())
        return HarnessError(f"{self.address.text}: there is no worker that can be used"
                            + (f": {states}" if states else ""))

    def _break(self, error: HarnessError) -> None:
        self._broken = error
        left = [given for batch in self._batches.values() for given in batch.left]
        for given in (*left, *self._unplaced):
            self._finish(given, error=error)
        self._unplaced = []
        self._changed.set()

    def _tell(self, line: str) -> None:
        with contextlib.suppress(Exception):
            self._progress(line)

    # ---- a new worker ---------------------------------------------------------------------------

    def _welcome_soon(self, at: At) -> None:
        at.welcome = asyncio.ensure_future(self._welcome(at))

    async def _welcome(self, at: At) -> None:
        """Find out what a worker has, and send what it lacks."""
        try:
            why = await self._make_ready(at)
        except asyncio.CancelledError:
            return
        except Exception as error:
            why = " ".join(str(error).split())[:300] or type(error).__name__
        if at.state is not State.NEW:
            return
        at.why = why
        at.state = State.UNFIT if why else State.READY
        if why:
            self._tell(f"{at.name}: is not used: {why}")
        self._changed.set()

    async def _make_ready(self, at: At) -> str:
        """Make it ready; why it cannot be used."""
        at.facts = facts = read_facts(await self._call(at, worker.facts))
        if facts.protocol != PROTOCOL or facts.axes != list(AXES):
            return f"its bootmatrix {facts.version} is too different from this one"
        lacks = await self._call(at, worker.prepare, self._run, self._table_data,
                                 seconds=_SEND_SECONDS)
        for digest in lacks:
            sent = self._sent.get(str(digest))
            if sent is None:
                return f"it asks for {digest!r}"
            name = self._table.named.get(sent.digest)
            if name is not None and not self._same_roots:
                self._tell(f"{at.name}: builds {name}")
                if not await self._call(at, worker.build, self._run, sent.digest, name,
                                        seconds=_SEND_SECONDS):
                    return (f"its {name} is another build than the one here, whose sha256 is "
                            f"{sent.digest[:16]}")
                continue
            await self._send(at, sent, name)
        return ""

    async def _send(self, at: At, sent: Sent, name: str | None) -> None:
        file = await self._file(sent)
        size = file.seek(0, 2)
        if sent.is_tree:
            self._tell(f"{at.name}: gets {name or sent.path.name}, {size / 1e6:.0f} MB")
        offset = 0
        while True:
            file.seek(offset)
            piece = file.read(_PIECE)
            last = offset + len(piece) >= size
            await self._call(at, worker.receive, self._run, sent.digest, sent.is_tree, offset,
                             piece, last, seconds=_SEND_SECONDS)
            offset += len(piece)
            if last:
                return

    async def _file(self, sent: Sent) -> IO[bytes]:
        """A file with what goes to workers; it is made once."""
        if sent.digest not in self._packed:
            self._packed[sent.digest] = asyncio.ensure_future(asyncio.to_thread(_packed, sent))
        return await asyncio.shield(self._packed[sent.digest])

    async def _call(self, at: At, function: Any, *given: Any, seconds: float = _CALL_SECONDS
                    ) -> Any:
        assert self._client is not None
        said = await asyncio.wait_for(
            self._client._run(function, *given, workers=[at.address]), seconds)
        return said[at.address]


def _data(given: GivenCell) -> bytes:
    return given.task.model_copy(
        update={"attempt": len(given.lost) + 1}).model_dump_json().encode()


def _packed(sent: Sent) -> IO[bytes]:
    file = tempfile.TemporaryFile(dir=_spool_directory(sent.path))  # noqa: SIM115  # its user closes it
    sent.write(file)
    return file


def _spool_directory(path: Path) -> Path | None:
    """Where there is room for a root: beside it, where that can be written."""
    return path.parent if os.access(path.parent, os.W_OK) else None
