"""A BIOS guest's life, planted as observations, and what the verdict makes of it.

The host ``source`` has the firmware OLD, ``destination`` NEW; TWIN_1 and TWIN_2 print the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bootmatrix.firmware.identity import KnownFirmware, sha256
from bootmatrix.model import FirmwareBuild
from bootmatrix.policies import Policy
from bootmatrix.policies.base import HostFacts
from bootmatrix.records.rows import boot_row
from bootmatrix.steps.base import Step
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.plan import Expected, plan
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from bootmatrix.verdict import Judgement, judge
from bootmatrix.witnesses.moment import Moment
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from bootmatrix.witnesses.refusal import Refusal

Q35 = "pc-q35-5.2"


def build(name: str, prints: str | None) -> FirmwareBuild:
    """A firmware whose bytes are its name's."""
    return FirmwareBuild(name, sha256(name.encode()), 262144, Path(name), prints=prints)


OLD, NEW = build("seabios-old", "1.14.0-2"), build("seabios-new", "1.17.0-1")
TWIN_1, TWIN_2 = build("twin-1", "0.0.0"), build("twin-2", "0.0.0")
KNOWN = KnownFirmware([OLD, NEW, TWIN_1, TWIN_2])
UNKNOWN_ROM = sha256(b"never seen before")

START, RESET, SHUTDOWN = Start(0), Reset(), Shutdown()
MIGRATE, DURING_POST = Migrate(1), Migrate(1, during_post=True)
LIMIT = 5.0
HERE = ProbeLine("here", 1, 3)
MACHINE_TYPE = Refusal("machine-type", "Machine type received is 'a' and local is 'b'")


def planned(
    *steps: Step,
    policy: Policy = Policy.MACHINE_OWNED,
    machine: str = Q35,
    firmwares: tuple[FirmwareBuild, FirmwareBuild] = (OLD, NEW),
) -> tuple[Expected, ...]:
    """What must be seen after each step."""
    hosts = [
        HostFacts(version, f"pc-i440fx-{version}", firmware.name)
        for version, firmware in zip(("5.2", "11.1"), firmwares, strict=True)
    ]
    return plan(policy, hosts, machine, steps)


def up(firmware: str | FirmwareBuild, counter: int = 1, disk: str = "A") -> ProbeLine:
    """What a guest says as it comes up under a firmware, or one of that version."""
    version = firmware if isinstance(firmware, str) else firmware.prints
    return ProbeLine("up", counter, None, "SeaBIOS", version, disk)


def boot(firmware: FirmwareBuild, host: int = 0, counter: int = 1) -> BootObserved:
    """A boot at which all witnesses agree on a firmware."""
    assert firmware.prints is not None
    return BootObserved(
        host, (firmware.prints,), up(firmware, counter), firmware.sha256, 0.0678912, LIMIT
    )


def started(seen: BootObserved | None = None) -> StepObserved:
    """A start; of OLD, where nothing else is said."""
    return StepObserved(START, 0.1, 0, boot=seen or boot(OLD))


def migrated(rom: str | None = OLD.sha256, answer: ProbeLine | None = HERE) -> StepObserved:
    """A migration after which the guest runs on."""
    return StepObserved(MIGRATE, 0.1, 1, rom=rom, answer=answer)


def reset(seen: BootObserved) -> StepObserved:
    """A reset."""
    return StepObserved(RESET, 0.1, seen.host, boot=seen)


def judge_start(seen: BootObserved) -> Judgement:
    """A start that was seen as given."""
    return judge(planned(START), [started(seen)], KNOWN)


def judge_migration(seen: StepObserved) -> Judgement:
    """A migration that was seen as given."""
    return judge(planned(START, MIGRATE), [started(), seen], KNOWN)


def judge_reset(seen: BootObserved) -> Judgement:
    """A machine-owned guest, migrated to the destination, where its reset was seen as given."""
    return judge(planned(START, MIGRATE, RESET), [started(), migrated(), reset(seen)], KNOWN)


def judge_late(boot: BootObserved, usual: float = 5.0) -> Judgement:
    """A reset that was not up within its usual time, and was waited for."""
    came = StepObserved(RESET, boot.seconds, 1, boot=boot, usual=usual)
    return judge(planned(START, MIGRATE, RESET), [started(), migrated(), came], KNOWN)


def moment(expected: Expected, seen: StepObserved, **changed: Any) -> Moment:
    """One step as its witnesses see it; a boot that is seen is this step's own."""
    begun = expected if seen.boot is not None else None
    return Moment(expected, seen, **{"firmware": KNOWN, "begun": begun} | changed)


def rows_of(judgement: Judgement) -> list[Any]:
    """The boots as rows of the record."""
    return [boot_row(boot) for boot in judgement.boots]
