"""The words: roles, ids, records."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from bootmatrix.cell import Cell
from bootmatrix.model import (
    Accel,
    HostSpec,
    Verdict,
    role_index,
    role_name,
)
from bootmatrix.policies import Policy
from bootmatrix.steps.base import Scenario
from bootmatrix.steps.library import LIBRARY
from bootmatrix.steps.start import Start
from bootmatrix.steps.upgrade_nvram import UpgradeNvram

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


@pytest.mark.parametrize(("accel", "source", "others"), [
    (Accel.TCG, Accel.TCG, Accel.TCG), (Accel.KVM, Accel.KVM, Accel.KVM),
    (Accel.TCG_TO_KVM, Accel.TCG, Accel.KVM), (Accel.KVM_TO_TCG, Accel.KVM, Accel.TCG),
])  # fmt: skip
def test_the_accelerator_of_each_host(accel: Accel, source: Accel, others: Accel) -> None:
    assert [accel.on(host) for host in range(3)] == [source, others, others]
    assert accel.with_kvm == (accel is not Accel.TCG)


@pytest.mark.parametrize("policy", list(Policy))
def test_who_keeps_an_nvram(policy: Policy) -> None:
    assert policy.keeps_nvram == policy.value.startswith("guest-owned")


def test_hosts_needed() -> None:
    assert Scenario("none", ()).hosts_needed == 1
    assert Scenario("one", (Start(0),)).hosts_needed == 1
    assert Scenario("two", (Start(1),)).hosts_needed == 2
    lent = UpgradeNvram(firmware_of=2)
    assert Scenario("lent", (Start(0), lent)).hosts_needed == 3


def test_the_words_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        CELL.machine = "default"  # type: ignore[misc]


def test_every_verdict_of_the_model_page_has_its_word() -> None:
    assert {verdict.value for verdict in Verdict} == {
        "pass", "wrong-firmware", "wrong-disk", "wrong-fw-cfg", "wrong-variables", "wrong-program",
        "wrong-kernel", "wrong-cmos", "wrong-memory", "wrong-tables", "wrong-hardware", "wrong-tpm",
        "extra-reset", "late", "not-reset", "stopped", "no-boot", "silent", "blocked",
        "witness-conflict", "unsupported", "error",
    }  # fmt: skip
