"""A record is plain data that fits its model, and a witness's part is in it by what was seen."""

from __future__ import annotations

import json
from typing import cast

from bootmatrix.model import Known, Verdict
from bootmatrix.records import rows
from bootmatrix.records.model import CellRow, checked
from bootmatrix.steps.library import LIBRARY
from bootmatrix.verdict import judge
from helpers.judging import (
    KNOWN,
    MIGRATE,
    NEW,
    RESET,
    START,
    boot,
    migrated,
    planned,
    reset,
    started,
)

CELL = cast(CellRow, {"id": "a-to-b", "source": {"host": "a"}, "destination": {"host": "b"},
                      "machine": "pc-q35-5.2", "policy": "machine-owned",
                      "scenario": "migrate-reset"})
# The keys that every record has, in the order of docs/record.md.
KEYS = ["schema", "cell", "verdict", "reason", "known", "scenario_steps", "boots", "steps", "qemus",
        "engine", "seconds", "artifacts"]  # fmt: skip


def test_a_record_is_plain_json_that_fits_the_model() -> None:
    seen = [started(), migrated(), reset(boot(NEW, 1, 2))]
    judgement = judge(planned(START, MIGRATE, RESET), seen, KNOWN)
    record = rows.record(
        CELL, judgement.verdict, judgement.reason, scenario=LIBRARY["migrate-reset"],
        boots=map(rows.boot_row, judgement.boots),
        steps=(rows.step_row(step, KNOWN) for step in seen),
        qemus=[{"role": "source", "version": "5.2.0", "argv": ["qemu"]}], engine="docker",
        seconds=3.40001,
    )  # fmt: skip
    assert list(record) == KEYS
    assert json.loads(json.dumps(record)) == record
    assert checked(record) == record
    assert type(record["verdict"]) is str
    assert (record["verdict"], record["known"], record["seconds"]) == ("pass", None, 3.4)
    assert record["scenario_steps"] == [
        {"start": {"on": "source"}},
        {"migrate": {"to": "destination", "channel": "unix", "during-post": False,
                     "as": "running", "recovers": False}},
        {"reset": {"by": "monitor"}},
    ]
    assert [(step["step"], step["outcome"]) for step in record["steps"]] == [
        ("start", "ok"), ("migrate", "completed"), ("reset", "ok")]
    assert [boot["rom"] for boot in record["boots"]] == ["seabios-old", "seabios-new"]


def test_what_its_matrix_declares_is_in_it() -> None:
    declared = [Known((("machine", ("pc-q35-*",)),), (Verdict.SILENT,), "it hangs")]
    for verdict, known, state in ((Verdict.SILENT, "it hangs", "known"),
                                  (Verdict.PASS, "it hangs", "fixed"),
                                  (Verdict.UNSUPPORTED, None, None)):
        record = rows.record(CELL, verdict, "", scenario=LIBRARY["cold-boot"], declared=declared,
                             engine="docker", seconds=1.0)
        assert (record["known"], record.get("known_state")) == (known, state)
