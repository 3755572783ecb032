"""One process that becomes another QEMU, on QEMUs of which only the monitor is there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import MonitorError, QemuError
from bootmatrix.machines.qemu.migration import cpr_exec
from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES
from helpers.migrations import Vm

MODE = MODES[MigrationMode.CPR_EXEC]


class Source(Vm):
    """One whose connections are closed, unless it ``stays``."""

    def __init__(self, log: list[str], *, stays: bool) -> None:
        super().__init__("failed", {"error-desc": "execvp /qemu failed: Permission denied"},
                         name="a", log=log)
        self._stays = stays

    def _wait(self, event: str, **how: Any) -> Any:
        told = super()._wait(event, **how)
        if not self._stays:
            raise MonitorError("a: QEMU went away before MIGRATION")
        return told


class Pair:
    """A source, and a destination that ends with these words, if with any."""

    def __init__(self, *, stays: bool = False, ends: str = "") -> None:
        self.log: list[str] = []
        self.removed: list[str] = []
        self.source = Source(self.log, stays=stays)
        self.destination = Vm("completed", log=self.log, name="b", tail=ends)
        self._ends = ends
        b = self.destination.of_qemu
        b.inside, b.file, b.argv = "/cell/2", lambda name: f"2/{name}", ("/qemu", "-incoming")
        b.scratch = SimpleNamespace(cell=SimpleNamespace(unlink=self.removed.append))
        b.connect, b.succeed = self._connect, lambda other: self.log.append("b succeeds")

    def _connect(self, deadline: Deadline) -> None:
        if self._ends:
            raise QemuError("b: QEMU ended before it was ready", tail=self._ends, status=1)
        self.log.append("b connect")

    def migrate(self) -> Any:
        return cpr_exec.migrate(
            self.source.of_qemu, self.destination.of_qemu, MODE, Deadline.after(60)).refusal


def test_the_source_is_told_what_to_become_and_the_destination_reads_the_file() -> None:
    pair = Pair()
    assert pair.migrate() is None
    said = dict(pair.source.asked)
    assert said["migrate-set-parameters"]["mode"] == "cpr-exec"
    assert said["migrate-set-parameters"]["cpr-exec-command"] == ["/qemu", "-incoming"]
    assert said["migrate"] == {"uri": "file:/cell/2/migration.cpr"}
    told = dict(pair.destination.asked)
    assert told["migrate-incoming"] == said["migrate"]
    assert "mode" not in told["migrate-set-parameters"]
    begun = [pair.log.index(word) for word in ("a migrate", "b succeeds", "b connect",
                                               "b migrate-incoming")]
    assert begun == sorted(begun)
    assert pair.removed == ["2/migration.cpr"]


def test_one_that_stays_what_it_was_says_why() -> None:
    pair = Pair(stays=True)
    refusal = pair.migrate()
    assert refusal is not None
    assert refusal.message == "execvp /qemu failed: Permission denied"
    assert "b succeeds" not in pair.log


@pytest.mark.parametrize(("words", "kind"), [
    ("qemu: unsupported machine type: 'x'", "machine-type"), ("no words", "other")])
def test_a_program_that_ends_at_once_has_last_words(words: str, kind: str) -> None:
    refusal = Pair(ends=words).migrate()
    assert refusal is not None
    assert refusal.kind == kind
