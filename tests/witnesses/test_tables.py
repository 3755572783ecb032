"""The ACPI and SMBIOS tables that the guest finds, planted and judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.steps.guest_flash import GuestFlash
from bootmatrix.verdict import judge
from bootmatrix.witnesses import tables
from bootmatrix.witnesses.moment import Given
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine, Tables
from helpers.judging import (
    DURING_POST,
    HERE,
    KNOWN,
    MIGRATE,
    NEW,
    OLD,
    RESET,
    START,
    boot,
    migrated,
    planned,
    reset,
    started,
    up,
)

ONE, OTHER = "11111111", "22222222"
OTHERS = Tables(OTHER, OTHER)
BOOTED = started(replace(boot(OLD), up=replace(up(OLD), acpi=ONE, smbios=ONE)))


@pytest.mark.parametrize(("acpi", "smbios", "told"), [
    (ONE, ONE, ""),
    (None, None, ""),
    (OTHER, ONE, f"ACPI {ONE} before, now {OTHER}"),
    (ONE, OTHER, f"SMBIOS {ONE} before, now {OTHER}"),
    (OTHER, OTHER, f"ACPI {ONE} before, now {OTHER}, SMBIOS {ONE} before, now {OTHER}"),
])
def test_they_stay_until_the_next_boot(acpi: str | None, smbios: str | None, told: str) -> None:
    answer = replace(HERE, acpi=acpi, smbios=smbios)
    judgement = judge(planned(START, MIGRATE), [BOOTED, migrated(answer=answer)], KNOWN)
    assert judgement.verdict is (Verdict.WRONG_TABLES if told else Verdict.PASS)
    if told:
        assert judgement.reason == f"migrate: tables of the running guest have changed: {told}"


def test_who_programs_its_flash_can_overwrite_them() -> None:
    flash, answer = GuestFlash(firmware_of=0), replace(HERE, acpi=ONE, smbios=OTHER)
    done = ProbeLine("flash", size=1, written=1, result="ok")
    seen = [BOOTED, StepObserved(flash, 0.1, 0, rom=OLD.sha256, answer=answer, flash=done),
            migrated(answer=answer)]
    judgement = judge(planned(START, flash, MIGRATE), seen, KNOWN)
    assert judgement.verdict is Verdict.PASS, judgement.reason


OFFERED = Given(offered={(1, "seabios-new"): Tables(ONE, ONE)})
"""What a start finds on the destination, with its firmware."""


def found(acpi: str | None, smbios: str | None, step: StepObserved) -> StepObserved:
    assert step.boot is not None
    assert step.boot.up is not None
    line = replace(step.boot.up, acpi=acpi, smbios=smbios)
    return replace(step, boot=replace(step.boot, up=line))


@pytest.mark.parametrize(("acpi", "smbios", "told"), [
    (ONE, ONE, ""),
    (None, None, ""),
    (OTHER, ONE, f"ACPI {ONE}, it found {OTHER}"),
    (ONE, OTHER, f"SMBIOS {ONE}, it found {OTHER}"),
    (OTHER, OTHER, f"ACPI {ONE}, it found {OTHER}, a start finds SMBIOS {ONE}, it found {OTHER}"),
])
def test_after_a_reset_they_are_those_of_a_start_there(
    acpi: str | None, smbios: str | None, told: str
) -> None:
    seen = [started(), migrated(), found(acpi, smbios, reset(boot(NEW, 1, 2)))]
    steps = planned(START, MIGRATE, RESET)
    judgement = judge(steps, seen, KNOWN, OFFERED)
    assert judgement.verdict is (Verdict.WRONG_TABLES if told else Verdict.PASS)
    if told:
        assert judgement.reason == ("boot 2 (reset on destination): the tables are not those of "
                                    f"the host: a start finds {told}")
    unknown = Given(offered={(1, "seabios-old"): Tables(ONE, ONE), (0, "seabios-new"): OTHERS})
    for given in (unknown, Given()):
        assert judge(steps, seen, KNOWN, given).verdict is Verdict.PASS, "nobody knows"


def test_a_start_finds_what_it_finds() -> None:
    """It is the standard, and not held to another."""
    given = Given(offered={(0, "seabios-old"): OTHERS})
    assert judge(planned(START), [BOOTED], KNOWN, given).verdict is Verdict.PASS


def test_of_a_boot_that_moved_nobody_knows_whose_they_are() -> None:
    """It took them where it began, or where it ended."""
    begun = StepObserved(START, 0.1, 0)
    moved = found(OTHER, OTHER, StepObserved(DURING_POST, 0.1, 1, boot=boot(OLD, 1)))
    steps = planned(START, DURING_POST)
    given = Given(offered={(1, "seabios-old"): Tables(ONE, ONE)})
    (end,) = judge(steps, [begun, moved], KNOWN, given).boots
    assert tables.found_at(end) is None
    again = planned(START, RESET, DURING_POST)
    judgement = judge(again, [started(), begun, moved], KNOWN, given)
    assert judgement.verdict is not Verdict.WRONG_TABLES
    for one in judge(planned(START), [BOOTED], KNOWN).boots:
        assert tables.found_at(one) == Tables(ONE, ONE)
    (silent,) = judge(planned(START), [started()], KNOWN).boots
    assert tables.found_at(silent) is None, "it tells nothing of them"


def test_what_is_in_the_record() -> None:
    assert tables.row(replace(HERE, acpi=ONE, smbios=OTHER)) == {
        "acpi": ONE, "smbios_tables": OTHER}
    assert tables.row(None) == tables.row(HERE) == {"acpi": None, "smbios_tables": None}
