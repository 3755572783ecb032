"""What all modes of a migration do alike: ask for it, and find out who refused if it cannot be."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bootmatrix.deadline import Deadline
from bootmatrix.errors import DeadlineExceeded, MonitorError
from bootmatrix.machines.base import LAST_WORDS_SECONDS
from bootmatrix.machines.qemu.process import VM
from bootmatrix.modes import Mode
from bootmatrix.witnesses.refusal import Refusal, classify

# QEMU's default (128 MiB/s, and 32 MiB/s before 6.0) would make a copy within one machine
# a wait: no limit that matters.
_BANDWIDTH = 100 << 30
# What a QEMU says of a migration at its end.
ENDS = ("completed", "failed", "cancelled", "postcopy-paused")
# Characters of what a QEMU says of its failure that are looked at.
_WORDS = 2000


@dataclass(frozen=True)
class Migration:
    """What became of a migration; ``seconds`` from the request to the destination's word."""

    refusal: Refusal | None
    seconds: float


def live(
    source: VM,
    destination: VM,
    connected: AbstractContextManager[str],
    mode: Mode,
    deadline: Deadline,
    begun: Callable[[int], None] = lambda since: None,
) -> Migration:
    """Migrate from QEMU to QEMU, by the URI that ``connected`` gives to both.

    ``begun`` is called when the migration is, with the mark of the source's events.
    """

    def move() -> Refusal | None:
        from_source = prepare(source, mode, deadline, mode.source)
        from_destination = prepare(destination, mode, deadline, mode.destination)
        with connected as uri:
            destination.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
            source.monitor.execute("migrate", {"uri": uri}, deadline=deadline)
            begun(from_source)
            return outcome(destination, from_destination, deadline) or outcome(
                source, from_source, deadline
            )

    return attempt((destination, source), move, deadline)


def attempt(
    vms: Sequence[VM], work: Callable[[], Refusal | None], deadline: Deadline
) -> Migration:
    """Do it, and find the reason if it is refused; ``vms`` in the order of who knows best."""
    started = time.monotonic()
    try:
        refusal = work()
    except MonitorError as error:
        refusal = classify(f"qemu-system-x86_64: {error.message}")
    if refusal is not None and refusal.kind == "other":
        refusal = _last_words(vms, deadline, refusal)
    return Migration(refusal, time.monotonic() - started)


def prepare(
    vm: VM, mode: Mode, deadline: Deadline, own: Mapping[str, Any] = MappingProxyType({})
) -> int:
    """Have migration events told, in a mode, at full speed; the mark from which on they count.

    ``own`` are parameters of this side alone. Capabilities of a migration before, that brought the
    guest here, are off: the other side of this one has not been told of them.
    """
    state = dict.fromkeys(sorted(vm.capabilities), False) | dict.fromkeys(
        ("events", *mode.capabilities), True)
    wanted = [{"capability": name, "state": on} for name, on in state.items()]
    vm.monitor.execute("migrate-set-capabilities", {"capabilities": wanted}, deadline=deadline)
    vm.capabilities = frozenset(mode.capabilities)  # of a list that it refuses QEMU takes nothing
    vm.monitor.execute("migrate-set-parameters",
                       {"max-bandwidth": _BANDWIDTH, **mode.parameters, **own},
                       deadline=deadline)
    return vm.monitor.mark()


def give(vm: VM, end: socket.socket, deadline: Deadline, name: str = "migration") -> str:
    """Pass QEMU one end of a connection (getfd, by SCM_RIGHTS), which is closed here."""
    with end:
        vm.monitor.execute_with_fd("getfd", {"fdname": name}, end.fileno(), deadline=deadline)
    return f"fd:{name}"


def connect(
    source: VM, destination: VM, deadline: Deadline, name: str = "migration"
) -> str:
    """Give each QEMU its end of a new connection; the URI by which both know it."""
    uri = ""
    for vm, end in zip((source, destination), socket.socketpair(), strict=True):
        uri = give(vm, end, deadline, name)
    return uri


def outcome(vm: VM, since: int, deadline: Deadline) -> Refusal | None:
    """Wait until a QEMU says what has become of it; None: completed.

    One of postcopy that has lost the other side pauses, and would wait for it for ever.
    """
    event = vm.monitor.wait("MIGRATION", since=since, deadline=deadline, status=ENDS)
    status = event.data["status"]
    return None if status == "completed" else failure(vm, status, deadline)


def failure(vm: VM, status: str, deadline: Deadline) -> Refusal:
    """Why a migration of a QEMU has come to an end with that status, if it says more."""
    info = vm.monitor.execute("query-migrate", deadline=deadline)
    said = info.get("error-desc") if isinstance(info, Mapping) else None
    words = said[:_WORDS] if isinstance(said, str) and said else status
    return classify(f"qemu-system-x86_64: {words}")


def _last_words(vms: Sequence[VM], deadline: Deadline, otherwise: Refusal) -> Refusal:
    """The classified reason from the logs; the side that fails first often only sees the other go.

    A QEMU that could not load a stream ends by itself; its log is complete then.
    """
    for vm in vms:
        with contextlib.suppress(DeadlineExceeded):
            vm.process.wait(deadline.sooner(LAST_WORDS_SECONDS))
        refusal = classify(vm.log_tail())
        if refusal.kind != "other" or refusal.message != "no reason given":
            return refusal
    for vm in vms:
        if status := vm.process.poll():
            return Refusal("other", f"{vm.name}: QEMU ended, exit status {status}")
    return otherwise
