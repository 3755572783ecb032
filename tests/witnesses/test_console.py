"""The console's own word: who booted, and whether the guest came up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.witnesses import console
from bootmatrix.witnesses.observation import BootObserved
from helpers.judging import (
    LIMIT,
    NEW,
    OLD,
    START,
    boot,
    judge_reset,
    judge_start,
    moment,
    planned,
    rows_of,
    started,
)


@pytest.mark.parametrize(
    ("banners", "more"), [(1, ""), (2, " (and 1 more)"), (40, " (and 39 more)")]
)
def test_no_boot(banners: int, more: str) -> None:
    seen = BootObserved(1, ("1.17.0-1",) * banners, None, NEW.sha256, 5.0371, 5.0)
    judgement = judge_reset(seen)
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == (
        f"boot 2 (reset on destination): a banner of seabios-new{more}, "
        "but the guest did not come up in 5.0 s"
    )
    assert (rows_of(judgement)[1]["up"], rows_of(judgement)[1]["counter"]) == (False, None)


def test_no_boot_because_qemu_ended() -> None:
    last = "qemu-system-x86_64: warning: x\nqemu-system-x86_64: Assertion `size' failed.\n"
    seen = BootObserved(1, ("1.17.0-1",), None, None, 0.2, LIMIT, ended=last)
    judgement = judge_reset(seen)
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason.endswith(
        "did not come up before QEMU ended: qemu-system-x86_64: Assertion `size' failed."
    )


def test_silent() -> None:
    judgement = judge_reset(BootObserved(1, (), None, NEW.sha256, 3.0124, 3.0))
    assert judgement.verdict is Verdict.SILENT
    assert judgement.reason == (
        "boot 2 (reset on destination): not a byte in 3.0 s"
    )
    assert (rows_of(judgement)[1]["console"], rows_of(judgement)[1]["rom"]) == (None, "seabios-new")


@pytest.mark.parametrize(
    ("last", "told"), [("Killed\n", "Killed"), ("a\n b \n\n", "b"), ("", "no last words")]
)
def test_silent_because_qemu_ended(last: str, told: str) -> None:
    judgement = judge_reset(BootObserved(1, (), None, None, 0.1, LIMIT, ended=last))
    assert judgement.verdict is Verdict.SILENT
    assert judgement.reason.split() == (
        f"boot 2 (reset on destination): not a byte before QEMU ended: {told}".split()
    )


def test_silent_though_something_was_printed_that_is_no_banner() -> None:
    judgement = judge_reset(BootObserved(1, (), None, NEW.sha256, 120.1, 120.0, spoke=True))
    assert judgement.verdict is Verdict.SILENT
    assert judgement.reason == (
        "boot 2 (reset on destination): something on the console, but no firmware's banner in 120 s"
    )


def test_a_firmware_without_a_banner_that_spoke_is_not_silent() -> None:
    seen = BootObserved(1, (), None, NEW.sha256, 9.1, 9.0, spoke=True, nameless=True)
    judgement = judge_reset(seen)
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == (
        "boot 2 (reset on destination): the firmware spoke, "
        "but the guest did not come up in 9.0 s"
    )


def test_banner_against_banner() -> None:
    # The old firmware ran, the machine went round, and then came the right one.
    judgement = judge_reset(replace(boot(NEW, 1), banners=("1.14.0-2", "1.17.0-1")))
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason == (
        "boot 2 (reset on destination): the banners of one boot differ: 1.14.0-2, 1.17.0-1"
    )


def test_a_guest_that_went_round_with_the_same_firmware_has_come_up() -> None:
    judgement = judge_reset(replace(boot(NEW, 1), banners=("1.17.0-1", "1.17.0-1")))
    assert judgement.verdict is Verdict.PASS
    assert rows_of(judgement)[1]["banners"] == ["1.17.0-1", "1.17.0-1"]


@pytest.mark.parametrize(("banners", "resets", "told"), [
    (1, 1, ""),
    (1, 2, ""),  # SeaBIOS' own reset comes before it has spoken
    (2, 2, ""),
    (2, 1, "the firmware's banner came 2 times, and the machine began once"),
    (4, 2, "the firmware's banner came 4 times, and the machine began 2 times"),
    (2, None, ""),  # a board, or an answer that was kept before it was counted
])
def test_firmware_that_says_its_name_again(banners: int, resets: int | None, told: str) -> None:
    judgement = judge_reset(replace(
        boot(NEW, 1), banners=("1.17.0-1",) * banners, resets=resets))
    assert judgement.verdict is (Verdict.WITNESS_CONFLICT if told else Verdict.PASS)
    assert judgement.reason.endswith(told)


def test_firmware_that_says_its_name_again_at_a_start() -> None:
    assert judge_start(replace(boot(OLD), resets=0)).verdict is Verdict.PASS
    twice = judge_start(replace(boot(OLD), banners=boot(OLD).banners * 2, resets=0))
    assert twice.verdict is Verdict.WITNESS_CONFLICT
    again = judge_start(replace(boot(OLD), banners=boot(OLD).banners * 2, resets=1))
    assert again.verdict is Verdict.EXTRA_RESET, "which is why it came twice"


def test_a_firmware_without_a_banner_is_named_by_the_guest() -> None:
    judgement = judge_start(replace(boot(OLD), banners=()))
    assert (judgement.verdict, rows_of(judgement)[0]["console"]) == (Verdict.PASS, "seabios-old")
    judgement = judge_start(replace(boot(NEW), banners=()))
    assert (judgement.verdict, rows_of(judgement)[0]["console"]) == (
        Verdict.WRONG_FIRMWARE,
        "seabios-new",
    )


@pytest.mark.parametrize(("printed", "candidates", "decides"), [
    ("1.14.0-2", ["seabios-old"], True),
    ("0.0.0", ["twin-1", "twin-2"], False),
    ("1.99.0", [], False),
])
def test_a_name_that_one_known_build_has_decides(
    printed: str, candidates: list[str], decides: bool
) -> None:
    (expected,) = planned(START)
    seen = moment(expected, started(replace(boot(OLD), banners=(printed,))))
    named = console.name(seen)
    assert named is not None
    assert console.decides(named) is decides
    assert console.row(seen)["console_candidates"] == candidates


def test_nothing_is_named_by_a_console_that_showed_nothing() -> None:
    (expected,) = planned(START)
    silent = BootObserved(0, (), None, OLD.sha256, 5.0, LIMIT)
    assert console.row(moment(expected, started(silent))) == {
        "console": None, "banners": [], "console_candidates": [],
    }  # fmt: skip


def test_a_panic_is_quoted() -> None:
    said = "Kernel panic - not syncing: IO-APIC + timer doesn't work!"
    judgement = judge_reset(
        BootObserved(1, ("1.17.0-1",), None, None, 0.2, LIMIT, spoke=True, panic=said))
    assert judgement.verdict is Verdict.NO_BOOT
    assert judgement.reason == f"boot 2 (reset on destination): the kernel panicked: {said}"
