"""When two failed lives have failed in the same way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from bootmatrix.explore.failures import Failure, KnownFailure, is_declared, of, what
from bootmatrix.explore.lives import World
from bootmatrix.model import Known, Verdict
from bootmatrix.records.model import Record
from helpers.explored import life, world

OLD, NEW = "seabios-1.14.0-2", "seabios-1.17.0-1"


@pytest.fixture
def there(tmp_path: Path) -> World:
    return world(tmp_path)


def record(verdict: str, failed_step: int | None, reason: str = "boot 2: x", **more: Any) -> Record:
    made = {"cell": {"id": "c"}, "verdict": verdict, "reason": reason, "steps": [], **more}
    return cast(Record, made | ({"failed_step": failed_step} if failed_step else {}))


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.UNSUPPORTED])
def test_what_is_no_failure(there: World, verdict: str) -> None:
    assert of(record(verdict, None), life(there, ["start"], 0)) is None


def test_a_boot_is_told_by_the_firmware_that_had_to_run(there: World) -> None:
    moved = life(there, ["start", "migrate", "reset"], 0, 1)
    found = of(record("silent", 3, "boot 2 (reset on destination): not a byte in 5 s"), moved)
    assert found == (2, Failure("silent", "reset", "not a byte in N s", "pc-i440fx", OLD))
    flipped = life(there, ["start", "reset"], 0)
    other = of(record("silent", 2, "boot 2 (reset on source): not a byte in 7.1 s"), flipped)
    assert other is not None
    assert other[1] == found[1], "wherever, and after whatever"
    newer = of(record("silent", 2), life(there, ["start", "reset"], 1))
    assert newer is not None
    assert newer[1].firmware == NEW


def test_a_migration_is_told_by_its_qemus_too(there: World) -> None:
    there_, back = (of(record("blocked", 2, "migrate: QEMU refused"), life(
        there, ["start", "migrate"], *names)) for names in ((0, 1), (1, 0)))
    assert there_ is not None
    assert back is not None
    assert there_[1].route == "5.2.0 to 11.1.3"
    assert back[1].route == "11.1.3 to 5.2.0"


def test_a_rig_that_broke_did_so_in_the_step_that_was_not_done(there: World) -> None:
    broken = record("error", None, "it broke", steps=[{"step": "start", "outcome": "ok"}])
    found = of(broken, life(there, ["start", "reset", "shutdown"], 0))
    assert found is not None
    assert found[0] == 1
    assert found[1].step == "reset"


@pytest.mark.parametrize(("one", "other"), [
    ("boot 2 (reset on source): not a byte in 5 s", "boot 9 (start on host-3): not a byte in 5.2 s"),  # noqa: E501
    ("boot 2 (reset on source): seabios-1.17.0-1 ran, must be seabios-1.14.0-2",
     "boot 3 (reset on destination): seabios-1.16.3-2 ran, must be seabios-1.17.0-1"),
    ("migrate: the guest is on source", "migration-begins: the guest is on destination"),
])  # fmt: skip
def test_reasons_that_are_the_same(one: str, other: str) -> None:
    assert what(one) == what(other)


def test_reasons_that_are_not() -> None:
    assert what("boot 1 (start on source): its disk is B") != what(
        "boot 1 (start on source): its CMOS is lost")


# ---- declared by the matrix ----------------------------------------------------------------------

ENTRY = Known((("source.firmware", ("seabios-1.14.0*",)),), (Verdict.LATE,), "it waits")


def declared(verdict: str, **cell: Any) -> Known | None:
    source = {"host": "h0", "firmware": OLD}
    return is_declared([ENTRY], record(verdict, 2) | {"cell": {"source": source, **cell}})  # type: ignore[arg-type]


def test_what_the_matrix_declares() -> None:
    assert declared("late") is ENTRY
    assert declared("silent") is ENTRY, "it was not waited for: it may be late"
    assert declared("no-boot") is ENTRY
    assert declared("wrong-cmos") is None
    assert declared("late", source={"host": "h1", "firmware": NEW}) is None


# ---- seen before ---------------------------------------------------------------------------------

FAILURE = Failure("silent", "reset", "not a byte", "pc-i440fx", OLD)


def test_another_case_of_it_has_its_core(there: World) -> None:
    seen = KnownFailure(FAILURE, ("start", "migrate as paused", "reset"), "finding-1")
    longer = life(there, ["start", "replace-disk", {"migrate": {"as": "paused"}}, "reset"], 0, 1)
    assert seen.covers(FAILURE, longer.steps)
    both = {"migrate": {"as": "paused", "channel": "tcp"}}
    assert seen.covers(FAILURE, life(there, ["start", both, "reset"], 0, 1).steps)
    plain = life(there, ["start", "migrate", "reset"], 0, 1)
    assert not seen.covers(FAILURE, plain.steps), "that is something else"
    assert not seen.covers(replace(FAILURE, verdict="late"), longer.steps)
    assert not seen.covers(replace(FAILURE, firmware=NEW), longer.steps)


def test_a_life_that_would_fail_so_is_foreseen(there: World) -> None:
    seen = KnownFailure(FAILURE, ("start", "reset"), "finding-1")

    def foreseen(raw: list[Any], *names: int, policy: str = "stock", kind: str = "reset") -> bool:
        one = life(there, raw, *names, policy=policy)
        return seen.foresees(one, one.possible(kind)[0])

    assert foreseen(["start"], 0)
    assert not foreseen(["start"], 1), "other firmware runs there"
    assert foreseen(["start", "migrate"], 0, 1), "stock keeps it"
    assert not foreseen(["start"], 0, kind="shutdown")


def test_a_move_that_would_fail_so_is_foreseen(there: World) -> None:
    blocked = Failure("blocked", "migrate", "QEMU refused", "pc-i440fx", OLD, "5.2.0 to 11.1.3")
    seen = KnownFailure(blocked, ("start", "migrate"), "finding-1")
    one = life(there, ["start"], 0)
    to = {next_.new.name: seen.foresees(one, next_) for next_ in one.possible("migrate")
          if next_.new}
    assert to == {"h1": True, "h2": False}


def test_it_is_read_as_it_was_written() -> None:
    seen = KnownFailure(FAILURE, ("start", "reset"), "finding-1", declared=True)
    assert KnownFailure.read(seen.plain) == seen
    with pytest.raises(ValueError, match="not a way to fail"):
        KnownFailure.read({"failure": {}})
