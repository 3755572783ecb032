"""By a snapshot in the guest's disk: taken, and loaded by a QEMU that is launched afterwards.

QEMU writes memory and the state of devices into the qcow2 image of the disk. By jobs that name the
disk (6.0 and later), which leave a flash in a raw file alone: its content is memory of the guest's,
too. By the human monitor before that, which wants a snapshot of everything that is written to.
"""

from __future__ import annotations

from collections.abc import Mapping

from bootmatrix.deadline import Deadline
from bootmatrix.errors import MonitorError
from bootmatrix.machines.qemu.command_line import DISK_NODE
from bootmatrix.machines.qemu.migration.base import Migration, attempt
from bootmatrix.machines.qemu.process import VM
from bootmatrix.witnesses.refusal import Refusal, classify

_TAG = "bootmatrix"
_BY_HAND = {"save": "savevm", "load": "loadvm", "delete": "delvm"}
_NO_SUCH_COMMAND = "has not been found"


def save(source: VM, deadline: Deadline) -> Migration:
    """Take a snapshot of a guest, which then stands still; it goes on if that is refused."""

    def take() -> Refusal | None:
        source.monitor.execute("stop", deadline=deadline)
        refusal = _done(source, "save", deadline)
        if refusal is not None:
            source.monitor.execute("cont", deadline=deadline)
        return refusal

    return attempt((source,), take, deadline)


def load(destination: VM, deadline: Deadline) -> Migration:
    """Put that guest into a QEMU whose own has not begun to run, and let it run."""

    def put() -> Refusal | None:
        # A guest that moves on has its next one under the same name.
        refusal = _done(destination, "load", deadline) or _done(destination, "delete", deadline)
        if refusal is None:
            destination.monitor.execute("cont", deadline=deadline)
        return refusal

    return attempt((destination,), put, deadline)


def _done(vm: VM, what: str, deadline: Deadline) -> Refusal | None:
    try:
        complaint = _by_job(vm, f"snapshot-{what}", deadline)
    except MonitorError as error:
        if _NO_SUCH_COMMAND not in error.message:
            raise
        complaint = vm.monitor.execute(
            "human-monitor-command", {"command-line": f"{_BY_HAND[what]} {_TAG}"},
            deadline=deadline)
    if not isinstance(complaint, str) or not complaint.strip():
        return None
    return classify(f"qemu-system-x86_64: {complaint.strip().removeprefix('Error: ')}")


def _by_job(vm: VM, command: str, deadline: Deadline) -> object:
    """What a job complains of; "" for nothing."""
    monitor = vm.monitor
    since = monitor.mark()
    where = {} if command == "snapshot-delete" else {"vmstate": DISK_NODE}
    monitor.execute(command, {"job-id": _TAG, "tag": _TAG, **where, "devices": [DISK_NODE]},
                    deadline=deadline)
    monitor.wait("JOB_STATUS_CHANGE", since=since, deadline=deadline, id=_TAG,
                 status=("concluded",))
    jobs = monitor.execute("query-jobs", deadline=deadline)
    monitor.execute("job-dismiss", {"id": _TAG}, deadline=deadline)
    return next((job.get("error", "") for job in (jobs if isinstance(jobs, list) else ())
                 if isinstance(job, Mapping) and job.get("id") == _TAG), "")
