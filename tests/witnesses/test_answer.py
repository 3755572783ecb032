"""A guest that must answer, and one that did something else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.witnesses import answer
from bootmatrix.witnesses.observation import BlackBox, StepObserved
from helpers.judging import (
    HERE,
    MIGRATE,
    OLD,
    SHUTDOWN,
    START,
    judge_migration,
    migrated,
    moment,
    planned,
    started,
)


@pytest.mark.parametrize("rom", [OLD.sha256, None])
def test_the_guest_is_dead_after_the_migration(rom: str | None) -> None:
    judgement = judge_migration(migrated(rom, answer=None))
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == "migrate: the guest no longer answers on the destination"


def test_a_step_that_asks_for_no_answer_needs_none() -> None:
    (begun, down) = planned(START, SHUTDOWN)
    assert answer.missing(moment(down, StepObserved(SHUTDOWN, 0.1))) is None
    assert answer.missing(moment(begun, started())) is None


def test_it_is_said_how_long_an_answer_was_waited_for() -> None:
    _, expected = planned(START, MIGRATE)
    seen = replace(migrated(answer=None), limit=120.0)
    assert answer.missing(moment(expected, seen)) == (
        Verdict.NO_BOOT, "the guest no longer answers on the destination (waited 120 s)"
    )
    assert answer.missing(moment(expected, replace(seen, answer=HERE))) is None


@pytest.mark.parametrize(("box", "told"), [
    (None, True), (BlackBox("the registers cannot be read", "", blind=True), True),
    (BlackBox("halted until an interrupt comes, at 0000:7C50", ""), True),
    (BlackBox("loops in 0xffffffff81000000-0xffffffff81000010", ""), False),
    (BlackBox("halted with interrupts off at 0000:7C18", ""), False),
], ids=["none", "blind", "real-mode", "beyond", "off"])
def test_what_is_typed_to_a_disk_of_the_users_may_be_seabios_s_to_read(
    box: BlackBox | None, told: bool
) -> None:
    _, expected = planned(START, MIGRATE)
    at = moment(expected, replace(migrated(answer=None), black_box=box))
    for listens in (True, False):
        found = answer.missing(replace(at, given=replace(at.given, bios_listens=listens)))
        assert found is not None
        assert ("SeaBIOS' serial console took what was typed" in found[1]) is (told and listens)


def test_a_guest_that_did_something_else() -> None:
    expected = planned(START, SHUTDOWN)[-1]
    seen = StepObserved(SHUTDOWN, 60.0, 0, failed="the machine still runs")
    assert answer.not_done(moment(expected, seen)) == (Verdict.NO_BOOT, "the machine still runs")
    assert answer.not_done(moment(expected, replace(seen, failed=None))) is None


def test_a_machine_that_nothing_has_reset() -> None:
    expected = planned(START, SHUTDOWN)[-1]
    seen = StepObserved(SHUTDOWN, 5.0, 0, failed="it was not reset", not_reset=True)
    assert answer.not_done(moment(expected, seen)) == (
        Verdict.NOT_RESET, "it was not reset; the guest no longer answers")
    assert answer.not_done(moment(expected, replace(seen, answer=replace(HERE, boot=3)))) == (
        Verdict.NOT_RESET, "it was not reset; the guest goes on, and answers as boot 3")


def test_what_a_running_guest_answered_is_in_the_record() -> None:
    line = replace(HERE, bios_version="1.14.0-2")
    assert answer.step_row(migrated(answer=line)) == {"guest": {
        "counter": 1, "cmos": None, "bios_version": "1.14.0-2", "fw_cfg": None, "acpi": None,
        "smbios_tables": None, "program_sum": None, "memory": None, "cpus": None, "kernel": None,
    }}  # fmt: skip
    assert answer.step_row(migrated(answer=None)) == {}
