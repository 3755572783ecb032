"""A cell run up to a step, and its guest given to a person: console, monitor, gdb."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bootmatrix.builds import image_store
from bootmatrix.builds.host import Builds
from bootmatrix.cell import Cell
from bootmatrix.engines import Engine
from bootmatrix.engines.confinement import CELL
from bootmatrix.errors import UserError
from bootmatrix.machines.qemu.machine import QemuHosts, QemuMachine
from bootmatrix.machines.setup import setup_of
from bootmatrix.model import Host, role_name
from bootmatrix.run.guest import RIG_SECONDS, Guest
from bootmatrix.run.steps import run_steps
from bootmatrix.steps.base import Step
from bootmatrix.witnesses.observation import StepObserved

DETACH = b"\x1d"  # Ctrl-], telnet's escape
_GDB = "by-hand-gdb.sock"


@dataclass(frozen=True)
class Attached:
    """A guest at the step that was asked for.

    ``monitor`` and ``gdb`` are unix sockets on this host; ``gdb`` is None where the policy's
    firmware swap itself uses QEMU's only stub. ``console`` is for who reads it from now on,
    ``so_far`` what it has said.
    """

    seen: Sequence[StepObserved]
    monitor: Path
    gdb: Path | None
    console: socket.socket
    so_far: str


def steps_until(cell: Cell, until: str | None) -> Sequence[Step]:
    """The steps up to ``until``: a number, a step's name, or ``NAME:2`` for the second such.

    Raises UserError.
    """
    steps = cell.scenario.steps
    if until is None:
        return steps
    name, _, which = until.partition(":")
    places = [n for n, step in enumerate(steps, 1) if name in (str(n), step.kind)]
    number = int(which) if which.isdecimal() else 1
    if (which and not which.isdecimal()) or not 1 <= number <= len(places):
        listed = ", ".join(f"{n} {step.kind}" for n, step in enumerate(steps, 1))
        raise UserError(f"--until {until}: no such step", hint=f"{cell.scenario.name}: {listed}")
    return steps[: places[number - 1]]


@contextlib.contextmanager
def attached(
    cell: Cell, steps: Sequence[Step], builds: Builds, engine: Engine, directory: Path
) -> Iterator[Attached]:
    """Run the steps in ``directory`` (an empty one), and hold the guest until left.

    Raises UserError where no guest is left to be given to anyone, with the reason.
    """
    hosts = [_with_monitor(builds.host(spec), n) for n, spec in enumerate(cell.hosts)]
    setup = setup_of(cell, hosts, image_store.cache_home())
    seen: list[StepObserved] = []
    with Guest(QemuHosts(engine, setup, directory)) as guest:
        run_steps(guest, steps, seen)
        last = seen[-1]
        try:
            machine = guest.able(QemuMachine)
        except UserError:
            why = str(last.refusal) if last.refusal else "it does not run after this step"
            raise UserError(f"{last.step.kind}: no guest to attach to: {why}") from None
        if last.boot is not None and last.boot.ended is not None:
            raise UserError(f"QEMU has ended: {last.boot.ended}")
        vm, cell_path = machine.vm, machine.vm.scratch.cell.path
        gdb = None
        if machine.stub_is_free:
            gdb = cell_path / _GDB
            vm.monitor.execute(
                "human-monitor-command",
                {"command-line": f"gdbserver unix:{CELL}/{_GDB},server=on,wait=off"},
                deadline=vm.clock.deadline(RIG_SECONDS),
            )
        yield Attached(
            tuple(seen), cell_path / _monitor(machine.host), gdb, vm.console.handed_over(),
            vm.console.tail(1 << 16),
        )


def _monitor(host: int) -> str:
    return f"by-hand-{role_name(host)}.sock"


def _with_monitor(host: Host, number: int) -> Host:
    """The host, its QEMUs with one more monitor, for a person."""
    more = ("-chardev", f"socket,id=by-hand,path={CELL}/{_monitor(number)},server=on,wait=off",
            "-mon", "chardev=by-hand,mode=readline")  # fmt: skip
    return replace(host, qemu=replace(host.qemu, arguments=(*host.qemu.arguments, *more)))


def converse(
    console: socket.socket, on_end: Callable[[str], None], ended: str = "QEMU has ended"
) -> None:
    """Pass keys and text between this terminal and a console, until Ctrl-] or its end."""
    keys, screen = sys.stdin.fileno(), sys.stdout.fileno()
    with _raw(keys):
        poll = select.poll()
        for ear in (keys, console.fileno()):
            poll.register(ear, select.POLLIN)
        while True:
            ready = [ear for ear, _ in poll.poll()]
            if console.fileno() in ready:
                data = _received(console)
                if not data:
                    on_end(f"\r\n{ended}\r")
                    return
                os.write(screen, data)
            if keys in ready:
                typed = os.read(keys, 1024)
                before, detach, _ = typed.partition(DETACH)
                with contextlib.suppress(OSError):
                    console.sendall(before)
                if detach or not typed:
                    return


def _received(console: socket.socket) -> bytes:
    try:
        return console.recv(4096)
    except ConnectionResetError:
        return b""


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Every key goes through as it is; the terminal is put right again at the end."""
    if not os.isatty(terminal):
        yield
        return
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)

