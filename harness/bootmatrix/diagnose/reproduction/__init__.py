"""A cell as a shell script that needs no harness: the same QEMUs, done to them by hand.

The script is text made of a cell and its hosts; docs/reproduce.md says how to use it. What it does
in each step is in ``steps``, the shell functions for that are the files ``*.sh``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.resources import files
from itertools import zip_longest

from bootmatrix.arguments import machine_type
from bootmatrix.cell import Cell
from bootmatrix.diagnose.reproduction import parts
from bootmatrix.diagnose.reproduction.script import BASE, FLASH, TLS, ShellScript, as_one
from bootmatrix.diagnose.reproduction.steps import write
from bootmatrix.machines.qemu.migration import credentials
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Channel, role_name
from bootmatrix.modes import MODES, PEER, Credentials
from bootmatrix.nvram.layout import HEAD
from bootmatrix.policies.base import HostFacts
from bootmatrix.records.words import joined
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.plan import plan


def script(cell: Cell, setup: GuestSetup) -> str:
    """The script. ``setup`` is what the cell's guest is made of."""
    body = _body(cell, setup)
    swaps = "arm_swap" in body
    tcp = any(isinstance(step, Migrate) and step.channel is Channel.TCP
              for step in cell.scenario.steps)
    said = [
        "#!/bin/bash",
        *map(as_one, _head(cell, setup, swaps)),
        *(as_one(line) for index, host in enumerate(setup.hosts)
          for line in parts.host(index, host, tcp, setup.grants(index))),
        _shell("tools.sh").replace("@SECONDS@", str(math.ceil(cell.seconds)))
        .replace("@PATIENCE@", str(math.ceil(cell.longest))).replace("@HEAD@", str(HEAD)),
        *([_shell("swap.sh")] if swaps else []),
        *([_shell("own.sh")] if setup.own_disk is not None else []),
        *parts.own_disk(setup),
        *parts.kernel(setup),
        *parts.disk("disk_a", setup.disks[0]),
        *(parts.disk("disk_b", setup.disks[1]) if "disk_b" in body else ()),
        _shell("guest.sh"),
        body,
        "",
        "finish 'all steps done'",
    ]
    return "\n".join(said) + "\n"


def _shell(name: str) -> str:
    """The shell text in a file of this package."""
    return "\n" + (files(__package__) / name).read_text("utf-8").rstrip("\n")


def _body(cell: Cell, setup: GuestSetup) -> str:
    """What is done: files put in place, then the steps."""
    script = ShellScript(cell, setup)
    for index in range(len(setup.hosts)):
        script.add(f"mkdir -p {role_name(index)}")
        script.install(index, index)
    if script.flashes is not None:
        script.add(f'cp "${parts.variable(script.flashes)}_FIRMWARE" {FLASH}')
    if setup.kernel is not None:
        script.add('cp "$KERNEL" kernel && cp "$INITRAMFS" initramfs')
    if setup.own_disk is not None:
        script.add(f'cp --reflink=auto --sparse=auto "$OWN_DISK" {BASE}')
    script.add("disk_a disk.img")
    if (kind := MODES[setup.migration].credentials) is not None:
        script.add(f"mkdir {TLS}", *_credentials(kind))
    steps = cell.scenario.steps
    for number, (step, following) in enumerate(zip_longest(steps, steps[1:]), 1):
        write(script, number, step, following)
    return "\n".join(script.lines)


def _credentials(kind: Credentials) -> Iterator[str]:
    if kind is Credentials.PSK:
        yield f'echo "{PEER}:$(od -An -tx1 -N32 /dev/urandom | tr -d " \\n")" >{TLS}/keys.psk'
    else:
        yield from (f"(cd {TLS} && {joined(argv)}) 2>/dev/null"
                    for argv in credentials.commands())


def _head(cell: Cell, setup: GuestSetup, swaps: bool) -> Iterator[str]:
    yield f"# {cell.id}"
    yield "# by hand, without the harness (`bootmatrix repro` wrote this). It needs bash, socat" + (
        ", gdb" if swaps else ""
    ) + " and"
    yield "# the QEMUs and firmware files named below. QEMU gets the command lines that the harness"
    yield "# gives it, but that its sockets listen (server=on) and paths are relative."
    yield "#"
    facts = [HostFacts(host.qemu.version, host.qemu.default_machine, host.firmware.name,
                                loader=setup.board.loader(host.firmware))
             for host in setup.hosts]
    wanted = plan(cell.policy, facts, machine_type(cell.machine), cell.scenario.steps)
    yield f"# What policy {cell.policy.value} wants to be seen:"
    for number, expected in enumerate(wanted, 1):
        what = f"QEMU refuses it ({expected.refusal})" if expected.refusal else (
            f"{expected.firmware} boots" if expected.boots else
            f"{expected.firmware} runs on" if expected.firmware else "no process")
        yield f"#   step {number}, {expected.step.kind}: {what}"
    yield ""
    yield "set -u"
