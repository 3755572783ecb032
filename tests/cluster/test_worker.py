"""What a machine announces, and that what a run calls is for workers alone."""

from __future__ import annotations

import asyncio
import os
import platform
from pathlib import Path

import pytest

from bootmatrix.cluster import worker
from bootmatrix.cluster.model import PROTOCOL
from bootmatrix.engines import ENGINES
from bootmatrix.errors import EngineError, HarnessError, UserError
from bootmatrix.model import BoardSource


def test_a_machine_says_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    board = BoardSource(env=Path("bench/apu2.yaml"))
    facts = worker.facts_of("one", 3, "bubblewrap", {"a" * 64: board})
    assert facts.boards == {"a" * 64: "apu2-main"}
    assert facts.resources["board-" + "a" * 16] == 1
    assert (facts.name, facts.slots, facts.protocol) == ("one", 3, PROTOCOL)
    assert facts.engines == ["bubblewrap"]
    assert facts.machine == platform.machine()
    assert facts.memory == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20 or \
        facts.memory > 0


def test_an_engine_that_does_not_work_is_a_mistake_only_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str | None = None) -> object:
        raise EngineError("nobody answers")

    monkeypatch.setattr("bootmatrix.engines.choose", broken)
    assert worker.facts_of("one", 1, None).engines == []
    with pytest.raises(UserError, match="nobody answers"):
        worker.facts_of("one", 1, next(iter(ENGINES)))


def test_a_process_that_is_no_worker_runs_no_cell() -> None:
    with pytest.raises(HarnessError, match="no worker"):
        asyncio.run(worker.ask("0" * 16))
    with pytest.raises(HarnessError, match="no worker"):
        asyncio.run(worker.prepare("0" * 16, b""))
