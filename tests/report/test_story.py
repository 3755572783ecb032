"""The life of one cell's guest, from its record alone."""

from __future__ import annotations

from typing import Any

import pytest

from bootmatrix.report.story import Stage, capped, last_firmware, ran, refused, stages
from helpers.records import failing, record, refusing

OLD, NEW = "seabios-1.14.0-2", "seabios-1.17.0-1"


def walked(*steps: dict[str, Any], firmware: list[str | None] | None = None) -> list[Any]:
    """(step, firmware, has a boot) of each stage."""
    one = record()
    named = [OLD, NEW] if firmware is None else firmware
    one["boots"] = [one["boots"][0] | {"console": name, "rom": name} for name in named]
    one["steps"] = [{"outcome": "ok", "host": "source"} | step for step in steps]
    return [(stage.step, stage.firmware, stage.boot is not None) for stage in stages(one)]


MIGRATE = {"step": "migrate", "outcome": "completed", "host": "destination"}


def test_each_boot_is_seen_in_its_step() -> None:
    assert walked({"step": "start"}, MIGRATE | {"rom": OLD}, {"step": "reset"}) == [
        ("start", OLD, True), ("migrate", OLD, False), ("reset", NEW, True)]


def test_a_boot_that_ends_after_a_migration_is_seen_there_and_once() -> None:
    assert walked({"step": "start"}, MIGRATE, {"step": "reset"}) == [
        ("start", None, False), ("migrate", OLD, True), ("reset", NEW, True)]


def test_a_migration_that_was_refused_takes_no_boot() -> None:
    refusal = {"step": "migrate", "outcome": "refused: other: no"}
    assert walked({"step": "start"}, refusal, firmware=[OLD]) == [
        ("start", OLD, True), ("migrate", OLD, False)]


def test_what_is_flashed_is_there_and_a_guest_that_is_down_has_nothing() -> None:
    assert walked({"step": "start"}, {"step": "guest-flash", "rom": NEW}, {"step": "shutdown"},
                  {"step": "upgrade-host"}, {"step": "start"}) == [
        ("start", OLD, True), ("guest-flash", NEW, False), ("shutdown", None, False),
        ("upgrade-host", None, False), ("start", NEW, True)]


def test_a_baseline_has_a_stage_for_each_boot() -> None:
    first, second = stages(record())
    assert (first.step, second.step) == ("start", "reset")
    assert first.boots
    assert not Stage("migrate", None, None, None, "ok").boots


@pytest.mark.parametrize(("changed", "name"), [
    ({}, OLD),
    ({"console": None}, OLD),
    ({"rom": None}, OLD),
    ({"console": "0.0.0", "rom": NEW, "console_candidates": [OLD, NEW]}, NEW),
    ({"console": "0.0.0", "rom": "sha256:0", "console_candidates": [OLD, NEW]}, "0.0.0"),
    ({"console": OLD, "rom": NEW, "console_candidates": [OLD]}, OLD),
    ({"console": None, "rom": None}, None),
])
def test_which_firmware_a_boot_ran(changed: dict[str, Any], name: str | None) -> None:
    assert ran(record()["boots"][0] | changed) == name


def test_a_refused_migration() -> None:
    assert refused(refusing(record()))
    assert refused(record() | {"refused": True})
    assert not refused(record())
    assert not refused(failing())
    other = record() | {"steps": [{"step": "start", "outcome": "refused: other: no"}]}
    assert not refused(other), "nothing was to migrate"


def test_the_last_firmware() -> None:
    assert last_firmware(record(policy="reread")) == NEW
    assert last_firmware(record() | {"boots": []}) is None


def test_a_long_text_keeps_both_ends() -> None:
    assert capped("x" * 10, 10) == "x" * 10
    assert capped("a" * 5 + "b" + "c" * 5, 10) == (
        "aaaaa\n[... 1 characters left out ...]\nccccc")
