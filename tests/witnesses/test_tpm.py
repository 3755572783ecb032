"""What the guest's firmware measured, and its sealed secret, planted and judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bootmatrix.model import Verdict
from bootmatrix.policies import Policy
from bootmatrix.steps.enrol_keys import EnrolKeys
from bootmatrix.verdict import Judgement, judge
from bootmatrix.witnesses import tpm
from bootmatrix.witnesses.moment import Given
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.probe_line import Measured, ProbeLine
from helpers.judging import (
    HERE,
    KNOWN,
    MIGRATE,
    NEW,
    OLD,
    RESET,
    SHUTDOWN,
    START,
    boot,
    migrated,
    planned,
    reset,
    rows_of,
    started,
)

OF_OLD, OF_NEW, OF_NOBODY = "0" * 64, "1" * 64, "f" * 64
SAME: dict[str, Any] = {"pcr2": "2" * 64, "pcr4": "4" * 64, "pcr7": "7" * 64,
                        "secure_boot": "0", "keys": "00000000"}
GIVEN = Given(tpm=True)


def telling(step: StepObserved, **said: Any) -> StepObserved:
    """A boot whose guest says this of its TPM."""
    assert step.boot is not None
    assert step.boot.up is not None
    return replace(step, boot=replace(step.boot, up=replace(step.boot.up, **{**SAME, **said})))


FIRST = telling(started(), secret="sealed", pcr0=OF_OLD)
MOVED = migrated(answer=replace(HERE, secret="sealed", pcr0=OF_OLD, **SAME))
RESET_TO_OLD, RESET_TO_NEW = reset(boot(OLD, 1, 2)), reset(boot(NEW, 1, 2))


def judged(
    last: StepObserved, policy: Policy, given: Given = GIVEN, moved: StepObserved = MOVED
) -> Judgement:
    """Started with OLD, migrated to the host with NEW, and reset."""
    return judge(planned(START, MIGRATE, RESET, policy=policy), [FIRST, moved, last], KNOWN, given)


@pytest.mark.parametrize(("policy", "last", "secret", "pcr0", "told"), [
    (Policy.STOCK, RESET_TO_OLD, "unlocked", OF_OLD, ""),
    (Policy.MACHINE_OWNED, RESET_TO_NEW, "locked-out", OF_NEW, ""),
    (Policy.STOCK, RESET_TO_OLD, "locked-out", OF_OLD,
     "the secret in the guest's TPM is locked-out, expected unlocked"),
    (Policy.STOCK, RESET_TO_OLD, "sealed", OF_OLD,
     "the secret in the guest's TPM is sealed, expected unlocked"),  # it had lost what was there
    (Policy.MACHINE_OWNED, RESET_TO_NEW, "unlocked", OF_NEW,
     "the secret in the guest's TPM is unlocked, expected locked-out"),
    (Policy.STOCK, RESET_TO_OLD, "00000923", OF_OLD, "the secret in the guest's TPM is not to be "
     "had: the TPM answers 00000923, expected unlocked"),
], ids=["kept", "changed", "closed", "lost", "opened", "failed"])
def test_the_secret_opens_with_the_firmware_that_has_sealed_it_and_no_other(
    policy: Policy, last: StepObserved, secret: str, pcr0: str, told: str
) -> None:
    judgement = judged(telling(last, secret=secret, pcr0=pcr0), policy)
    assert judgement.verdict is (Verdict.WRONG_TPM if told else Verdict.PASS), judgement.reason
    if told:
        assert judgement.reason == f"boot 2 (reset on destination): {told}"


@pytest.mark.parametrize(("changed", "secret"), [
    ({"keys": "12345678"}, "locked-out"), ({"secure_boot": "1"}, "locked-out"), ({}, "unlocked")])
def test_other_keys_lock_it_too(changed: dict[str, str], secret: str) -> None:
    """PCR 7 holds them; that they may not change here is another witness's to say."""
    last = telling(RESET_TO_OLD, secret=secret, pcr0=OF_OLD, **changed)
    judgement = judged(last, Policy.STOCK)
    assert judgement.verdict is Verdict.PASS, judgement.reason


@pytest.mark.parametrize(("policy", "last", "pcr0", "told"), [
    (Policy.STOCK, RESET_TO_OLD, OF_NEW, "console and ROM say seabios-old, PCR 0 is 111111111111; "
     "in boot 1 they said seabios-old, and it was 000000000000"),
    (Policy.MACHINE_OWNED, RESET_TO_NEW, OF_OLD, "console and ROM say seabios-new, PCR 0 is "
     "000000000000; in boot 1 they said seabios-old, and it was 000000000000"),
])
def test_pcr_0_changes_with_the_firmware_and_only_then(
    policy: Policy, last: StepObserved, pcr0: str, told: str
) -> None:
    judgement = judged(telling(last, secret="unlocked", pcr0=pcr0), policy)
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason == f"boot 2 (reset on destination): {told}"


def test_pcr_0_is_what_a_start_of_that_firmware_measures() -> None:
    last = telling(RESET_TO_NEW, secret="locked-out", pcr0=OF_NOBODY)
    assert judged(last, Policy.MACHINE_OWNED).verdict is Verdict.PASS, "nobody knows"
    given = replace(GIVEN, measured={(1, "seabios-new"): Measured(OF_NEW)})
    judgement = judged(last, Policy.MACHINE_OWNED, given)
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason == (
        "boot 2 (reset on destination): console and ROM say seabios-new, of which a start measures "
        "111111111111 into PCR 0; it is ffffffffffff")


@pytest.mark.parametrize(("register", "told"), [("pcr7", ""), ("pcr0", "enrol-keys: ")])
def test_keys_that_are_enrolled_are_measured_at_once(register: str, told: str) -> None:
    assert MOVED.answer is not None
    changed: dict[str, Any] = {register: OF_NOBODY}
    answer = replace(MOVED.answer, **changed)
    enrolled = replace(MOVED, step=EnrolKeys(), host=0, answer=answer)
    judgement = judge(planned(START, EnrolKeys()), [FIRST, enrolled], KNOWN, GIVEN)
    assert judgement.verdict is (Verdict.WRONG_TPM if told else Verdict.PASS), judgement.reason
    assert judgement.reason.startswith(told)


@pytest.mark.parametrize(("said", "told"), [
    ({}, ""),
    ({"secret": None, "pcr0": None, "pcr2": None, "pcr4": None, "pcr7": None},
     "migrate: the guest no longer finds its TPM"),
    ({"pcr4": OF_NOBODY, "pcr7": ""}, "migrate: the running guest's TPM has changed: "
     "PCR 4 was 444444444444, now ffffffffffff, PCR 7 was 777777777777, now unreadable"),
])
def test_a_running_guest_keeps_what_was_measured(said: dict[str, Any], told: str) -> None:
    assert MOVED.answer is not None
    moved = replace(MOVED, answer=replace(MOVED.answer, **said))
    judgement = judge(planned(START, MIGRATE), [FIRST, moved], KNOWN, GIVEN)
    assert (judgement.verdict, judgement.reason if told else "") == (
        Verdict.WRONG_TPM if told else Verdict.PASS, told)


@pytest.mark.parametrize(("said", "told"), [
    ({"secret": None, "pcr0": None, "pcr2": None, "pcr4": None, "pcr7": None},
     "the guest finds no TPM"),
    ({"secret": "sealed", "pcr0": "", "pcr2": "", "pcr4": "", "pcr7": ""},
     "the guest cannot read its TPM's registers"),
])
def test_a_tpm_that_was_given_must_be_there(said: dict[str, Any], told: str) -> None:
    seen = [telling(started(), **said)]
    judgement = judge(planned(START), seen, KNOWN, GIVEN)
    assert judgement.reason == f"boot 1 (start on source): {told}"
    assert judge(planned(START), seen, KNOWN).verdict is Verdict.PASS, "none was given"


def test_a_new_machine_has_the_guests_own_tpm() -> None:
    """Under each policy: shut down and started again, it finds what it had."""
    again = telling(replace(started(boot(OLD, 0, 2)), step=START), secret="unlocked", pcr0=OF_OLD)
    for policy in Policy:
        seen = [FIRST, StepObserved(SHUTDOWN, 0.1), again]
        judgement = judge(planned(START, SHUTDOWN, START, policy=policy), seen, KNOWN, GIVEN)
        assert judgement.verdict is Verdict.PASS, judgement.reason


PEI, OTHER_PEI, DXE, OTHER_DXE = (
    "00830000+000d0000=00000001", "00830000+000d0000=00000002",
    "00900000+00e80000=00000003", "00900000+00e80000=00000004")
AT_A_START = replace(
    GIVEN, measured={(1, "seabios-new"): Measured(OF_NEW, frozenset((PEI, DXE)))})


def test_what_other_firmware_has_left_in_memory_can_be_measured() -> None:
    """One volume with other bytes than at a start is no other firmware then, if all is not."""
    last = telling(RESET_TO_NEW, secret="locked-out", pcr0=OF_NOBODY, blobs=f" {OTHER_PEI} {DXE}")
    judgement = judged(last, Policy.MACHINE_OWNED, AT_A_START)
    assert judgement.verdict is Verdict.PASS, judgement.reason
    told = [row["tpm"]["as_at_a_start"] for row in rows_of(judgement)]
    assert told == [None, False]
    start = telling(RESET_TO_NEW, secret="locked-out", pcr0=OF_NEW, blobs=f" {PEI} {DXE}")
    assert rows_of(judged(start, Policy.MACHINE_OWNED, AT_A_START))[1]["tpm"]["as_at_a_start"]


@pytest.mark.parametrize(("policy", "last", "blobs", "firmware"), [
    (Policy.MACHINE_OWNED, RESET_TO_NEW, (OTHER_PEI, OTHER_DXE), "seabios-new"),
    (Policy.MACHINE_OWNED, RESET_TO_NEW, (), "seabios-new"),
    (Policy.STOCK, RESET_TO_OLD, (OTHER_PEI, DXE), "seabios-old"),
], ids=["no volume is a start's", "without a log", "it follows on itself"])
def test_and_nothing_else(
    policy: Policy, last: StepObserved, blobs: tuple[str, ...], firmware: str
) -> None:
    last = telling(last, secret="locked-out", pcr0=OF_NOBODY, blobs=" ".join(blobs))
    of_it = Measured(OF_NEW, frozenset((PEI, DXE)))
    given = replace(GIVEN, measured={(1, firmware): of_it})
    assert judged(last, policy, given).verdict is Verdict.WITNESS_CONFLICT


def test_what_is_left_in_memory_is_gone_at_the_next_start() -> None:
    """And until then the same firmware measures what it did, or what a start does."""
    new = telling(RESET_TO_NEW, secret="locked-out", pcr0=OF_NOBODY, blobs=f"{OTHER_PEI} {DXE}")
    for pcr0, blobs, verdict in (
        (OF_NOBODY, (OTHER_PEI, DXE), Verdict.PASS), (OF_NEW, (PEI, DXE), Verdict.PASS),
        (OF_NEW, (PEI, OTHER_DXE), Verdict.WITNESS_CONFLICT),
    ):
        third = telling(reset(boot(NEW, 1, 3)), secret="locked-out", pcr0=pcr0,
                        blobs=" ".join(blobs))
        seen = [FIRST, MOVED, new, third]
        steps = planned(START, MIGRATE, RESET, RESET, policy=Policy.MACHINE_OWNED)
        judgement = judge(steps, seen, KNOWN, GIVEN)
        assert judgement.verdict is verdict, judgement.reason


def test_linux_reads_the_registers_and_seals_nothing() -> None:
    moved = replace(MOVED, answer=replace(HERE, pcr0=OF_OLD, **SAME))
    seen = [telling(started(), pcr0=OF_OLD), moved]
    steps = planned(START, MIGRATE, RESET, policy=Policy.MACHINE_OWNED)
    for pcr0, verdict in ((OF_NEW, Verdict.PASS), (OF_OLD, Verdict.WITNESS_CONFLICT)):
        judgement = judge(steps, [*seen, telling(RESET_TO_NEW, pcr0=pcr0)], KNOWN, GIVEN)
        assert judgement.verdict is verdict, judgement.reason
    row = rows_of(judgement)[1]["tpm"]
    assert (row["pcrs"]["0"], row["secret"], row["expected_secret"]) == (OF_OLD, None, None)


def test_what_is_in_the_record() -> None:
    last = telling(RESET_TO_OLD, secret="unlocked", pcr0=OF_OLD,
                   blobs=" 00820000+000e0000=0123abcd")
    rows = rows_of(judged(last, Policy.STOCK))
    assert [row["tpm"]["secret"] for row in rows] == ["sealed", "unlocked"]
    assert rows[1]["tpm"] == {
        "as_at_a_start": None,
        "pcrs": {"0": OF_OLD, "2": "2" * 64, "4": "4" * 64, "7": "7" * 64},
        "blobs": ["00820000+000e0000=0123abcd"],
        "secret": "unlocked", "expected_secret": "unlocked"}
    assert type(rows[1]["tpm"]["expected_secret"]) is str, "plain data, which xdist can carry"
    without = judge(planned(START), [started()], KNOWN)
    assert "tpm" not in rows_of(without)[0], "the cell has none"
    assert rows_of(judge(planned(START), [started()], KNOWN, GIVEN))[0]["tpm"] is None


def test_what_pcr_0_was_at_a_boot() -> None:
    def at(line: ProbeLine) -> Measured | None:
        seen = [started(replace(boot(OLD), up=line))]
        return tpm.found_at(judge(planned(START), seen, KNOWN, GIVEN).boots[0])

    up = boot(OLD).up
    assert up is not None
    assert at(replace(up, pcr0=OF_OLD)) == Measured(OF_OLD)
    assert at(replace(up, pcr0="")) is at(up) is None
