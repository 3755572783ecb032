"""SMBIOS against the banner."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.verdict import judge
from bootmatrix.witnesses import smbios
from bootmatrix.witnesses.moment import Given
from helpers.judging import (
    KNOWN,
    NEW,
    OLD,
    RESET,
    START,
    boot,
    judge_reset,
    moment,
    planned,
    reset,
    started,
    up,
)


def test_banner_against_smbios() -> None:
    judgement = judge_reset(replace(boot(NEW, 1), up=up(OLD, 2)))
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason == (
        "boot 2 (reset on destination): the banner says 1.17.0-1, "
        "the guest found 1.14.0-2 in SMBIOS"
    )


def test_banner_against_an_empty_smbios() -> None:
    judgement = judge_reset(replace(boot(NEW, 1), up=up("", 2)))
    assert judgement.verdict is Verdict.WITNESS_CONFLICT
    assert judgement.reason.endswith("the guest found nothing in SMBIOS")


@pytest.mark.parametrize("vendor", ["Bochs", "U-Boot"])
def test_a_vendor_that_is_not_who_the_banner_names(vendor: str) -> None:
    (expected,) = planned(START)
    line = replace(up("1.0"), bios_vendor=vendor)
    assert smbios.problem(moment(expected, started(replace(boot(OLD), up=line)))) is None


def test_the_last_banner_is_the_one_that_counts() -> None:
    (expected,) = planned(START)
    twice = replace(boot(NEW), banners=("1.14.0-2", "1.17.0-1"))
    assert smbios.problem(moment(expected, started(twice))) is None
    assert smbios.problem(moment(expected, started(replace(twice, up=up(OLD))))) is not None


def test_what_is_in_the_record() -> None:
    (expected,) = planned(START)
    assert smbios.row(moment(expected, started())) == {"smbios": ["SeaBIOS", "1.14.0-2"]}
    down = moment(expected, started(replace(boot(OLD), up=None)))
    assert smbios.row(down) == {"smbios": None}
    assert smbios.problem(down) is None


# ---- who made the tables --------------------------------------------------------------------


@pytest.mark.parametrize(("before", "now", "reason"), [
    ("SeaBIOS", "Bochs", "the guest found SeaBIOS' own SMBIOS, and QEMU's at the boot before"),
    ("Bochs", "SeaBIOS", "the guest found QEMU's SMBIOS, and SeaBIOS' own at the boot before"),
    ("Bochs", "Bochs", ""),
    ("SeaBIOS", "SeaBIOS", ""),
])  # fmt: skip
def test_a_host_that_offers_no_smbios(before: str, now: str, reason: str) -> None:
    """As a QEMU does that lacks etc/smbios/smbios-anchor in fw_cfg: SeaBIOS makes one itself."""
    lines = [replace(up(OLD, number), bios_vendor=vendor)
             for number, vendor in ((1, before), (2, now))]
    seen = [started(replace(boot(OLD), up=lines[0])), reset(replace(boot(OLD), up=lines[1]))]
    judgement = judge(planned(START, RESET), seen, KNOWN)
    assert judgement.verdict is (Verdict.WRONG_TABLES if reason else Verdict.PASS), judgement.reason
    assert reason in judgement.reason


def test_a_guest_that_is_not_up_has_found_nothing() -> None:
    seen = [started(), reset(replace(boot(OLD), up=None))]
    assert judge(planned(START, RESET), seen, KNOWN).verdict is Verdict.NO_BOOT


# ---- which machine it tells of --------------------------------------------------------------


@pytest.mark.parametrize(("told", "vendor", "reason"), [
    ("pc-q35-5.2", "SeaBIOS", ""),
    ("pc-x-1.0", "SeaBIOS", "its machine is pc-x-1.0, it is pc-q35-5.2"),
    ("", "SeaBIOS", "its machine is nothing, it is pc-q35-5.2"),
    ("pc-x-1.0", "Bochs", ""),  # SeaBIOS' own
    (None, "SeaBIOS", ""),  # a guest that says nothing of it
])
def test_smbios_of_another_machine(told: str | None, vendor: str, reason: str) -> None:
    line = replace(up(OLD), bios_vendor=vendor, machine=told)
    seen = [started(replace(boot(OLD), up=line))]
    judgement = judge(planned(START), seen, KNOWN, Given(machine="pc-q35-5.2"))
    assert judgement.verdict is (Verdict.WRONG_TABLES if reason else Verdict.PASS)
    assert judgement.reason.endswith(reason)
    assert judge(planned(START), seen, KNOWN).verdict is Verdict.PASS, "where it is not known"
