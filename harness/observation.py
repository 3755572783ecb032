"""What was seen of a guest, before anybody says whether it was right: frozen data."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model import Step
from harness.probe_line import ProbeLine
from harness.refusals import Refusal


@dataclass(frozen=True)
class BootObserved:
    """What the witnesses of one boot said.

    ``host`` is an index into the cell's hosts. ``banners`` are the versions of the firmware
    banners on the console, in order (more than one: the machine went round). ``up`` is the
    probe guest's line, None if it never came. ``rom`` is the sha256 of the ROM's bytes, None if
    they could not be read. ``seconds`` run from the request to the guest's line, or to giving
    up, for which the console had to say nothing for ``limit`` seconds. ``ended`` is QEMU's last
    words if it ended during the boot. ``spoke`` tells of a firmware without a banner that it said
    something.
    """

    host: int
    banners: tuple[str, ...]
    up: ProbeLine | None
    rom: str | None
    seconds: float
    limit: float
    ended: str | None = None
    spoke: bool = False


@dataclass(frozen=True)
class StepObserved:
    """What became of one step.

    ``rom`` and ``here`` are the witnesses after a migration that need no boot: the sha256 of
    the ROM's bytes, and the running guest's own word. ``nvram_equal``: whether the
    destination's nvram file holds what the source's did. ``flash`` is what the guest said at the
    end of programming its flash. ``cut_off`` is set where it did not come to that: QEMU's last
    words, and ``flashed`` the bytes that were programmed for certain.
    ``failed`` is set where the guest did not do what it was told to, and says what it did instead.
    ``told`` is the guest's line about a variable that it wrote or a store that it filled.
    """

    step: Step
    seconds: float
    host: int | None = None
    refusal: Refusal | None = None
    boot: BootObserved | None = None
    rom: str | None = None
    here: ProbeLine | None = None
    nvram_equal: bool | None = None
    flash: ProbeLine | None = None
    flashed: int | None = None
    cut_off: str | None = None
    told: ProbeLine | None = None
    failed: str | None = None
