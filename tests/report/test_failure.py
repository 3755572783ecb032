"""One failed cell, told to a person."""

from __future__ import annotations

from typing import Any

from bootmatrix.report.failure import failure
from helpers.records import record


def test_a_failure_text() -> None:
    qemus = [{"role": "source", "argv": ["qemu"]},
             {"role": "destination", "argv": ["qemu", "-name", "a b"]}]
    text = failure(record(verdict="silent", reason="boot 2 (reset): nothing") | {"qemus": qemus},
                   artifacts="runs/x/cells/y", records="out/records.jsonl", tail=["one", "two"])
    assert text.splitlines() == [
        "silent: boot 2 (reset): nothing",
        "",
        "boot  step   host         expected          console           rom               guest up",
        "1     start  source       seabios-1.14.0-2  seabios-1.14.0-2  seabios-1.14.0-2  "
        "yes, 0.041 s",
        "2     reset  destination  seabios-1.14.0-2  -                 seabios-1.14.0-2  no, 3.0 s",
        "",
        "the console's last lines:",
        "    one",
        "    two",
        "",
        "the last QEMU's command line; the others' are in out/records.jsonl, as qemus:",
        "    destination: qemu -name 'a b'",
        "",
        "artifacts: runs/x/cells/y",
        "again: bootmatrix run matrices/m.yaml "
        "--cell bullseye-to-sid,pc-q35-5.2,guest-owned,migrate-reset",
    ]


def test_a_rig_error_shows_command_and_output() -> None:
    broken = record(verdict="error", reason="QEMU ended") | {
        "error": "QEMU ended\nexit status: 1\ncommand: qemu -x", "boots": []}
    lines = failure(broken, artifacts="runs/x").splitlines()
    assert lines[:4] == ["the rig broke; nothing was learnt about the firmware:", "QEMU ended",
                         "exit status: 1", "command: qemu -x"]


def test_a_boot_has_two_times_where_the_clock_had_more_for_it() -> None:
    one = record(verdict="silent", reason="boot 2 (reset): nothing")
    boots: Any = [dict(boot) for boot in one["boots"]]
    boots[1] |= {"seconds": 3.8, "wall_seconds": 15.2}
    lines = failure(one | {"boots": boots}, artifacts="runs/x").splitlines()
    assert lines[4].endswith("  no, 3.8 s (15.2 s by the clock)")
