"""A migration that ends half-way, on QEMUs of which only the monitor is there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import MonitorError
from bootmatrix.machines.qemu.migration import fail, half
from bootmatrix.model import MigrationEnd, MigrationMode
from bootmatrix.modes import MODES
from helpers.migrations import Vm


class Source(Vm):
    """Tells of one status after the other; ``yanks`` are the answers of query-yank."""

    def __init__(self, *statuses: str, yanks: list[Any]) -> None:
        super().__init__("")
        self._statuses, self._yanks = [*statuses], yanks

    def _execute(
        self, command: str, arguments: Any = None, *, deadline: Deadline, at_once: bool = False
    ) -> Any:
        super()._execute(command, arguments, deadline=deadline)
        if command == "query-yank":
            answer = self._yanks.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return None

    def _wait(self, *what: Any, **how: Any) -> Any:
        return SimpleNamespace(data={"status": self._statuses.pop(0)})


LEFT = [{"type": "migration"}, {"type": "chardev", "id": "console"}]
NOTHING: list[Any] = [[{"type": "chardev", "id": "console"}]]


def failed(
    source: Vm, by: MigrationEnd, seconds: float = 60,
    mode: MigrationMode = MigrationMode.PRECOPY,
) -> list[str]:
    """What the source was asked, and whether the destination was killed."""
    killed: list[str] = []
    destination = Vm("")
    destination.of_qemu.inside = "/cell/2-destination"
    destination.of_qemu.file = str
    destination.of_qemu.process.kill = lambda: killed.append("killed")
    destination.of_qemu.scratch = SimpleNamespace(cell=SimpleNamespace(unlink=killed.append))
    fail(source.of_qemu, destination.of_qemu, MODES[mode], by, 1, Deadline.after(seconds))
    several = mode is MigrationMode.MULTIFD
    assert (killed[-1:] == ["migration.sock"]) is several
    return [name for name, _ in source.asked if name.startswith("migrate")] + killed[
        :-1 if several else None]


@pytest.mark.parametrize("mode", [MigrationMode.PRECOPY, MigrationMode.MULTIFD])
def test_it_is_held_back_and_then_cancelled_or_killed(mode: MigrationMode) -> None:
    source = Source("active", "cancelled", yanks=[*NOTHING])
    asked = failed(source, MigrationEnd.CANCELLED, mode=mode)
    assert asked[-2:] == ["migrate", "migrate_cancel"]
    slowed_down = ("migrate-set-parameters", {"max-bandwidth": 4096}) in source.asked
    assert slowed_down is (mode is MigrationMode.MULTIFD), "several streams are not held back"
    assert failed(Source("active", "failed", yanks=[*NOTHING]),
                  MigrationEnd.DESTINATION_KILLED)[-2:] == ["migrate", "killed"]


@pytest.mark.parametrize("statuses", [("completed",), ("active", "completed"), ("failed",)])
def test_one_that_comes_to_another_end_is_no_such_step(statuses: tuple[str, ...]) -> None:
    with pytest.raises(MonitorError, match=f"was to be .*, and is {statuses[-1]}"):
        failed(Source(*statuses, yanks=[*NOTHING]), MigrationEnd.CANCELLED)


@pytest.mark.parametrize("yanks", [
    [LEFT, LEFT, *NOTHING], [MonitorError("no such command")], [{"of": "no kind"}]])
def test_it_is_over_when_the_source_has_cleaned_up(yanks: list[Any]) -> None:
    source = Source("active", "cancelled", yanks=[*yanks])
    failed(source, MigrationEnd.CANCELLED)
    assert [name for name, _ in source.asked].count("query-yank") == len(yanks)


def test_a_source_that_never_cleans_up_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half, "_CLEAN_SECONDS", 0.1)
    source = Source("active", "cancelled", yanks=[LEFT] * 1000)
    failed(source, MigrationEnd.CANCELLED)
    assert 1 < [name for name, _ in source.asked].count("query-yank") < 1000
