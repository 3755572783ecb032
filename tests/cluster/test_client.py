"""What is done with cells on their way, without a scheduler: dask's futures are told what to be."""

from __future__ import annotations

import asyncio
import math
import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cell import AXES
from bootmatrix.cluster import client
from bootmatrix.cluster.address import Address
from bootmatrix.cluster.client import (
    MOST_ATTEMPTS,
    MOST_CELLS,
    At,
    Batch,
    Cluster,
    GivenCell,
    State,
)
from bootmatrix.cluster.model import PROTOCOL, CellAnswer, Needs, Task, WorkerFacts
from bootmatrix.cluster.table import Sent, Table

FACTS = WorkerFacts(protocol=PROTOCOL, axes=list(AXES), version="1", name="", machine="x86_64",
                    slots=2, kvm="", memory=4096, engines=["bubblewrap"], roots={})
ROOT = "a" * 64
NEEDS = Needs(machine="x86_64")
DONE = CellAnswer(state="done").model_dump_json().encode(), b"{}", b""


class Future:
    """As much of a future as is asked for."""

    released = False

    def release(self) -> None:
        self.released = True


class Dask:
    """Takes what goes to a scheduler."""

    def __init__(self) -> None:
        self.sent: list[tuple[Future, dict[str, Any]]] = []

    def map(self, function: object, tasks: Sequence[Any], **how: Any) -> list[Future]:
        made = [Future() for _ in tasks]
        self.sent += [(future, how) for future in made]
        return made


class Unserved(Cluster):
    """A run's side alone."""

    def __init__(self, *names: str, same_roots: bool = True) -> None:
        self.said: list[str] = []
        table = Table(hosts={}, firmwares=[], named={ROOT: "debian-sid"}, disks=[])
        sent = {ROOT: Sent(ROOT, Path("sid"), is_tree=True)}
        super().__init__(Address("tcp://x:1"), None, "0" * 16, table, sent, self.said.append,
                         same_roots)
        self.dask = self._client = Dask()
        self.answers: dict[str, Any] = {}
        self.called: list[str] = []
        for name in names:
            self.join(name)

    def join(self, name: str, **facts: Any) -> At:
        at = self.workers[name] = At(name, State.READY, FACTS.model_copy(
            update={"name": name, **facts}))
        return at

    async def _call(self, at: At, function: Any, *given: Any, seconds: float = 0.0) -> Any:
        self.called.append(function.__name__)
        return self.answers[function.__name__]

    async def _send(self, at: At, sent: Sent, name: str | None) -> None:
        self.called.append("send")

    def _later(self, coroutine: Any) -> None:
        coroutine.close()

    def given(self, number: int = 1, needs: Needs = NEEDS, **more: Any) -> list[GivenCell]:
        """So many cells, given and placed."""
        task = Task.model_construct(run="0" * 16, attempt=1)
        cells = [self.give(task, needs, **more) for _ in range(number)]
        self._place_new()
        return cells

    @property
    def batches(self) -> list[Batch]:
        return list(self._batches.values())

    def began(self, batch: Batch, worker: str) -> None:
        self._hear((0.0, {"began": batch.key, "worker": worker}))

    def quick(self) -> None:
        """Have it know of cells that take no time."""
        self._seconds = 0.0001

    def over(self) -> list[GivenCell]:
        found = []
        while True:
            try:
                found.append(self._over.get_nowait())
            except queue.Empty:
                return found


def test_cells_go_alone_until_they_are_known_to_take_no_time() -> None:
    cluster = Unserved("one")
    cluster.given(3)
    assert [len(batch.cells) for batch in cluster.batches] == [1, 1, 1]
    for batch in cluster.batches:
        cluster.began(batch, "one")
        cluster._came(batch, (0.001, [DONE]))
    assert len(cluster.over()) == 3
    cells = cluster.given(2 * MOST_CELLS)
    sizes = [len(batch.cells) for batch in cluster.batches]
    assert sum(sizes) == len(cells)
    assert 1 < sizes[0] <= MOST_CELLS
    for batch in cluster.batches:  # such as take their time go alone again
        cluster.began(batch, "one")
        cluster._came(batch, (float(len(batch.cells)), [DONE] * len(batch.cells)))
    assert cluster._together == 1


def test_what_was_not_begun_of_a_batch_is_given_again_and_counts_as_no_attempt() -> None:
    cluster = Unserved("one")
    cluster.quick()
    cells = cluster.given(5)
    batch, = cluster.batches
    cluster.began(batch, "one")
    cluster._came(batch, (2.0, [DONE, DONE]))
    assert cluster.over() == cells[:2]
    again = [given for one in cluster.batches for given in one.cells]
    assert again == cells[2:]
    assert {(*given.began, *given.lost) for given in again} == {()}


def test_who_is_lost_with_a_batch_runs_alone_and_who_ends_workers_is_named() -> None:
    cluster = Unserved("one", "two", "three", "four")
    cluster.quick()
    cells = cluster.given(3)
    bad = cells[1]
    names = iter(cluster.workers)
    while batches := cluster.batches:
        for batch in batches:
            if bad in batch.cells:
                name = next(names)
                cluster.began(batch, name)
                cluster._lose_all(batch, "its worker has gone")
            else:
                assert len(batch.cells) == 1
                assert "one" not in batch.allowed, "it goes elsewhere"
                cluster.began(batch, "four")
                cluster._came(batch, (0.1, [DONE]))
    assert len(cluster.over()) == 3
    assert [len(given.lost) for given in cells] == [1, MOST_ATTEMPTS, 1]
    assert bad.answer is not None
    assert bad.answer.why == "run 3 times, on one, two, three: its worker has gone"
    assert cells[0].answer == cells[2].answer == CellAnswer(state="done")


def test_a_batch_that_dask_runs_again_is_taken_apart() -> None:
    cluster = Unserved("one", "two")
    cluster.quick()
    cells = cluster.given(3)
    batch, = cluster.batches
    future = batch.future
    cluster.began(batch, "one")
    cluster.began(batch, "two")
    assert future.released
    assert [one.cells for one in cluster.batches] == [[given] for given in cells]
    assert {tuple(given.lost) for given in cells} == {("one",)}


def test_a_cell_that_dask_begins_too_often_is_over() -> None:
    cluster = Unserved("one", "two")
    cell, = cluster.given()
    for name in ("one", "two", "one", "two"):
        assert not cell.over
        cluster.began(cluster.batches[0], name)
    assert cell.over
    assert len(cell.lost) == MOST_ATTEMPTS
    assert cluster.batches == []


def test_where_one_waits_for_its_guest_the_others_do_not() -> None:
    cluster = Unserved("one")
    cluster.quick()
    cells = cluster.given(4)
    batch, = cluster.batches
    cluster.began(batch, "one")
    cluster._hear((0.0, {"waits": batch.key, "said": [[*DONE]]}))
    assert cluster.over() == cells[:1]
    assert cells[1].waits
    _, other = cluster.batches
    assert other.cells == cells[2:]
    cluster._came(batch, (None, [DONE, DONE]))
    assert cluster.over() == cells[1:2], "an answer counts once"


@pytest.mark.parametrize("result", [None, (0.1, []), (0.1, [b"x"]), (0.1, [(b"x", b"", b"")]),
                                    ("x", [DONE])])
def test_what_is_no_answer_is_none(result: Any) -> None:
    cluster = Unserved("one")
    cell, = cluster.given()
    cluster.began(cluster.batches[0], "one")
    cluster._came(cluster.batches[0], result)
    assert not cell.over
    assert cell.lost == ["one"]


def test_a_machine_at_fault_gets_no_cell_any_more() -> None:
    cluster = Unserved("one", "two")
    cell, = cluster.given()
    cluster.began(cluster.batches[0], "one")
    broken = CellAnswer(state="broken", why="No space left").model_dump_json().encode()
    cluster._came(cluster.batches[0], (None, [(broken, b"", b"")]))
    assert cluster.said == ["one: no cell goes there any more: No space left"]
    assert cluster.batches[0].allowed == ("two",)
    assert cluster.batches[0].cells == [cell]


def test_a_cell_that_never_ends_is_ended_and_runs_elsewhere(now: Callable[[float], None]) -> None:
    cluster = Unserved("one", "two")
    cell, = cluster.given(most=600.0)
    batch, = cluster.batches
    cluster.began(batch, "one")
    future = batch.future
    now(599)
    cluster._check_given({})
    assert cluster.batches == [batch]
    now(601)
    cluster._check_given({})
    assert future.released, "which ends it, on its worker"
    assert cluster.batches[0].allowed == ("two",)
    assert cell.lost == ["one"]


def test_a_cell_whose_only_workers_have_gone_is_not_kept_for_ever(
    now: Callable[[float], None]
) -> None:
    cluster = Unserved("one")
    bench = cluster.join("bench", boards={"0" * 64: "apu2-main"})
    cell, = cluster.given(needs=Needs(machine=None, boards=(("0" * 64, "apu2-main"),)))
    assert cluster.batches[0].allowed == ("bench",)
    assert cluster.dask.sent[0][1]["resources"] == {"memory-mib": 0, "board-" + "0" * 16: 1}
    bench.state, bench.why = State.UNFIT, "it has gone"
    cluster._check_given({})
    now(client.ALONE_SECONDS - 1)
    cluster._check_given({})
    assert not cell.over
    now(client.ALONE_SECONDS + 1)
    cluster._check_given({})
    assert cell.over
    assert cell.answer is not None
    assert cell.answer.why == "no worker is left that can run it: one has no board apu2-main"


def test_no_more_are_on_their_way_than_keep_workers_busy() -> None:
    cluster = Unserved("one")
    while cluster.has_capacity:
        cluster.given()
    assert cluster.flying == 2 + 12
    cluster.quick()
    while cluster.has_capacity:
        cluster.given()
    assert cluster.flying == 2 * 2 * MOST_CELLS
    board = Needs(machine=None, boards=(("0" * 64, "apu2-main"),))
    cluster.given(5, needs=board)
    assert cluster.flying == 2 * 2 * MOST_CELLS, "boards' cells take no place of others"


@pytest.mark.parametrize(("same_roots", "is_same", "called", "why"), [
    (True, False, "send", ""),
    (False, True, "build", ""),
    (False, False, "build", f"its debian-sid is another build than the one here, whose sha256 is "
                            f"{ROOT[:16]}"),
])
def test_a_worker_that_lacks_a_root_gets_it_or_makes_the_same(
    same_roots: bool, is_same: bool, called: str, why: str
) -> None:
    cluster = Unserved(same_roots=same_roots)
    facts = FACTS.model_dump_json().encode()
    cluster.answers = {"facts": facts, "prepare": [ROOT], "build": is_same}
    assert asyncio.run(cluster._make_ready(At("one"))) == why
    assert cluster.called == ["facts", "prepare", called]


@pytest.mark.parametrize(("facts", "why"), [
    (FACTS.model_copy(update={"protocol": PROTOCOL - 1, "version": "0.1"}),
     "its bootmatrix 0.1 is too different from this one"),
    (FACTS.model_copy(update={"axes": ["machine"]}),
     "its bootmatrix 1 is too different from this one"),
])
def test_a_worker_of_another_bootmatrix_is_not_used(facts: WorkerFacts, why: str) -> None:
    cluster = Unserved()
    cluster.answers = {"facts": facts.model_dump_json().encode()}
    assert asyncio.run(cluster._make_ready(At("one"))) == why


def test_cells_with_one_beginning_go_to_one_worker_unless_others_are_idle() -> None:
    cluster = Unserved("one", "two")
    cluster.given(3, beginning="a")
    assert {batch.allowed for batch in cluster.batches} == {("one",)}
    cluster.given(1, beginning="b")
    assert cluster.batches[-1].allowed == ("two",)
    cluster.given(2, beginning="a")
    assert [batch.allowed for batch in cluster.batches[-2:]] == [("one",), ("two",)]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how many seconds later it is."""
    later = [0.0]
    monkeypatch.setattr("bootmatrix.cluster.client.time.monotonic", lambda: 1000.0 + later[0])
    return lambda seconds: later.__setitem__(0, seconds)


def test_where_nothing_is_said_a_cell_may_take_its_time() -> None:
    cell, = Unserved("one").given()
    assert cell.most == math.inf
