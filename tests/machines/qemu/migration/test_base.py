"""What all modes of a migration do alike, on QEMUs of which only the monitor is there."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import DeadlineExceeded, MonitorError
from bootmatrix.machines.qemu.migration import base
from bootmatrix.machines.qemu.migration.base import Migration, attempt, live, outcome, prepare
from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES
from bootmatrix.witnesses.refusal import Refusal
from helpers.migrations import Vm

PLAIN = MODES[MigrationMode.PRECOPY]


def soon() -> Deadline:
    return Deadline.after(60)


def test_events_and_what_a_mode_takes_are_asked_for_before_they_count() -> None:
    vm = Vm("completed")
    assert prepare(vm.of_qemu, MODES[MigrationMode.MULTIFD_ZSTD], soon()) == 7
    assert [name for name, _ in vm.asked] == [
        "migrate-set-capabilities", "migrate-set-parameters", "mark"]
    assert [row["capability"] for row in vm.asked[0][1]["capabilities"]] == ["events", "multifd"]
    assert vm.asked[1][1].pop("max-bandwidth") > 1 << 30
    assert vm.asked[1][1] == {"multifd-channels": 2, "multifd-compression": "zstd"}


def test_what_the_migration_before_was_told_is_off_again() -> None:
    """Who comes next has not been told of it, and would wait for what never comes."""
    vm = Vm("completed")
    prepare(vm.of_qemu, PLAIN.with_more(["switchover-ack", "xbzrle"], {}, recovers=False), soon())
    vm.asked.clear()
    prepare(vm.of_qemu, PLAIN.with_more(["xbzrle"], {}, recovers=False), soon())
    assert vm.asked[0][1]["capabilities"] == [
        {"capability": "switchover-ack", "state": False}, {"capability": "xbzrle", "state": True},
        {"capability": "events", "state": True}]


@pytest.mark.parametrize(("said", "info", "refusal"), [
    ("completed", {}, None),
    ("failed", {"error-desc": "Unknown ramblock \"pc.bios\""},
     Refusal("ram-block-unknown", 'Unknown ramblock "pc.bios"')),
    ("cancelled", {}, Refusal("other", "cancelled")),
    ("failed", [], Refusal("other", "failed")),
    ("failed", {"error-desc": {"of": "no kind"}}, Refusal("other", "failed")),
    ("failed", {"error-desc": "x" * 10_000}, Refusal("other", "x" * 2000)),
])
def test_what_a_qemu_says_has_become_of_it(
    said: str, info: Any, refusal: Refusal | None
) -> None:
    vm = Vm(said, info)
    assert outcome(vm.of_qemu, 3, soon()) == refusal
    assert vm.waited == [("MIGRATION", 3, base.ENDS)]


def test_the_destination_listens_before_the_source_connects() -> None:
    log: list[str] = []
    source, destination = Vm("completed", log=log, name="a"), Vm("completed", log=log, name="b")
    done = live(source.of_qemu, destination.of_qemu, nullcontext("unix:x"), PLAIN,
                soon())
    assert done.refusal is None
    assert log.index("b migrate-incoming") < log.index("a migrate")
    assert log.index("b wait") < log.index("a wait"), "the destination knows best"
    assert ("migrate", {"uri": "unix:x"}) in source.asked


def test_a_destination_that_refuses_is_believed_and_the_source_not_waited_for() -> None:
    source, destination = Vm("completed"), Vm("failed", {"error-desc": "Size mismatch: a: 1 != 2"})
    done = live(source.of_qemu, destination.of_qemu, nullcontext("unix:x"), PLAIN,
                soon())
    assert done.refusal == Refusal("ram-block-size", "Size mismatch: a: 1 != 2")
    assert source.waited == []


def test_a_monitor_that_refuses_is_an_answer() -> None:
    def work() -> Refusal | None:
        raise MonitorError("Device 'pflash1' is writable but does not support snapshots")

    done = attempt((), work, soon())
    assert done.refusal is not None
    assert done.refusal.kind == "block-device"


@pytest.mark.parametrize(("log", "status", "told"), [
    ("qemu-system-x86_64: Unknown savevm section 8\n", 1,
     Refusal("unknown-section", "Unknown savevm section 8")),
    ("", 134, Refusal("other", "b: QEMU ended, exit status 134")),
    ("", None, Refusal("other", "failed")),
])
def test_a_reason_that_is_none_is_looked_for_in_the_logs(
    log: str, status: int | None, told: Refusal
) -> None:
    vm = Vm("failed", name="b", tail=log, status=status)
    done = attempt((vm.of_qemu,), lambda: Refusal("other", "failed"), soon())
    assert isinstance(done, Migration)
    assert done.refusal == told
    assert done.seconds >= 0


def test_a_reason_that_is_known_needs_no_log() -> None:
    known = Refusal("machine-type", "x")
    vm: Any = SimpleNamespace()  # would fail if it were asked
    assert attempt((vm,), lambda: known, soon()).refusal == known


def test_a_qemu_that_does_not_end_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "LAST_WORDS_SECONDS", 0.0)
    vm = Vm("failed", name="b", tail="qemu-system-x86_64: Failed to load x:y\n", hangs=True)
    done = attempt((vm.of_qemu,), lambda: Refusal("other", "failed"), soon())
    assert done.refusal == Refusal("device-state", "Failed to load x:y")
    assert vm.hung == 1
    with pytest.raises(DeadlineExceeded):
        vm.wait_process(soon())
