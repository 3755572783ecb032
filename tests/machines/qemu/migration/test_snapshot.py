"""A snapshot in the guest's disk, on QEMUs of which only the monitor is there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import MonitorError
from bootmatrix.machines.qemu.migration import snapshot

DISK = {"job-id": "bootmatrix", "tag": "bootmatrix", "vmstate": "disk", "devices": ["disk"]}


class Vm:
    """A QEMU that knows jobs or not, and complains of a snapshot or not."""

    def __init__(self, *, jobs: bool = True, complaint: str = "") -> None:
        self.asked: list[tuple[str, Any]] = []
        self._jobs, self._complaint = jobs, complaint
        monitor = SimpleNamespace(execute=self._execute, mark=lambda: 3, wait=self._wait)
        self.of_qemu: Any = SimpleNamespace(
            name="vm", monitor=monitor, log_tail=lambda: "",
            process=SimpleNamespace(wait=lambda deadline: 0, poll=lambda: None))

    def _execute(self, command: str, arguments: Any = None, *, deadline: Deadline) -> Any:
        self.asked.append((command, arguments))
        if command.startswith("snapshot-") and not self._jobs:
            raise MonitorError(f"vm: {command}: The command {command} has not been found")
        if command == "query-jobs":
            error = {"error": self._complaint} if self._complaint else {}
            return [{"id": "another"}, {"id": "bootmatrix", **error}]
        return f"Error: {self._complaint}\r\n" if self._complaint else ""

    def _wait(self, event: str, *, since: int, deadline: Deadline, **data: Any) -> None:
        assert (event, since) == ("JOB_STATUS_CHANGE", 3)
        assert data == {"id": "bootmatrix", "status": ("concluded",)}


def test_it_is_taken_of_the_disk_alone_while_the_guest_stands_still() -> None:
    vm = Vm()
    assert snapshot.save(vm.of_qemu, Deadline.after(60)).refusal is None
    assert vm.asked == [("stop", None), ("snapshot-save", DISK), ("query-jobs", None),
                        ("job-dismiss", {"id": "bootmatrix"})]


def test_a_guest_that_was_loaded_goes_on() -> None:
    vm = Vm()
    assert snapshot.load(vm.of_qemu, Deadline.after(60)).refusal is None
    assert [command for command, _ in vm.asked] == [
        "snapshot-load", "query-jobs", "job-dismiss",
        "snapshot-delete", "query-jobs", "job-dismiss", "cont"], "it may be taken again"
    deleted = dict(vm.asked)["snapshot-delete"]
    assert deleted == {key: value for key, value in DISK.items() if key != "vmstate"}


@pytest.mark.parametrize("jobs", [True, False])
def test_a_snapshot_that_is_refused_leaves_the_guest_running(jobs: bool) -> None:
    vm = Vm(jobs=jobs, complaint="Device 'flash0' is writable but does not support snapshots")
    refusal = snapshot.save(vm.of_qemu, Deadline.after(60)).refusal
    assert refusal is not None
    assert refusal.kind == "block-device"
    assert vm.asked[-1] == ("cont", None)


def test_before_there_were_jobs_the_human_monitor_does_it() -> None:
    vm = Vm(jobs=False)
    assert snapshot.save(vm.of_qemu, Deadline.after(60)).refusal is None
    assert snapshot.load(vm.of_qemu, Deadline.after(60)).refusal is None
    lines = [given["command-line"] for command, given in vm.asked
             if command == "human-monitor-command"]
    assert lines == ["savevm bootmatrix", "loadvm bootmatrix", "delvm bootmatrix"]
