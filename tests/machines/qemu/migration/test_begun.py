"""A migration that has begun, on QEMUs of which only the monitor is there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import MonitorError
from bootmatrix.machines.qemu.migration import begin, begun
from bootmatrix.machines.qemu.migration.spoiled import HOLD_AT
from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES
from helpers.migrations import Vm


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    log: list[str] = []

    def relay(source: Any, destination: Any, deadline: Deadline, *, hold_at: int) -> Any:
        log.append(f"held at {hold_at}")
        return "fd:migration", SimpleNamespace(release=lambda: log.append("released"))

    monkeypatch.setattr(begun, "relay", relay)
    return log


PRECOPY = MODES[MigrationMode.PRECOPY]


def pair(log: list[str], destination_says: str = "completed") -> tuple[Any, Any]:
    info = {"error-desc": "Machine type received is 'a' and local is 'b'"}
    return (Vm("completed", name="source", log=log).of_qemu,
            Vm(destination_says, name="destination", log=log, info=info).of_qemu)


def test_it_is_held_back_until_it_is_to_arrive(log: list[str]) -> None:
    made = begin(*pair(log), PRECOPY, Deadline.after(60))
    assert log[-4:] == [f"held at {HOLD_AT}", "destination migrate-incoming", "source migrate",
                        "source wait"]
    assert made.finish(Deadline.after(60)).refusal is None
    assert log[-3:] == ["released", "destination wait", "source wait"]


def test_what_went_wrong_meanwhile_is_told_at_its_end(log: list[str]) -> None:
    refusal = begin(*pair(log, "failed"), PRECOPY,
                    Deadline.after(60)).finish(Deadline.after(60)).refusal
    assert refusal is not None
    assert refusal.kind == "machine-type"
    source, destination = pair(log)

    def refuse(command: str, *what: Any, **how: Any) -> None:
        if command == "migrate":
            raise MonitorError("source: migrate: State blocked by non-migratable device 'ahci'")

    source.monitor.execute = refuse
    made = begin(source, destination, PRECOPY, Deadline.after(60))
    refusal = made.finish(Deadline.after(60)).refusal
    assert refusal is not None
    assert "non-migratable" in refusal.message
    assert "released" not in log[-3:]
