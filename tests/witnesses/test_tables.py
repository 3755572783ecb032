"""The ACPI and SMBIOS tables that the guest finds, planted and judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.steps.guest_flash import GuestFlash
from bootmatrix.verdict import judge
from bootmatrix.witnesses import tables
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from helpers.judging import HERE, KNOWN, MIGRATE, OLD, START, boot, migrated, planned, started, up

ONE, OTHER = "11111111", "22222222"
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


def test_what_is_in_the_record() -> None:
    assert tables.row(replace(HERE, acpi=ONE, smbios=OTHER)) == {
        "acpi": ONE, "smbios_tables": OTHER}
    assert tables.row(None) == tables.row(HERE) == {"acpi": None, "smbios_tables": None}
