from __future__ import annotations

from typing import Any

import pytest

from bootmatrix.matrix.known import (
    KnownState,
    Match,
    accepted_keys,
    accepts_key,
    could_match,
    flatten,
    match,
)
from bootmatrix.model import Known, Verdict

CELL: dict[str, Any] = {
    "id": "bullseye-to-sid,pc-q35-5.2,guest-owned,migrate-reset,ahci",
    "source": {
        "host": "bullseye",
        "qemu": "5.2.0",
        "build": "debian-bullseye",
        "firmware": "seabios-1.14.0-2",
    },
    "destination": {
        "host": "sid",
        "qemu": "11.1.3",
        "build": "debian-sid",
        "firmware": "seabios-1.17.0-1",
    },
    "machine": "pc-q35-5.2",
    "policy": "guest-owned",
    "scenario": "migrate-reset",
    "accel": "tcg",
    "disk": "ahci",
}


def entry(*verdicts: Verdict, **when: str | tuple[str, ...]) -> Known:
    conditions = tuple(
        (key.replace("__", "."), (globs,) if isinstance(globs, str) else globs)
        for key, globs in when.items()
    )
    return Known(conditions, verdicts or (Verdict.SILENT,), "because")


def test_flatten_makes_dotted_keys_that_conditions_accept() -> None:
    flat = flatten(CELL)
    assert flat["source.qemu"] == "5.2.0"
    assert flat["destination.firmware"] == "seabios-1.17.0-1"
    assert flat["machine"] == "pc-q35-5.2"
    assert len(flat) == 4 + 4 + 6
    assert all(accepts_key(key) for key in flat)
    assert "destination.host" not in flatten({**CELL, "destination": None})


def test_accepted_keys() -> None:
    assert all(accepts_key(key) for key in accepted_keys())
    assert accepts_key("host-7.firmware")
    for key in ("source", "host-2.qemu", "qemu", "source.version", "source.", ".qemu", "seconds"):
        assert not accepts_key(key)


@pytest.mark.parametrize(
    ("known", "hit"),
    [
        (entry(machine="pc-q35-*"), True),
        (entry(machine="pc-i440fx-*"), False),
        (entry(machine="PC-q35-*"), False),  # globs mind the case
        (entry(source__firmware="seabios-1.14.0-*", destination__qemu=("10.*", "11.*")), True),
        (entry(source__firmware="seabios-1.14.0-*", destination__qemu=("7.*", "10.*")), False),
        (entry(source__host="bullseye", disk="ahci", policy="guest-owned"), True),
        (entry(host__host="*"), False),
        (entry(**{"host-3.host": "*"}), False),  # this cell has no third host
        (entry(id="bullseye-to-sid,*"), True),
        (entry(source__firmware="seabios-1.1[0-4].*"), True),
        (entry(source__firmware="seabios-1.14.0"), True),
        (entry(source__firmware="seabios-1.14"), False),
        (entry(source__firmware=("seabios-1.14.1", "seabios-1.14.0-2")), True),
    ],
)
def test_all_conditions_must_match(known: Known, hit: bool) -> None:
    outcome = match([known], CELL, Verdict.SILENT)
    assert outcome == (Match(KnownState.KNOWN, known) if hit else Match(KnownState.NONE))


@pytest.mark.parametrize(
    ("known", "cell", "hit"),
    [
        (entry(arch="x86_64", guest="probe", cpu="", smp="1", nic="none"), {}, True),
        (entry(arch="aarch64"), {}, False),
        (entry(cpu="?*"), {}, False),
        (entry(arch="a*", cpu="max", smp=("2", "4")),
         {"arch": "aarch64", "cpu": "max", "smp": 4}, True),
        (entry(smp="[2-9]"), {"smp": 1}, False),
        (entry(guest="linux"), {"guest": "linux-kernel"}, False),
    ],
)  # fmt: skip
def test_conditions_on_axes_that_older_records_lack(
    known: Known, cell: dict[str, Any], hit: bool
) -> None:
    outcome = match([known], CELL | cell, Verdict.SILENT)
    assert outcome.state is (KnownState.KNOWN if hit else KnownState.NONE)


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (Verdict.SILENT, KnownState.KNOWN),
        (Verdict.NO_BOOT, KnownState.KNOWN),
        (Verdict.PASS, KnownState.FIXED),
        (Verdict.WRONG_FIRMWARE, KnownState.CHANGED),
        (Verdict.BLOCKED, KnownState.CHANGED),
        (Verdict.ERROR, KnownState.NONE),
        (Verdict.UNSUPPORTED, KnownState.NONE),
    ],
)
def test_the_verdict_decides_the_state(verdict: Verdict, state: KnownState) -> None:
    known = entry(Verdict.SILENT, Verdict.NO_BOOT, machine="*")
    outcome = match([known], CELL, verdict)
    assert outcome.state is state
    assert outcome.entry is (None if state is KnownState.NONE else known)


def test_an_unsupported_cell_can_be_declared() -> None:
    known = entry(Verdict.UNSUPPORTED, machine="*")
    assert match([known], CELL, Verdict.UNSUPPORTED) == Match(KnownState.KNOWN, known)


def test_of_several_entries_the_one_that_happened_counts_else_the_first() -> None:
    first, second = entry(Verdict.SILENT, disk="ahci"), entry(Verdict.NO_BOOT, disk="*")
    assert match([first, second], CELL, Verdict.NO_BOOT) == Match(KnownState.KNOWN, second)
    assert match([first, second], CELL, Verdict.PASS) == Match(KnownState.FIXED, first)
    assert match([first, second], CELL, Verdict.BLOCKED) == Match(KnownState.CHANGED, first)
    assert match([], CELL, Verdict.BLOCKED) == Match(KnownState.NONE)


@pytest.mark.parametrize(("when", "could"), [
    ({"machine": "pc-q35-*"}, True),
    ({"source.qemu": "9.*"}, True),  # only running tells
    ({"source.qemu": "9.*", "machine": "isapc"}, False),
    ({"destination.qemu": "9.*"}, False),  # it goes nowhere
    ({"source.host": "b"}, False),
])
def test_what_an_entry_could_match_before_builds_are_known(
    when: dict[str, str], could: bool
) -> None:
    entry = Known(tuple((key, (glob,)) for key, glob in when.items()), (Verdict.SILENT,), "x")
    assert could_match(entry, {"machine": "pc-q35-5.2", "source.host": "a"}) is could
