"""One step of a cell, as its witnesses see it: what must be, what was seen, what came before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.model import Verdict, role_name
from bootmatrix.steps.plan import Expected
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.probe_line import Measured, ProbeLine, Tables

# The wall clock says the same as a machine's own if it has no more than that part more, or less
# than so many seconds.
_NOTABLY, _NOTABLE_SECONDS = 1.2, 0.1
_NEARLY = 0.95  # of a time, by a clock that is read a moment later
_CLOCK_NOTE = re.compile(
    r" \([\d.]+ s by the clock, in which QEMU was (?:kept waiting|able to run for [\d.]+ s)\)"
    r"|, in which QEMU was able to run for [\d.]+ s,| of patience\b")
_GONE_ROUND = re.compile(
    r"(?<=the machine was reset )(?:\d+(?= times meanwhile)|(?:once|\d+ times)(?= or more))")
_GIVEN_UP = re.compile(  # sooner the faster it goes round: a busy machine's time is over before
    r" while the machine was reset \d+ times and more| in [\d.]+ s; the machine was reset again "
    r"and again")
_GOES_ROUND = " while the machine was reset again and again"

Problem = tuple[Verdict, str]
"""What a witness finds wrong, without where it was."""


@dataclass(frozen=True)
class Given:
    """What is known of a cell beside its plan; None and empty where that is nothing.

    ``mismatch`` says that code and variables of its firmware have different layouts, which explains
    variables that are lost. ``memory_mib`` and ``cpus`` are what its guest was given, ``smm`` tells
    that its firmware takes a part of that memory for itself, ``real`` that it is a board, whose
    CMOS has a battery or not. ``offered`` are the tables that a start finds on a host, by its
    index, with a firmware, and ``measured`` what that measures of itself. ``tpm``: a guest has one.
    ``machine`` is the type of which SMBIOS must tell, None where that is not known.
    ``keys`` is what a guest says of its Secure Boot keys once it has enrolled its own.
    ``bios_listens``: SeaBIOS reads the serial port that a disk of the user's is typed to.
    ``nvram`` is what the guest counts its boots in.
    """

    mismatch: str | None = None
    memory_mib: int | None = None
    cpus: int | None = None
    smm: bool = False
    real: bool = False
    bios_listens: bool = False
    nvram: str = "CMOS"
    offered: Mapping[tuple[int, str | None], Tables] = field(default_factory=dict)
    tpm: bool = False
    keys: str | None = None
    measured: Mapping[tuple[int, str | None], Measured] = field(default_factory=dict)
    machine: str | None = None


@dataclass(frozen=True)
class Moment:
    """What must hold after a step, what was seen of it, and the guest's life before.

    ``begun`` is the step that began the boot which is seen then: this one, or that before a
    migration during POST; None where no boot is seen. ``boots`` are the boots before, ``before``
    is what the guest said last, ``given`` what is known of the cell.
    """

    expected: Expected
    seen: StepObserved
    firmware: KnownFirmware
    begun: Expected | None = None
    boots: tuple[Moment, ...] = ()
    before: ProbeLine | None = None
    given: Given = Given()

    @property
    def boot(self) -> BootObserved:
        """What was seen of its boot. There must be one."""
        assert self.seen.boot is not None
        return self.seen.boot

    @property
    def line(self) -> ProbeLine | None:
        """What the guest said of itself: as it came up, or when it was asked."""
        line = self.seen.answer if self.seen.boot is None else self.seen.boot.up
        return None if line is not None and line.foreign else line

    @property
    def rom(self) -> str | None:
        """Whose bytes stand in the ROM after a boot; None where they are not read."""
        digest = self.boot.rom
        return self.firmware.by_bytes(digest, self.expected.firmware or "") if digest else None

    @property
    def n(self) -> int:
        """Which boot it is, from 1."""
        return len(self.boots) + 1

    @property
    def step(self) -> str:
        """The step that began its boot, or else the step itself."""
        return (self.begun or self.expected).step.kind

    @property
    def where(self) -> str:
        """Where it stands in the guest's life, as reasons say it."""
        if self.begun is None:
            return self.step
        return f"boot {self.n} ({self.step} on {role_name(self.boot.host)})"


def in_seconds(seconds: float) -> str:
    """A wait as reasons say it: 5.0 s, 120 s."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def differs(seconds: float, wall: float) -> bool:
    """Whether the wall clock has notably more for a wait than its machine was able to run."""
    return wall > max(_NOTABLY * seconds, seconds + _NOTABLE_SECONDS)


def clock_note(seconds: float, wall: float) -> str:
    """What reasons say behind a wait where the wall clock has another one for it."""
    if not differs(seconds, wall):
        return ""
    return (f" ({in_seconds(wall)} by the clock, in which QEMU was able to run for "
            f"{in_seconds(seconds)})")


def time_given(limit: float, seconds: float, wall: float) -> str:
    """The time in which something was waited for that did not come, as reasons say it.

    One that is over before its machine was able to run for as long goes by the wall clock: that is
    patience.
    """
    return in_seconds(limit) + (" of patience" if seconds < _NEARLY * limit <= wall else "")


def came_after(usual: float, seconds: float, wall: float) -> str:
    """After which time something came that was late, as reasons say it.

    What came within its usual time of able running was found to wait by a clock of its own.
    """
    if seconds <= usual and differs(seconds, wall):
        return f"{in_seconds(wall)}, in which QEMU was able to run for {in_seconds(seconds)},"
    return in_seconds(seconds) + clock_note(seconds, wall)


def repeatable(reason: str) -> str:
    """A reason without what no two runs have alike: waits by the clock, the rounds of a loop."""
    return _GIVEN_UP.sub(_GOES_ROUND, _GONE_ROUND.sub("N", _CLOCK_NOTE.sub("", reason)))


def last_line(text: str) -> str:
    """The last words of a QEMU that has ended."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no last words"
