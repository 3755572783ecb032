"""SMBIOS against the banner."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.witnesses import smbios
from helpers.judging import NEW, OLD, START, boot, judge_reset, moment, planned, started, up


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
