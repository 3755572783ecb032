"""Memory handed over by descriptor, on QEMUs of which only the monitor is there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import DeadlineExceeded, MonitorError, QemuError
from bootmatrix.machines.qemu.migration import cpr_transfer
from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES
from helpers.migrations import Vm

MODE = MODES[MigrationMode.CPR_TRANSFER]


class Pair:
    """A source, and a destination that listens after it was looked at so often."""

    def __init__(self, looks: int = 2, ends: str = "", *, dies: bool = False) -> None:
        self.log: list[str] = []
        self.source = Vm("completed", log=self.log, name="a")
        self.destination = Vm("completed", log=self.log, name="b")
        self._looks, self._ends = looks, ends
        self.removed: list[str] = []
        b = self.destination.of_qemu
        b.inside, b.file = "/cell/2", lambda name: f"2/{name}"
        b.scratch = SimpleNamespace(cell=SimpleNamespace(
            unlink=self.removed.append, lstat=self._lstat))
        b.connect, b.alive, b.ended = self._connect, not dies, self._error

    def _lstat(self, name: str) -> object:
        assert name == "2/cpr.sock"
        self._looks -= 1
        if self._looks > 0:
            raise FileNotFoundError
        return object()

    def _error(self) -> QemuError:
        return QemuError("b: QEMU ended before it was ready", tail=self._ends, status=1)

    def _connect(self, deadline: Deadline) -> None:
        self.log.append("b connect")
        if self._ends:
            raise self._error()

    def migrate(self) -> Any:
        return cpr_transfer.migrate(
            self.source.of_qemu, self.destination.of_qemu, MODE, Deadline.after(60)).refusal


def test_the_destination_is_spoken_to_once_the_source_has_begun() -> None:
    pair = Pair()
    assert pair.migrate() is None
    assert pair.log.index("a migrate") < pair.log.index("b connect") \
        < pair.log.index("b migrate-incoming")
    asked = dict(pair.source.asked)
    assert asked["migrate-set-parameters"]["mode"] == "cpr-transfer"
    main, handover = asked["migrate"]["channels"]
    assert (main["channel-type"], main["addr"]["path"]) == ("main", "/cell/2/migration.sock")
    assert (handover["channel-type"], handover["addr"]["path"]) == ("cpr", "/cell/2/cpr.sock")
    assert "mode" not in dict(pair.destination.asked)["migrate-set-parameters"]
    assert pair.removed == ["2/migration.sock", "2/cpr.sock"]


@pytest.mark.parametrize("dies", [False, True], ids=["after", "before"])
def test_a_destination_that_ends_says_why(dies: bool) -> None:
    words = "qemu-system-x86_64: vmstate_load_state error -2"
    pair = Pair(9 if dies else 1, words, dies=dies)
    refusal = pair.migrate()
    assert refusal is not None
    assert refusal.message.endswith("vmstate_load_state error -2")


def test_one_that_never_listens_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(1 << 30)
    with pytest.raises(DeadlineExceeded, match="b: a socket for descriptors"):
        cpr_transfer.migrate(pair.source.of_qemu, pair.destination.of_qemu, MODE,
                             Deadline.after(0.05))


REFUSED = "a: migrate: Failed to connect to '/cell/2/cpr.sock': Connection refused"


def refusing(pair: Pair, words: str, times: int = 1000) -> None:
    """Its source says this of the first requests."""
    monitor, left = pair.source.of_qemu.monitor, [words] * times
    execute = monitor.execute

    def asked(command: str, arguments: Any = None, *, deadline: Deadline) -> Any:
        told = execute(command, arguments, deadline=deadline)
        if command == "migrate" and left:
            raise MonitorError(left.pop())
        return told

    monitor.execute = asked


def test_a_socket_at_which_nobody_listens_yet_is_no_refusal() -> None:
    """The file is there a moment before: on a busy machine a cell was `blocked` for that."""
    pair = Pair()
    refusing(pair, REFUSED, 2)
    assert pair.migrate() is None
    assert pair.log.count("a migrate") == 3
    # What the source told of the first two is not of the third.
    assert pair.log.count("a migrate-set-parameters") == 3


@pytest.mark.parametrize(("words", "dies"), [
    (REFUSED, True), ("a: migrate: Failed to connect to '/cell/2/cpr.sock': Permission denied",
                      False)])
def test_any_other_word_is_one(words: str, dies: bool) -> None:
    pair = Pair(1, dies=dies)
    refusing(pair, words)
    refusal = pair.migrate()
    assert refusal is not None
    assert words in refusal.message
    assert pair.log.count("a migrate") == 1
