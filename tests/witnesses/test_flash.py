"""A guest that flashes itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import FirmwareBuild, Verdict
from bootmatrix.policies import Policy
from bootmatrix.steps.guest_flash import GuestFlash
from bootmatrix.verdict import Judgement, judge
from bootmatrix.witnesses import flash
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from helpers.judging import HERE, KNOWN, NEW, OLD, START, planned, started

FLASH = GuestFlash(firmware_of=1)


def judge_flash(seen: StepObserved, policy: Policy = Policy.GUEST_OWNED) -> Judgement:
    return judge(planned(START, FLASH, policy=policy), [started(), seen], KNOWN)


def flashed(rom: FirmwareBuild, result: str) -> StepObserved:
    line = ProbeLine("flash", size=262144, written=262144, result=result)
    return StepObserved(FLASH, 0.1, 0, rom=rom.sha256, answer=HERE, flash=line)


def test_a_flash_that_was_programmed() -> None:
    assert judge_flash(flashed(NEW, "ok")).verdict is Verdict.PASS
    assert judge_flash(flashed(OLD, "no-flash"), Policy.STOCK).verdict is Verdict.PASS


@pytest.mark.parametrize("result", ["no-flash", "refused", "mismatch"])
def test_a_flash_that_did_not_take_it(result: str) -> None:
    judgement = judge_flash(flashed(OLD, result))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        f"guest-flash: the guest says {result}, expected seabios-new in the ROM, "
        "seen seabios-old"
    )


def test_a_rom_that_let_itself_be_programmed() -> None:
    judgement = judge_flash(flashed(NEW, "ok"), Policy.STOCK)
    assert judgement.verdict is Verdict.WRONG_FIRMWARE


def test_a_guest_that_did_not_survive_it() -> None:
    judgement = judge_flash(replace(flashed(NEW, "ok"), answer=None))
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == "guest-flash: the guest no longer answers"


def test_a_guest_that_was_cut_off_meanwhile() -> None:
    judgement = judge_flash(StepObserved(FLASH, 0.1, 0, flashed=65536, cut_off="a\nKilled\n"))
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == (
        "guest-flash: cut off after 65536 bytes or more were programmed, "
        "the flash is half-written: Killed"
    )


def test_what_is_in_the_record() -> None:
    assert flash.step_row(flashed(NEW, "ok")) == {
        "flash": {"size": 262144, "written": 262144, "result": "ok"}}
    cut_off = StepObserved(FLASH, 0.1, 0, flashed=65536, cut_off="Killed")
    assert flash.step_row(cut_off) == {
        "flash": {"size": None, "written": 65536, "result": "cut-off"}}
    assert flash.step_row(started()) == {}
