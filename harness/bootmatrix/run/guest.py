"""One guest's life on its machines: its console, and its policy's mechanism.

``bootmatrix.run.steps`` does the steps of a scenario to a ``Guest``, which says what it saw. What
should have been seen is none of its business: bootmatrix.steps.plan knows, bootmatrix.verdict
compares.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

from bootmatrix.deadline import Deadline, awake, hurried
from bootmatrix.errors import DeadlineExceeded, MonitorError, UserError
from bootmatrix.machines.base import (
    Explains,
    Hosts,
    Machine,
    Migrates,
    ReadsMemory,
    Saves,
    Starts,
    SwapsFirmware,
    SwitchesOff,
    able,
)
from bootmatrix.model import Channel, Interface
from bootmatrix.policies.base import Swap
from bootmatrix.steps.base import Step
from bootmatrix.steps.migrate import Migrate
from bootmatrix.witnesses.observation import BlackBox, BootObserved, StepObserved
from bootmatrix.witnesses.refusal import LIMITED, Refusal, classify, limit_text
from bootmatrix.witnesses.resets import ENDLESS

T = TypeVar("T")

# Everything but a boot: launching, a monitor command, a migration of a 32 MiB guest. Each
# takes milliseconds; a rig that needs longer than this is broken.
RIG_SECONDS = 60.0
# A guest that survived a migration answers within a tick of its clock, 55 ms.
ANSWER_SECONDS = 5.0
# For QEMU to say how often it was reset. One that hangs has said it before.
_COUNT_SECONDS = 1.0
# A guest that ends or suspends stops its devices first, one that fills its variable store erases
# flash block by block.
GUEST_SECONDS = 60.0

_STREAM = "stream"
_HOST_FILES = "host"


class Guest:
    """A guest on its hosts. Leaving it ends all its machines.

    ``incoming`` is a machine that was launched to receive it, ``coming`` one to which a migration
    has begun, ``saved`` where it is kept instead of
    running. ``launched`` is how many machines there have been after each step. ``banners`` are
    those that a boot has shown before the step began in which it is watched. ``never_comes`` is
    asked in a boot whose machine goes round: whether the same was watched for all of its usual time
    before, and did so.
    """

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.setup = hosts.setup
        self._running: Machine | None = None
        self._spent = self._at = 0.0
        self.incoming: Machine | None = None
        self.coming: Machine | None = None
        self.saved: Path | None = None
        self.launched: list[int] = []
        self.banners: tuple[str, ...] = ()
        self.never_comes: Callable[[], bool] = lambda: False
        self._resets = 0  # of the machines that it has left since its last boot was over

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every machine of this guest."""
        self.hosts.close()

    @property
    def running(self) -> Machine | None:
        """The machine in which it runs."""
        return self._running

    @running.setter
    def running(self, machine: Machine | None) -> None:
        # A step's time goes by the clock of whom is waited for, which is the same at a launch.
        self._spend(machine if self._running is None else self._running)
        self._running, self._at = machine, _time(machine)

    def _spend(self, machine: Machine | None) -> None:
        """What has gone by of the step that is being done, by a machine's clock."""
        now = _time(machine)
        self._spent, self._at = self._spent + now - self._at, now

    @property
    def machine(self) -> Machine:
        """The machine in which the guest runs. Raises UserError if it does not run."""
        if self.running is None:
            raise UserError("the guest does not run", hint="start it first")
        return self.running

    def able(self, ability: type[T]) -> T:
        """The machine in which the guest runs, as one with an ability. Raises UserError."""
        return able(self.machine, ability)

    def launch(self, host: int, *, incoming: bool) -> Machine:
        """A new machine on a host. ``incoming``: to receive the guest."""
        return able(self.hosts, Starts).launch(host, incoming=incoming)

    def arm(self, machine: Machine) -> None:
        """Make the policy's firmware run at the resets of a machine, if it can do so."""
        if isinstance(machine, SwapsFirmware):
            machine.arm()

    # -- the step that is being done --------------------------------------------------------

    def begin(self, step: Step) -> None:
        """A step begins now, and with it the time that is said of it."""
        self._step, self._spent, self._at = step, 0.0, _time(self.running)
        self._begun_wall = time.monotonic()

    def observed(self, **witnesses: Any) -> StepObserved:
        """What was seen of the step that is being done, with what StepObserved has for it."""
        self.launched.append(len(self.hosts.processes))
        panic = self.running.console.panic if self.running else None
        if panic is not None and not (witnesses.get("answer") or witnesses.get("boot")):
            # Nothing more will come of it, however long it is waited for.
            witnesses |= {"failed": f"the kernel panicked: {panic}", "limit": None}
        seconds, wall = self._elapsed
        return StepObserved(self._step, seconds, self.host, wall=wall, **witnesses)

    def refused(self, refusal: Refusal) -> StepObserved:
        """QEMU has refused the step that is being done."""
        return self.observed(refusal=replace(
            refusal, message=refusal.message + self._limit_behind(refusal)))

    def _limit_behind(self, refusal: Refusal) -> str:
        """Which limit of its sandboxes is behind what a QEMU said; "": none that is known."""
        name = LIMITED.get(refusal.kind)
        if name is None:
            return ""
        return (f" (its sandbox has {limit_text(self.setup.limits, name)}; limits: {{{name}: N}} "
                "in the matrix file is another)")

    @property
    def _elapsed(self) -> tuple[float, float]:
        """Seconds since then in which its machine was able to run, and by the wall clock."""
        self._spend(self.running)
        return self._spent, time.monotonic() - self._begun_wall

    @property
    def host(self) -> int | None:
        """Where the guest runs; None: nowhere."""
        return self.running.host if self.running else None

    @property
    def stream(self) -> Path:
        """Where the migration stream is of a guest that is kept."""
        assert self.saved is not None
        return self.saved / _STREAM

    @property
    def rig(self) -> Deadline:
        """For what is the harness's own to do, and takes milliseconds."""
        if self.running is None:
            return Deadline.after(RIG_SECONDS)
        return self.running.clock.deadline(RIG_SECONDS)

    def deadline(self, seconds: float) -> Deadline:
        """For what the guest does in so many seconds, or, with patience, by then."""
        clock = self.machine.clock
        if self.setup.hurry:
            return Deadline.after(clock.limit(seconds), hurried(clock, self.setup.hurry))
        return clock.deadline(seconds)

    def limit(self, seconds: float) -> float:
        """How long the guest is then waited for, in seconds in which its machine is able to run."""
        return self.machine.clock.limit(seconds)

    @property
    def command_seconds(self) -> float:
        """How long the guest is waited for when it has been told to do something."""
        return max(GUEST_SECONDS, self.setup.least)

    @property
    def answer_seconds(self) -> float:
        """How long the guest is waited for when it has been asked how it is."""
        return max(ANSWER_SECONDS, self.setup.least)

    def resets(self) -> int:
        """How often the machine was reset since the last boot was over, wherever the guest ran."""
        return self._resets + self.machine.resets(self.machine.clock.deadline(_COUNT_SECONDS))

    def went_round(self) -> bool:
        """Whether it was reset since, in a step in which nobody asks for it."""
        return self.resets() > 0

    def left(self, machine: Machine) -> None:
        """The guest has moved out of a machine."""
        self._resets += machine.resets(machine.clock.deadline(_COUNT_SECONDS))

    # -- saved, and resumed --------------------------------------------------------------------

    def save(self, directory: Path) -> StepObserved:
        """Keep the running guest in a new directory, for others to ``resume`` it from."""
        machine, deadline = self.machine, self.rig
        # What is refused here, the migration that this stands for would have been refused.
        self.begin(Migrate(machine.host, Channel.FILE))
        able(self.hosts, Saves).keep(machine.host, directory / _HOST_FILES)
        refusal = self.able(Migrates).save(directory / _STREAM, deadline)
        self.able(SwitchesOff).off(deadline)
        observed = self.observed(refusal=refusal)
        self.running = None
        return observed

    def resume(self, directory: Path, host: int) -> None:
        """Be the guest that was kept in ``directory`` when it ran on ``host``; migrate it next."""
        able(self.hosts, Saves).take_up(host, directory / _HOST_FILES)
        self.saved = directory

    # -- how they are done -----------------------------------------------------------------

    def boot(self, *, banner_only: bool = False) -> StepObserved:
        """Watch the boot that has begun; ``banner_only``: until the firmware has said its name."""
        machine = self.machine
        if banner_only:
            banner = machine.console.wait_for_banner(self.deadline(self.setup.seconds))
            if banner is not None:
                self.banners = (banner,)
                return self.observed()
        seen = machine.console.wait_for_boot(
            self.deadline(self.setup.seconds), self.banners, self._goes_round)
        seconds, wall = self._elapsed
        resets = self.resets()
        swapped = isinstance(machine, SwapsFirmware) and machine.swapped
        refusal = machine.booted()
        self._resets = 0
        if refusal is not None:
            return self.refused(refusal)
        ended = None
        if seen.ended:
            ended = self._end(machine)
        rom = None if seen.ended else self.rom()
        if self.setup.mechanism.swap is Swap.FILE:
            self.arm(machine)  # its next reset reads the file again
        return self.observed(boot=BootObserved(
            machine.host, seen.banners, seen.up, rom, seconds, self.limit(self.setup.seconds),
            ended, seen.spoke,
            # UEFI firmware has no banner: that it says anything shows that it runs.
            nameless=self.setup.interface is Interface.UEFI, wall=wall,
            resets=resets, swapped=swapped, panic=seen.panic,
        ))  # fmt: skip

    def _goes_round(self) -> bool:
        """Whether it was reset again and again in this boot, and is known not to come up then."""
        # It is asked while nothing comes: what was heard by now will do, and no monitor is asked.
        heard = self._resets + self.machine.resets(Deadline.after(0))
        return heard >= ENDLESS and self.never_comes()

    def _end(self, machine: Machine) -> str:
        """The last words of a machine that has closed its console, and how it has ended."""
        try:
            status = machine.exit_status(self.rig)
            how = f" (exit status {status})" if status else ""
        except DeadlineExceeded:
            how = " (its console is closed, and its process goes on)"
        words = machine.last_words().rstrip()
        behind = self._limit_behind(classify(words)) if words else ""
        return (words or "no last words") + how + behind

    def explain(self) -> BlackBox | None:
        """What its machine is doing, which should have done the step; None where it cannot say."""
        machine = self.running
        if not isinstance(machine, Explains) or not machine.alive:
            return None
        return machine.explain(self._begun_wall)

    def stopped(self) -> str | None:
        """Why its machine has stopped it by itself and does not go on; None where it has not."""
        return None if self.running is None else self.running.stopped()

    def rom(self) -> str | None:
        """The sha256 of the firmware's bytes; None where they tell nothing, or cannot be read."""
        if not isinstance(self.running, ReadsMemory):
            return None
        try:
            return self.running.rom_digest(self.running.clock.deadline(ANSWER_SECONDS))
        except (MonitorError, DeadlineExceeded):
            return None  # a machine that hangs or has gone cannot be asked; the console decides


def _time(machine: Machine | None) -> float:
    """By a machine's clock, or by that of this process."""
    return awake() if machine is None else machine.clock.look()
