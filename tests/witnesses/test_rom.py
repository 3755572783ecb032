"""The ROM's bytes: they confirm the console, tell twins apart, and need no boot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.model import FirmwareBuild, Verdict
from bootmatrix.policies import Policy
from bootmatrix.steps.guest_flash import GuestFlash
from bootmatrix.verdict import judge
from bootmatrix.witnesses import rom
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from helpers.judging import (
    KNOWN,
    LIMIT,
    MIGRATE,
    NEW,
    OLD,
    START,
    TWIN_1,
    TWIN_2,
    UNKNOWN_ROM,
    boot,
    build,
    judge_migration,
    judge_reset,
    judge_start,
    migrated,
    moment,
    planned,
    rows_of,
    started,
    up,
)

FLASH = GuestFlash(firmware_of=1)


def test_wrong_firmware_by_the_rom() -> None:
    judgement = judge_reset(boot(OLD, 1))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        "boot 2 (reset on destination): expected seabios-new, seen seabios-old"
    )


def test_wrong_firmware_by_the_console_where_the_rom_could_not_be_read() -> None:
    judgement = judge_reset(replace(boot(OLD, 1), rom=None))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        "boot 2 (reset on destination): expected seabios-new, seen seabios-old"
    )
    assert rows_of(judgement)[1]["rom"] is None


def test_the_console_alone_can_tell_that_all_is_well() -> None:
    assert judge_reset(replace(boot(NEW, 1), rom=None)).verdict is Verdict.PASS


def test_wrong_firmware_where_both_are_unknown() -> None:
    text = "1.99.0-home-made"
    seen = BootObserved(0, (text,), up(text), UNKNOWN_ROM, 0.1, LIMIT)
    judgement = judge_start(seen)
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        f"boot 1 (start on source): expected seabios-old, seen sha256:{UNKNOWN_ROM}"
    )
    assert rows_of(judgement)[0]["console"] == text
    assert rows_of(judgement)[0]["rom"] == f"sha256:{UNKNOWN_ROM}"


@pytest.mark.parametrize(
    ("text", "rom", "seen"),
    [
        # a known text in bytes that are not known: somebody rebuilt it, or the ROM was damaged
        ("1.14.0-2", UNKNOWN_ROM, f"sha256:{UNKNOWN_ROM}"),
        # an unknown text from known bytes
        ("1.99.0-home-made", OLD.sha256, "seabios-old"),
    ],
)
def test_half_known_is_a_witness_conflict(text: str, rom: str, seen: str) -> None:
    judgement = judge_start(BootObserved(0, (text,), up(text), rom, 0.1, LIMIT))
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason.startswith("boot 1 (start on source): the console says ")
    assert judgement.reason.endswith(f"the ROM's bytes are {seen}")


@pytest.mark.parametrize(("console", "rom"), [(OLD, NEW), (NEW, OLD)])
def test_console_against_rom(console: FirmwareBuild, rom: FirmwareBuild) -> None:
    # Neither is averaged away, not even where one of them is what the policy promises.
    judgement = judge_reset(replace(boot(console, 1), rom=rom.sha256))
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason == (
        f"boot 2 (reset on destination): the console says {console.name}, "
        f"the ROM's bytes are {rom.name}"
    )


def test_the_bytes_alone_do_not_decide() -> None:
    for digest in (OLD.sha256, NEW.sha256, None):
        judgement = judge_start(BootObserved(0, (), up(""), digest, 0.1, LIMIT))
        assert judgement.verdict is Verdict.WITNESS_CONFLICT
        assert rows_of(judgement)[0]["console"] is None
        bytes_are = KNOWN.by_bytes(digest) if digest else "unreadable"
        assert judgement.reason.endswith(
            f"nothing on the console named a firmware; the ROM's bytes are {bytes_are}")


@pytest.mark.parametrize(
    ("ran", "verdict"), [(TWIN_1, Verdict.PASS), (TWIN_2, Verdict.WRONG_FIRMWARE)]
)
def test_twins_are_told_apart_by_their_bytes(ran: FirmwareBuild, verdict: Verdict) -> None:
    expected = planned(START, firmwares=(TWIN_1, TWIN_2))
    judgement = judge(expected, [started(boot(ran))], KNOWN)
    assert judgement.verdict is verdict
    assert ran.name in judgement.reason
    # The record says that the console could not tell.
    (seen,) = rows_of(judgement)
    assert (seen["console"], seen["rom"]) == ("0.0.0", ran.name)
    assert seen["console_candidates"] == ["twin-1", "twin-2"]
    assert seen["told_by"] == "rom"


def test_twins_without_their_bytes_are_no_finding() -> None:
    expected = planned(START, firmwares=(TWIN_1, TWIN_2))
    judgement = judge(expected, [started(replace(boot(TWIN_1), rom=None))], KNOWN)
    assert judgement.verdict is Verdict.ERROR
    assert judgement.reason == (
        "boot 1 (start on source): 0.0.0 is printed by twin-1 and twin-2, "
        "and the ROM's bytes could not be read"
    )


def test_a_twins_text_on_other_bytes_is_a_conflict() -> None:
    expected = planned(START, firmwares=(TWIN_1, TWIN_2))
    seen = started(replace(boot(TWIN_1), rom=OLD.sha256))
    judgement = judge(expected, [seen], KNOWN)
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert rows_of(judgement)[0]["told_by"] is None


def test_a_text_that_no_known_build_prints_is_told_by_nobody() -> None:
    seen = BootObserved(0, ("1.99.0",), up("1.99.0"), UNKNOWN_ROM, 0.1, LIMIT)
    assert rows_of(judge_start(seen))[0]["told_by"] is None


@pytest.mark.parametrize("rom", [True, False])
def test_two_names_for_the_same_bytes_are_one_firmware(rom: bool) -> None:
    plain, enrolled = build("code", "9.9"), replace(build("code", "9.9"), name="code-enrolled")
    known = KnownFirmware([plain, enrolled])
    expected = planned(START, firmwares=(enrolled, NEW))
    seen = boot(enrolled) if rom else replace(boot(enrolled), rom=None)
    judgement = judge(expected, [started(seen)], known)
    assert (judgement.verdict, judgement.reason) == (
        Verdict.PASS, "code-enrolled (start on source)"
    )
    assert rows_of(judgement)[0]["told_by"] == "console"


def test_a_migrated_guest_that_runs_on() -> None:
    assert judge_migration(migrated()).verdict is Verdict.PASS


def test_the_rom_changed_under_the_running_guest() -> None:
    judgement = judge_migration(migrated(rom=NEW.sha256))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        "migrate: the ROM of the running guest changed to seabios-new, "
        "expected seabios-old until the next reset"
    )


def test_a_rom_that_cannot_be_read_does_not_make_a_guest_dead() -> None:
    assert judge_migration(migrated(rom=None)).verdict is Verdict.PASS


def test_the_changed_rom_explains_a_dead_guest() -> None:
    judgement = judge_migration(migrated(rom=NEW.sha256, answer=None))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE


def test_the_rom_changed_to_what_nobody_knows() -> None:
    judgement = judge_migration(migrated(rom=UNKNOWN_ROM))
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert f"sha256:{UNKNOWN_ROM}" in judgement.reason


def test_a_rom_that_was_to_be_flashed_is_told_from_one_that_changed() -> None:
    _, expected = planned(START, FLASH, policy=Policy.GUEST_OWNED)
    line = ProbeLine("flash", size=1, written=1, result="refused")
    seen = StepObserved(FLASH, 0.1, 0, rom=OLD.sha256, flash=line)
    assert rom.changed(moment(expected, seen)) == (
        Verdict.WRONG_FIRMWARE,
        "the guest says refused, expected seabios-new in the ROM, seen seabios-old",
    )
    assert rom.changed(moment(expected, replace(seen, rom=NEW.sha256))) is None


def test_what_a_step_without_a_boot_puts_into_the_record() -> None:
    assert rom.step_row(migrated(), KNOWN) == {"rom": "seabios-old"}
    assert rom.step_row(migrated(rom=None), KNOWN) == {}


def test_bytes_of_several_names_are_what_is_expected_of_a_running_guest() -> None:
    twin = replace(OLD, name="seabios-old-again")
    known = KnownFirmware([OLD, twin])
    _, expected = planned(START, MIGRATE, firmwares=(twin, NEW))
    assert rom.changed(moment(expected, migrated(), firmware=known)) is None
