"""What a Linux guest drives, and has lost after a migration or a reset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bootmatrix.model import Verdict
from bootmatrix.verdict import judge
from bootmatrix.witnesses import devices
from helpers.judging import HERE, KNOWN, MIGRATE, OLD, START, boot, migrated, planned, started, up

FULL: dict[str, Any] = {
    "pci": "00:01.0=1af4:1001 00:02.0=1af4:1000", "blocks": 2, "net": "52:54:00:12:34:56",
    "link": 1, "replies": 1}


@pytest.mark.parametrize(("now", "told"), [
    ({}, ""),
    ({"pci": FULL["pci"] + " 00:03.0=1af4:1005", "blocks": 3}, ""),
    ({"pci": "00:01.0=1af4:1001"}, "PCI devices: 00:02.0=1af4:1000"),
    ({"blocks": 1}, "disks: 1 of 2"),
    ({"net": ""}, "the network card 52:54:00:12:34:56 (now none)"),
    ({"net": "52:54:00:12:34:57"}, "(now 52:54:00:12:34:57)"),
    ({"link": 0, "replies": 0}, "the link of its network card"),
    ({"replies": 0}, "its network: nobody replies"),
    ({"pci": None}, ""),  # a guest that does not tell
])
def test_what_was_lost_is_wrong_hardware(now: dict[str, Any], told: str) -> None:
    first = replace(boot(OLD), up=replace(up(OLD), **FULL))
    answer = replace(HERE, **FULL | now)
    judgement = judge(planned(START, MIGRATE), [started(first), migrated(answer=answer)], KNOWN)
    assert judgement.verdict is (Verdict.WRONG_HARDWARE if told else Verdict.PASS)
    if told:
        assert judgement.reason.startswith("migrate: the guest has lost ")
        assert told in judgement.reason


def test_of_many_devices_some_are_named() -> None:
    many = {**FULL, "pci": " ".join(f"00:{n:02x}.0=1af4:1000" for n in range(9))}
    first = replace(boot(OLD), up=replace(up(OLD), **many))
    answer = replace(HERE, **many | {"pci": ""})
    judgement = judge(planned(START, MIGRATE), [started(first), migrated(answer=answer)], KNOWN)
    assert judgement.reason.endswith("00:05.0=1af4:1000 and 3 more")


def test_what_is_in_the_record() -> None:
    assert devices.row(HERE) == devices.row(None) == {}
    assert devices.row(replace(HERE, **FULL)) == {
        "pci": FULL["pci"], "blocks": 2,
        "net": {"address": FULL["net"], "link": 1, "replies": 1}}
    assert devices.row(replace(HERE, **FULL | {"net": ""}))["net"] is None
