"""Postcopy, on QEMUs of which only the monitor is there."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import HarnessError, MonitorError
from bootmatrix.machines.qemu.migration import postcopy
from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES
from helpers.migrations import Vm

AT_ONCE, AFTER = MODES[MigrationMode.POSTCOPY], MODES[MigrationMode.POSTCOPY_AFTER_PASS]


def pair(said: str, info: Any = None) -> tuple[Vm, Vm]:
    source, destination = Vm(said, info, name="a"), Vm("completed", name="b")
    destination.of_qemu.inside = "/cell/2-destination"
    destination.of_qemu.file = lambda name: f"2-destination/{name}"
    destination.of_qemu.scratch = SimpleNamespace(cell=SimpleNamespace(unlink=lambda name: None))
    return source, destination


def moved(source: Vm, destination: Vm, mode: Any) -> Any:
    return postcopy.migrate(source.of_qemu, destination.of_qemu, mode, Deadline.after(60))


def test_it_begins_as_soon_as_the_migration_has() -> None:
    source, destination = pair("postcopy-active")
    source.says = ["postcopy-active", "completed"]
    assert moved(source, destination, AT_ONCE).refusal is None
    asked = [command for command, _ in source.asked]
    assert asked[asked.index("migrate") + 1] == "migrate-start-postcopy"
    slow = dict(source.asked)["migrate-set-parameters"]
    assert slow["max-bandwidth"] == 512 << 10
    assert dict(destination.asked)["migrate-set-parameters"]["max-bandwidth"] > 1 << 30


def test_after_a_pass_it_goes_slowly_where_little_is_left() -> None:
    source, destination = pair("postcopy-active")
    source.says = ["postcopy-active", "completed"]
    source.infos = [
        {"status": "setup"},
        {"status": "active", "ram": {"dirty-sync-count": 1, "remaining": 1 << 20}},
        {"status": "active", "ram": {"dirty-sync-count": 1, "remaining": 64 << 10}},
        {"status": "active", "ram": {"dirty-sync-count": 1, "remaining": 4096}},
        {"status": "active", "ram": {"dirty-sync-count": 2, "remaining": 8192}},
    ]
    assert moved(source, destination, AFTER).refusal is None
    tempo = [given["max-bandwidth"] for command, given in source.asked
             if command == "migrate-set-parameters"]
    assert tempo == [512 << 10, 40 << 10]
    looks = [command for command, _ in source.asked if command in ("query-migrate", "migrate-set-"
                                                                   "parameters")]
    assert looks[-3:-1] == ["migrate-set-parameters", "query-migrate"]


def test_a_source_that_counts_by_buffers_goes_slowly_at_once() -> None:
    source, destination = pair("postcopy-active", {
        "qemu": {"major": 10}, "status": "active", "ram": {"dirty-sync-count": 2}})
    source.says = ["postcopy-active", "completed"]
    assert moved(source, destination, AFTER).refusal is None
    asked = [command for command, _ in source.asked]
    assert asked[asked.index("query-version") + 1] == "migrate-set-parameters"
    assert ("migrate-start-postcopy", None) in source.asked


def test_one_that_was_over_before_is_no_postcopy() -> None:
    source, destination = pair("completed")
    with pytest.raises(HarnessError, match="a: all had arrived before postcopy began"):
        moved(source, destination, AT_ONCE)


def test_a_source_that_has_lost_the_destination_does_not_wait_for_it() -> None:
    source, destination = pair("postcopy-paused", {"error-desc": "Missing section footer for x"})
    refusal = moved(source, destination, AT_ONCE).refusal
    assert refusal is not None
    assert refusal.kind == "missing-section"


def ends() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.fixture
def broken() -> tuple[Vm, Vm, list[str]]:
    """A pair that loses its connection as soon as the destination's guest runs."""
    log: list[str] = []
    source, destination = Vm("completed", log=log, name="a"), Vm("completed", log=log, name="b")
    source.says = ["postcopy-paused", "completed"]
    destination.says = ["postcopy-paused", "completed"]
    return source, destination, log


RECOVERS = AT_ONCE.with_more((), {}, recovers=True)


def test_where_its_connection_breaks_it_goes_on_by_another(
    broken: tuple[Vm, Vm, list[str]]
) -> None:
    source, destination, log = broken
    before = ends()
    assert moved(source, destination, RECOVERS).refusal is None
    assert ends() == before
    for side in (source, destination):
        assert [name for name, _ in side.given] == ["migration", "recovery"]
    steps = [log.index(word) for word in (
        "a migrate-start-postcopy", "b RESUME", "b wait", "b migrate-recover")]
    assert steps == sorted(steps), "it loses it once its guest runs"
    assert destination.at_once == ["migrate-recover"], "its guest may wait for memory"
    asked = [given for command, given in source.asked if command == "migrate"]
    assert asked == [{"uri": "fd:migration"}, {"uri": "fd:recovery", "resume": True}]
    assert ("migrate-recover", {"uri": "fd:recovery"}) in destination.asked
    paces = [given["max-postcopy-bandwidth"] for command, given in source.asked
             if command == "migrate-set-parameters"]
    assert paces[0] > 0 == paces[1], "slow until it breaks"


def test_one_that_was_over_before_it_broke_is_none(broken: tuple[Vm, Vm, list[str]]) -> None:
    source, destination, _ = broken
    source.says = ["completed"]
    with pytest.raises(HarnessError, match="a: all had arrived before the connection broke"):
        moved(source, destination, RECOVERS)


def test_one_that_fails_instead_is_refused(broken: tuple[Vm, Vm, list[str]]) -> None:
    source, destination, _ = broken
    destination.says = ["failed"]
    refusal = moved(source, destination, RECOVERS).refusal
    assert refusal is not None
    assert refusal.message.endswith("b: the migration was to be postcopy-paused, and is failed")
    assert "migrate-recover" not in dict(destination.asked)


def test_an_answer_that_is_none() -> None:
    source, destination = pair("postcopy-active", {"ram": 7})
    assert moved(source, destination, AFTER).refusal is not None
    with pytest.raises(MonitorError, match="a: query-migrate answers"):
        postcopy._wait_for_passes(source.of_qemu, 1, Deadline.after(60))
