"""The words: roles, ids, records."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, replace

import pytest

from harness.model import (
    Accel,
    Boot,
    Cell,
    Disk,
    HostSpec,
    Policy,
    RunRecord,
    Scenario,
    Step,
    StepKind,
    Verdict,
    role_index,
    role_name,
)
from harness.scenarios import LIBRARY

CELL = Cell(
    hosts=(HostSpec("bullseye", "debian-bullseye"), HostSpec("sid", "debian-sid")),
    machine="pc-q35-5.2",
    policy=Policy.GUEST_OWNED,
    scenario=LIBRARY["migrate-reset"],
)


@pytest.mark.parametrize(
    ("index", "role"), [(0, "source"), (1, "destination"), (2, "host-3"), (9, "host-10")]
)
def test_roles(index: int, role: str) -> None:
    assert role_name(index) == role
    assert role_index(role) == index


@pytest.mark.parametrize(
    "text", ["", "host", "host-", "host-1", "host-2", "host-x", "host--3", "Source", "3"]
)
def test_no_roles(text: str) -> None:
    with pytest.raises(ValueError, match="no host role"):
        role_index(text)


@pytest.mark.parametrize("policy", list(Policy))
def test_who_keeps_an_nvram(policy: Policy) -> None:
    assert policy.keeps_nvram == policy.value.startswith("guest-owned")


def test_hosts_needed() -> None:
    assert Scenario("none", ()).hosts_needed == 1
    assert Scenario("one", (Step(StepKind.START, 0),)).hosts_needed == 1
    assert Scenario("two", (Step(StepKind.START, 1),)).hosts_needed == 2
    lent = Step(StepKind.UPGRADE_NVRAM, firmware_of=2)
    assert Scenario("lent", (Step(StepKind.START, 0), lent)).hosts_needed == 3


def test_the_id_is_derived_from_the_values() -> None:
    assert CELL.id == "bullseye-to-sid,pc-q35-5.2,guest-owned,migrate-reset,ahci"
    assert replace(CELL, accel=Accel.KVM).id == CELL.id + ",kvm"
    assert replace(CELL, accel=Accel.TCG).id == CELL.id


def test_cells_that_differ_in_an_axis_have_other_ids() -> None:
    others = [
        replace(CELL, hosts=CELL.hosts[::-1]),
        replace(CELL, hosts=(*CELL.hosts, HostSpec("trixie", "debian-trixie"))),
        replace(CELL, machine="default"),
        *(replace(CELL, policy=policy) for policy in Policy if policy is not CELL.policy),
        *(replace(CELL, scenario=LIBRARY[name]) for name in LIBRARY if name != "migrate-reset"),
        *(replace(CELL, disk=disk) for disk in Disk if disk is not CELL.disk),
        replace(CELL, accel=Accel.KVM),
    ]
    ids = [cell.id for cell in (CELL, *others)]
    assert len(set(ids)) == len(ids)
    # safe as a file name and in a shell
    assert all(re.fullmatch(r"[A-Za-z0-9.,_-]{1,255}", each) for each in ids)


def test_the_words_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        CELL.machine = "default"  # type: ignore[misc]


# The keys that model.md fixes, in its order.
RECORD_KEYS = ["schema", "cell", "verdict", "reason", "known", "boots", "steps", "qemus",
               "engine", "seconds", "artifacts"]  # fmt: skip
BOOT_KEYS = ["n", "step", "host", "expected", "console", "rom", "up", "seconds"]


def test_a_record_is_plain_json_with_the_fixed_keys_first() -> None:
    boot = Boot(1, "start", "source", "a", None, "a", up=False, seconds=3.0,
                details={"banners": []})  # fmt: skip
    record = RunRecord(
        cell={"id": CELL.id, "machine": CELL.machine},
        verdict=Verdict.SILENT,
        reason="boot 1 (start on source): nothing on the console within 3.0 s",
        boots=(boot,),
        steps=({"step": "start", "seconds": 0.1, "outcome": "ok"},),
        qemus=({"role": "source", "version": "5.2.0", "argv": ["qemu"]},),
        engine="docker",
        seconds=3.4,
        artifacts="cells/x",
        details={"known_state": "as-declared"},
    )
    plain = record.to_json()
    assert list(plain) == [*RECORD_KEYS, "known_state"]
    assert list(plain["boots"][0]) == [*BOOT_KEYS, "banners"]
    assert (plain["schema"], plain["verdict"], plain["known"]) == (1, "silent", None)
    assert plain["boots"][0]["console"] is None
    assert json.loads(json.dumps(plain)) == plain
    assert type(plain["verdict"]) is str


def test_every_verdict_of_the_model_page_has_its_word() -> None:
    assert {verdict.value for verdict in Verdict} == {
        "pass", "wrong-firmware", "wrong-disk", "wrong-fw-cfg", "wrong-variables", "wrong-kernel",
        "no-boot", "silent", "blocked", "witness-conflict", "unsupported", "error",
    }  # fmt: skip
