"""What was seen of a guest, before anybody says whether it was right: frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from bootmatrix.steps.library import StepData
from bootmatrix.witnesses.probe_line import ProbeLine
from bootmatrix.witnesses.refusal import Refusal

BLACK_BOX = "black-box.txt"
"""The file among a cell's artifacts that holds its black boxes' texts."""

# They are kept in files between runs: what another version wrote is none of ours.
_OURS = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class BootObserved:
    """What the witnesses of one boot said.

    ``host`` is an index into the cell's hosts. ``banners`` are the versions of the firmware
    banners on the console, in order (more than one: the machine went round). ``up`` is the
    probe guest's line, None if it never came. ``rom`` is the sha256 of the ROM's bytes, None if
    they could not be read. ``seconds`` run from the request to the guest's line, or to giving
    up, which is after ``limit`` seconds: all of them while the machine was able to run; ``wall``
    are those of the wall clock. ``ended`` is QEMU's last words if it ended during the
    boot. ``spoke`` tells that anything was printed, ``nameless`` that this firmware has no banner.
    ``resets`` counts how often the machine was reset since the boot before was over, by its own
    word; None where nobody has counted. ``swapped``: its firmware was replaced at a reset then.
    ``panic`` is what a Linux kernel said that goes on no more.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _OURS
    host: int
    banners: tuple[str, ...]
    up: ProbeLine | None
    rom: str | None
    seconds: float
    limit: float
    ended: str | None = None
    spoke: bool = False
    nameless: bool = False
    wall: float = 0.0
    resets: int | None = None
    swapped: bool = False
    panic: str | None = None


@dataclass(frozen=True)
class BlackBox:
    """What a machine was doing when its guest was not up: all of it in a line, and as a text.

    ``blind``: it did not answer, so that the line says nothing of what its CPUs do.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _OURS
    line: str
    text: str
    blind: bool = False


@dataclass(frozen=True)
class StepObserved:
    """What became of one step.

    ``rom`` and ``answer`` are the witnesses after a migration that need no boot: the sha256 of
    the ROM's bytes, and the running guest's own word. ``nvram_equal``: whether the
    destination's nvram file holds what the source's did. ``flash`` is what the guest said at the
    end of programming its flash. ``cut_off`` is set where it did not come to that: QEMU's last
    words, and ``flashed`` the bytes that were programmed for certain.
    ``failed`` is set where the guest did not do what it was told to, and says what it did instead;
    with ``not_reset`` it is that the machine was not reset, by QEMU's word, and ``answer`` is the
    guest's that goes on.
    ``wrote`` is the guest's line about a variable that it wrote or a store that it filled.
    ``stopped``: the machine has stopped its guest by itself, for this reason, and did so before
    the guest was up or had answered. ``went_round``: the machine was reset though nobody had
    asked for it, by QEMU's word.
    ``ended`` is how a migration has ended that was not to arrive.
    ``usual`` is set where the step is not over within its usual time, so many seconds, and was
    waited for with patience: what stands here was seen then. ``limit`` is set where a step
    without a boot was waited for in vain, so many seconds. ``seconds`` and ``wall`` are meant as
    those of a boot. ``slowed``: QEMU was held back from here meanwhile, to tell whether the guest
    works or waits. ``black_box`` is what the machine was doing where the guest is down after the
    step.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _OURS
    step: StepData
    seconds: float
    host: int | None = None
    refusal: Refusal | None = None
    boot: BootObserved | None = None
    rom: str | None = None
    answer: ProbeLine | None = None
    nvram_equal: bool | None = None
    flash: ProbeLine | None = None
    flashed: int | None = None
    cut_off: str | None = None
    wrote: ProbeLine | None = None
    failed: str | None = None
    not_reset: bool = False
    stopped: str | None = None
    went_round: bool = False
    ended: str | None = None
    usual: float | None = None
    limit: float | None = None
    wall: float = 0.0
    slowed: bool = False
    black_box: BlackBox | None = None
