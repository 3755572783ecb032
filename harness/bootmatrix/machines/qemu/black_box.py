"""What a QEMU's guest is doing that is not up: asked of the monitor, before QEMU is ended.

The CPU is looked at while it stands still, and runs on between two looks: what QEMU prints of one
that runs can be older than the loop it is in (measured: docs/reading-a-report.md).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bootmatrix.engines.scratch import FIRMWARE_LOG
from bootmatrix.errors import CellError, DeadlineExceeded, MonitorError
from bootmatrix.machines.qemu import reactor
from bootmatrix.machines.qemu.command_line import DEBUG_LOG, DEBUG_LOG_BYTES, debug_log
from bootmatrix.machines.qemu.process import VM
from bootmatrix.machines.qemu.samples import (
    Naming,
    Sample,
    accesses,
    most_frequent,
    sample,
    sentence,
)
from bootmatrix.model import Arch
from bootmatrix.witnesses.observation import BlackBox

SECONDS = 0.5
"""All that it may take; what there was no time for is named."""
SAMPLES = 20
SECTION_LENGTH = 8192
"""Characters that are kept of one answer."""

# Of a monitor that has answered before; under load a millisecond's work can take some hundred.
_ANSWER_SECONDS = 0.2
_SAMPLING_SECONDS = 0.25
# So long the guest runs between two samples, and while its accesses are traced.
_RUN_SECONDS, _TRACE_SECONDS = 0.004, 0.01
_TRACE, _TRACE_BYTES = "accesses.log", 64 << 10
_TRACED = ("memory_region_ops_read", "memory_region_ops_write")
_MOST_ACCESSES, _MOST_IN_A_LINE = 30, 4
_LOG_END, _WORDS_LENGTH = 4096, 80
_OWN_PORT = "port 0x402 "
# By us; the second, where a reset that was on its way has come meanwhile.
_STOPPED = ("paused", "prelaunch")
_WORD = re.compile(r"[a-z-]{1,40}")
# Of floating point and vectors, half a screen of which nothing is to be learnt here.
_NO_MATTER = re.compile(r"^(?:FCW|FPR|XMM|YMM|ZMM|Opmask|Q\d\d=)[^\n]*\n?", re.MULTILINE)
# A machine that was reset so often in one step goes round.
_ROUNDS = 3
# What tells of the machine beside its CPU, where the machine has it.
_MACHINE = ("info pic", "info irq", "info pci")


@dataclass
class _Found:
    """What was found, as far as it goes; ``missing`` is what there was no answer to.

    ``resets_known``: the monitor still has the event of each reset.
    """

    resets_known: bool
    status: str = ""
    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0
    registers: str = ""
    instructions: dict[int, str] = field(default_factory=dict)
    traces: bool = False
    trace: str = ""
    log: bytes = b""
    machine: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def explain(vm: VM, arch: Arch, since: float, naming: Naming = lambda address: "") -> BlackBox:
    """What is to be known of a guest that is not up, and should be since a time (monotonic).

    ``naming`` has the firmware's symbols. It takes at most SECONDS, and raises nothing: that
    somebody does not answer is part of it.
    """
    found = _Found(resets_known=vm.monitor.remembers(since))
    resets, waited = vm.monitor.times("RESET", since), time.monotonic() - since
    with contextlib.suppress(DeadlineExceeded, MonitorError):
        reactor.call(_Looking(vm, found).look(), vm.clock.deadline(SECONDS), "a black box")
    with contextlib.suppress(CellError, FileNotFoundError):
        if found.traces:
            file = vm.file(_TRACE)
            found.trace = vm.scratch.cell.tail(file, _TRACE_BYTES).decode("ascii", "replace")
            vm.scratch.cell.unlink(file)
    if found.log:
        with (vm.private / FIRMWARE_LOG).open("ab") as log:
            log.write(found.log)
    done = accesses(found.trace, ports=arch is Arch.X86_64)
    line = _line(found, done, resets, waited, naming)
    if not found.status and vm.monitor.lost:
        line = "the monitor is gone"
    parts = [f"{vm.name}, {waited:.1f} s after the step began", line]
    parts += [f"== {title}\n{said}" for title, said in _sections(found, done, resets, naming)]
    return BlackBox(line, "\n\n".join(parts) + "\n",
                    blind=not found.samples and not vm.monitor.lost)


class _Looking:
    """Looks at one QEMU. It runs in the reactor's loop, and can be cancelled at any moment."""

    def __init__(self, vm: VM, found: _Found) -> None:
        self._vm = vm
        self._found = found

    async def look(self) -> None:
        """Fill in what is found."""
        # The first answer is waited for as long as there is time: it tells whether there are any.
        self._found.status = _status(await self._vm.monitor.ask("query-status"))
        self._vm.held = True
        try:
            await self._part("the CPU", self._cpu)
            if self._found.status == "running":
                await self._part("accesses to devices", self._accesses)
        finally:
            if self._found.status == "running":
                await self._part("that it may go on", self._go_on)
            self._vm.held = False
        if {*debug_log()} <= {*self._vm.argv}:
            await self._part("the firmware's debug log", self._debug_log)
        for command in _MACHINE:
            await self._part(command, self._ask_machine, command)

    async def _part(self, name: str, part: Any, *arguments: str) -> None:
        try:
            await part(*arguments)
        except (TimeoutError, MonitorError):
            self._found.missing.append(name)

    async def _ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await self._vm.monitor.ask(command, arguments)

    async def _monitor(self, line: str, length: int = SECTION_LENGTH) -> str:
        answer = await self._ask("human-monitor-command", {"command-line": line})
        return answer.replace("\r\n", "\n")[:length] if isinstance(answer, str) else ""

    # -- the CPU -----------------------------------------------------------------------------------

    async def _cpu(self) -> None:
        begun = time.monotonic()
        if self._found.status != "running":
            await self._sample()
            return
        while len(self._found.samples) < SAMPLES and self._found.seconds < _SAMPLING_SECONDS:
            await self._ask("stop")
            await self._sample()
            await self._go_on()
            await asyncio.sleep(_RUN_SECONDS)
            self._found.seconds = time.monotonic() - begun

    async def _sample(self) -> None:
        registers = await self._monitor("info registers -a")
        if (one := sample(registers)) is None:
            return
        if one.address not in self._found.instructions:
            # Now, as the CPU's mode belongs to it.
            self._found.instructions[one.address] = await self._monitor(f"x/8i {one.address:#x}")
        self._found.registers = registers
        self._found.samples.append(one)

    async def _go_on(self) -> None:
        # At a breakpoint it is the swap that goes on.
        if _status(await self._ask("query-status")) in _STOPPED:
            await self._ask("cont")

    # -- what it accesses --------------------------------------------------------------------------

    async def _accesses(self) -> None:
        await self._monitor(f"logfile {self._vm.inside}/{_TRACE}")
        self._found.traces = True
        try:
            await self._trace(on=True)
            await asyncio.sleep(_TRACE_SECONDS)
        finally:
            await self._trace(on=False)

    async def _trace(self, on: bool) -> None:
        for event in _TRACED:
            await self._ask("trace-event-set-state", {"name": event, "enable": on})

    # -- the rest ----------------------------------------------------------------------------------

    async def _debug_log(self) -> None:
        arguments = {"device": DEBUG_LOG, "size": DEBUG_LOG_BYTES, "format": "base64"}
        with contextlib.suppress(TypeError, ValueError):  # no base64: QEMU's own to know why
            log = base64.b64decode(await self._ask("ringbuf-read", arguments))
            self._found.log = log[-DEBUG_LOG_BYTES:]  # a QEMU of somebody's may say more than asked

    async def _ask_machine(self, command: str) -> None:
        answer = await self._monitor(command)
        if answer and not answer.startswith("unknown command"):
            self._found.machine[command] = answer


def _status(answer: Any) -> str:
    """A word for whether the guest runs, of which QEMU has a dozen."""
    said = answer.get("status") if isinstance(answer, dict) else None
    return said if isinstance(said, str) and _WORD.fullmatch(said) else "unknown"


# ---- told --------------------------------------------------------------------------------------


def _line(
    found: _Found, done: list[tuple[str, int]], resets: int, waited: float, naming: Naming
) -> str:
    """All of it in a line, made of numbers and of our own words."""
    if not found.status:
        return f"the monitor does not answer within {SECONDS} s"
    doing = sentence(found.samples, naming)
    if found.status != "running":
        return f"QEMU has stopped the guest ({found.status}): {doing}"
    accessed = [what for what, _ in done if _OWN_PORT not in what]
    if accessed and not all(one.halted for one in found.samples):
        doing += ": " + ", ".join(accessed[:_MOST_IN_A_LINE])
    if resets >= _ROUNDS:
        least = "" if found.resets_known else "at least "
        doing = f"reset {least}{resets} times in {waited:.1f} s; {doing}"
    words = _last_words(found.log)
    return f'{doing}; the firmware printed "{words}"' if words else doing


def _last_words(log: bytes) -> str:
    """The last whole line of a debug log; what is no plain text in it is left out."""
    lines = log.rpartition(b"\n")[0].split(b"\n")
    return next(filter(None, map(_plain, reversed(lines[-20:]))), "")


def _plain(line: bytes) -> str:
    text = "".join(chr(byte) for byte in line if 32 <= byte < 127)
    return " ".join(text.replace('"', "'").split())[:_WORDS_LENGTH]


def _sections(
    found: _Found, done: list[tuple[str, int]], resets: int, naming: Naming
) -> Iterator[tuple[str, str]]:
    if found.samples:
        counts = Counter((one.address, one.shown) for one in found.samples)
        took = f" in {1000 * found.seconds:.0f} ms" if found.seconds else ""
        yield f"where the CPU is: {len(found.samples)} samples{took}", "\n".join(
            f"{many:3} x {shown} {naming(address)}".rstrip()
            for (address, shown), many in counts.most_common())
        often = most_frequent(found.samples)
        yield f"instructions at {often.shown}", found.instructions[often.address].rstrip()
        yield "registers, at the last sample", _NO_MATTER.sub("", found.registers).strip()
    if found.trace:
        yield "accesses to devices, the last", "\n".join(
            f"{many:6} x {what}" for what, many in done[:_MOST_ACCESSES])
    if found.log:
        end = found.log[-_LOG_END:].decode("utf-8", "replace").replace("\r", "")
        yield f"the end of the firmware's debug log ({FIRMWARE_LOG})", end.rstrip()
    if resets:
        yield "resets since the step began", str(resets)
    yield from ((command, said.rstrip()) for command, said in found.machine.items())
    if found.missing:
        yield "no answer in time to", "\n".join(found.missing)
