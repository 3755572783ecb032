"""What the verdict makes of what witnesses find: in which order, and over the guest's whole life.

What each of them finds is tested in ``tests/witnesses``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import FirmwareBuild, Verdict
from bootmatrix.policies import Policy
from bootmatrix.policies.base import VariablesExpected
from bootmatrix.steps.upgrade_host import UpgradeHost
from bootmatrix.verdict import judge
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from helpers.judging import (
    DURING_POST,
    HERE,
    KNOWN,
    LIMIT,
    MACHINE_TYPE,
    MIGRATE,
    NEW,
    OLD,
    RESET,
    SHUTDOWN,
    START,
    boot,
    judge_late,
    judge_reset,
    migrated,
    planned,
    reset,
    rows_of,
    started,
    up,
)


def test_pass_tells_the_guests_life_and_fills_the_boots() -> None:
    judgement = judge_reset(boot(NEW, 1, counter=2))
    assert judgement.verdict is Verdict.PASS
    assert judgement.reason == (
        "seabios-old (start on source), then seabios-new (reset on destination)"
    )
    first, second = rows_of(judgement)
    assert (first["n"], first["step"], first["host"]) == (1, "start", "source")
    assert (second["n"], second["step"], second["host"]) == (2, "reset", "destination")
    assert second["expected"] == second["console"] == second["rom"] == "seabios-new"
    assert (second["up"], second["seconds"]) == (True, 0.0679)
    core = ("n", "step", "host", "expected", "console", "rom", "up", "seconds")
    assert {key: value for key, value in second.items() if key not in core} == {
        "banners": ["1.17.0-1"],
        "rom_sha256": NEW.sha256,
        "console_candidates": ["seabios-new"],
        "disk": "A",
        "expected_disk": "A",
        "counter": 2,
        "cmos": None,
        "smbios": ["SeaBIOS", "1.17.0-1"],
        "fw_cfg": None,
        "acpi": None,
        "smbios_tables": None,
        "program_sum": None,
        "memory": None,
        "cpus": None,
        "told_by": "console",
        "variables": None,
        "kernel": None,
        "resets": None,
        "swapped": False,
    }


def test_what_comes_late_is_first_judged_by_what_came() -> None:
    wrong = replace(boot(OLD, 1, counter=2), seconds=32.6, limit=120.0)
    assert judge_late(wrong).verdict is Verdict.WRONG_FIRMWARE
    never = BootObserved(1, (), None, NEW.sha256, 120.01, 120.0)
    judgement = judge_late(never)
    assert judgement.verdict is Verdict.SILENT
    assert judgement.reason == "boot 2 (reset on destination): not a byte in 120 s"
    reloaded = judge_late(replace(never, rom=OLD.sha256))
    assert reloaded.verdict is Verdict.SILENT
    assert reloaded.reason == (
        "boot 2 (reset on destination): not a byte in 120 s; the ROM's bytes are seabios-old, "
        "expected seabios-new")
    hung = replace(never, banners=("1.17.0-1",))
    assert judge_late(hung).verdict is Verdict.NO_BOOT
    assert judge_late(hung).reason.endswith(
        "a banner of seabios-new, but the guest did not come up in 120 s"
    )


def test_a_cell_that_was_late_and_then_failed_is_what_it_failed_in() -> None:
    late = replace(started(), usual=0.01)
    plan = planned(START, MIGRATE, RESET)
    alone = judge(plan, [late], KNOWN)
    assert (alone.verdict, alone.failed) == (Verdict.LATE, 0)
    refused = judge(plan, [late, StepObserved(MIGRATE, 0.1, 0, refusal=MACHINE_TYPE)], KNOWN)
    assert (refused.verdict, refused.failed) == (Verdict.BLOCKED, 1)
    wrong = StepObserved(RESET, 0.1, 1, boot=boot(OLD, 1, counter=2))
    assert judge(plan, [late, migrated(), wrong], KNOWN).failed == 2


def test_a_refusal_is_judged_whether_it_came_or_must_come() -> None:
    refused = [started(), StepObserved(MIGRATE, 0.1, 0, refusal=MACHINE_TYPE)]
    must = planned(START, MIGRATE, RESET, machine="default")
    assert judge(planned(START, MIGRATE, RESET), refused, KNOWN).verdict is Verdict.BLOCKED
    passed = judge(must, refused, KNOWN)
    assert (passed.verdict, passed.reason) == (
        Verdict.PASS, "QEMU refused the migrate, as it must (machine-type)")
    assert judge(must, [started(), migrated()], KNOWN).verdict is Verdict.ERROR
    assert judge((), (), KNOWN).verdict is Verdict.PASS


def test_variables_that_are_lost_are_told_of_the_boot_that_lost_them() -> None:
    def store(lost: bool, boots: int) -> VariablesExpected:
        return VariablesExpected(1, boots, "", lost=lost)

    def seen(counter: int) -> BootObserved:
        return replace(boot(OLD), up=replace(up(OLD, counter), uefi="EDK II", value="", entry=""))

    start, again, third = planned(START, RESET, RESET)
    plan = [replace(start, variables=store(False, 1)), replace(again, variables=store(True, 2)),
            replace(third, variables=store(True, 3))]
    judgement = judge(plan, [started(seen(1)), reset(seen(2)), reset(seen(3))], KNOWN)
    assert judgement.reason == (
        "seabios-old (start on source), then seabios-old (reset on source, its variables are "
        "lost), then seabios-old (reset on source)")


def test_a_step_that_tells_nothing_does_not_wipe_out_what_was_told_before() -> None:
    def linux(line: ProbeLine, uptime: int) -> ProbeLine:
        return replace(line, kernel="6.1.0", token="aa", uptime=uptime)

    upgrade = UpgradeHost(0, firmware_of=1)
    booted = started(replace(boot(OLD), up=linux(up(OLD), 9)))
    seen = [booted, StepObserved(upgrade, 0.1, 0), migrated(answer=linux(HERE, 8))]
    judgement = judge(planned(START, upgrade, MIGRATE), seen, KNOWN)
    assert judgement.verdict is Verdict.WRONG_KERNEL


def test_a_wrong_boot_before_a_refusal_that_must_come_stands() -> None:
    expected = planned(START, MIGRATE, machine="default")
    seen = [started(boot(NEW)), StepObserved(MIGRATE, 0.1, 0, refusal=MACHINE_TYPE)]
    assert judge(expected, seen, KNOWN).verdict is Verdict.WRONG_FIRMWARE


def test_wrong_firmware_comes_before_fw_cfg() -> None:
    (start,) = planned(START)
    line = replace(up(NEW), fw_cfg="QEMU", features=3, host="nowhere", acpi="0123cdef")
    seen = started(replace(boot(NEW), up=line))
    judgement = judge([replace(start, label="host 0")], [seen], KNOWN)
    assert judgement.verdict is Verdict.WRONG_FIRMWARE


def test_a_dead_guest_is_the_verdict_whatever_its_reset_shows() -> None:
    seen = [started(), migrated(answer=None), reset(boot(NEW, 1))]
    judgement = judge(planned(START, MIGRATE, RESET), seen, KNOWN)
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason.startswith("migrate: ")
    assert len(judgement.boots) == 2


# ---- steps and boots ---------------------------------------------------------------------------


def test_a_boot_spread_over_two_steps() -> None:
    expected = planned(START, DURING_POST, RESET)
    seen = [
        StepObserved(START, 0.03, 0),
        StepObserved(DURING_POST, 0.6, 1, boot=boot(OLD, 1)),
        reset(boot(NEW, 1, counter=2)),
    ]
    judgement = judge(expected, seen, KNOWN)
    assert judgement.verdict is Verdict.PASS
    assert [(each["n"], each["step"], each["host"]) for each in rows_of(judgement)] == [
        (1, "start", "destination"),
        (2, "reset", "destination"),
    ]


def test_a_boot_spread_over_two_steps_fails_like_any_other() -> None:
    expected = planned(START, DURING_POST)
    hung = BootObserved(1, ("1.14.0-2",), None, None, 5.1, LIMIT)
    seen = [
        StepObserved(START, 0.03, 0),
        StepObserved(DURING_POST, 5.2, 1, boot=hung),
    ]
    judgement = judge(expected, seen, KNOWN)
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason.startswith("boot 1 (start on destination): a banner of seabios-old")


def test_a_boot_that_began_and_was_never_seen_is_no_pass() -> None:
    judgement = judge(planned(START), [StepObserved(START, 0.1, 0)], KNOWN)
    assert judgement.verdict is Verdict.ERROR
    assert judgement.reason == "start: nobody watched the boot"
    seen = [StepObserved(START, 0.1, 0), migrated()]
    assert judge(planned(START, MIGRATE), seen, KNOWN).verdict is Verdict.ERROR


def test_a_boot_that_no_step_began_is_no_pass() -> None:
    seen = [started(), StepObserved(MIGRATE, 0.1, 1, boot=boot(OLD, 1))]
    judgement = judge(planned(START, MIGRATE), seen, KNOWN)
    assert judgement.verdict is Verdict.ERROR
    assert judgement.reason == "migrate: a boot was watched that no step began"


@pytest.mark.parametrize("done", [0, 1, 2])
def test_fewer_steps_done_than_planned(done: int) -> None:
    seen = [started(), migrated(), reset(boot(NEW, 1))][:done]
    judgement = judge(planned(START, MIGRATE, RESET), seen, KNOWN)
    assert judgement.verdict is Verdict.ERROR
    assert judgement.reason == f"only {done} of 3 steps were done"


def test_steps_that_the_runner_left_out_after_a_failure_do_not_hide_it() -> None:
    seen = [started(BootObserved(0, (), None, None, 5.1, LIMIT))]
    assert judge(planned(START, MIGRATE, RESET), seen, KNOWN).verdict is Verdict.SILENT


def test_the_first_failure_is_the_verdict_and_every_boot_is_kept() -> None:
    seen = [started(boot(NEW)), migrated(rom=NEW.sha256), reset(boot(OLD, 1))]
    judgement = judge(planned(START, MIGRATE, RESET), seen, KNOWN)
    assert judgement.verdict is Verdict.WRONG_FIRMWARE
    assert judgement.reason == (
        "boot 1 (start on source): expected seabios-old, seen seabios-new"
    )
    assert [each["rom"] for each in rows_of(judgement)] == ["seabios-new", "seabios-old"]


def test_steps_without_a_boot_ask_for_nothing() -> None:
    upgrade = UpgradeHost(0, firmware_of=1)
    expected = planned(START, upgrade, SHUTDOWN, START)
    seen = [
        started(), StepObserved(upgrade, 0.0, 0), StepObserved(SHUTDOWN, 0.1), started(boot(NEW))
    ]  # fmt: skip
    assert judge(expected, seen, KNOWN).verdict is Verdict.PASS


# ---- the same life judged by another policy ----------------------------------------------------


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("ran", [OLD, NEW])
def test_what_is_right_depends_on_the_policy(policy: Policy, ran: FirmwareBuild) -> None:
    expected = planned(START, MIGRATE, RESET, policy=policy)
    judgement = judge(expected, [started(), migrated(), reset(boot(ran, 1, 2))], KNOWN)
    promised = NEW if policy in (Policy.MACHINE_OWNED, Policy.REREAD) else OLD
    assert judgement.verdict is (Verdict.PASS if ran is promised else Verdict.WRONG_FIRMWARE)
