"""What broke: groups by reason, and the commands for each."""

from __future__ import annotations

from typing import Any

from bootmatrix.records.outcome import Outcome
from bootmatrix.report.broken import broken, commands
from bootmatrix.report.causes import neighbours
from helpers.records import record

LINK = "https://bugs.example/1"


def groups(*records: Any) -> list[Any]:
    return broken(records, neighbours(records))


def test_failures_are_grouped_by_reason_and_the_known_come_last() -> None:
    declared = {"known": "it hangs", "verdict": "silent", "known_link": LINK}
    found = groups(
        record(policy="stock") | declared | {"reason": "not a byte in 3.0 s"},
        record(policy="guest-owned") | declared | {"reason": "not a byte, otherwise"},
        record(policy="reread", verdict="silent", reason="not a byte in 3.0 s"),
        record(policy="reread", machine="pc-q35-7.2", verdict="silent", reason="not a byte in 5 s"),
        record(policy="reread", machine="isapc", verdict="error", reason="the engine broke"),
        record(policy="machine-owned"))
    assert [(group.outcome, len(group.cells), group.link) for group in found] == [
        (Outcome.ERROR, 1, ""), (Outcome.FAILED, 2, ""), (Outcome.KNOWN, 2, LINK)]
    assert found[1].reason == "silent: not a byte in 3.0 s"
    assert found[2].declared == "it hangs"


def test_the_commands_of_a_cell() -> None:
    bad = record("bullseye sid", verdict="silent", reason="x") | {
        "options": ["--qemu", "head=../my build"]}
    (group,) = groups(bad, record("trixie sid"))
    told = dict(group.commands)
    cell = bad["cell"]["id"]
    own = "--qemu 'head=../my build'"
    where = f"--matrix matrices/m.yaml {own}"
    assert told["again"] == f"bootmatrix run matrices/m.yaml {own} --cell {cell}"
    assert told["as a script"] == f"bootmatrix repro {cell} {where}"
    assert told["its console"] == f"bootmatrix repro --attach {cell} {where}"
    assert told["which build"] == (
        f"bootmatrix bisect --cell {cell} {where} --over source --good debian-trixie "
        "--bad debian-bullseye --reverse")


def test_without_a_neighbour_that_has_another_host() -> None:
    bad = record("bullseye sid", verdict="silent", reason="x")
    told = dict(commands(bad, {}, None))
    assert told["which build"].endswith("--over firmware --good GOOD --bad seabios-1.14.0-2")
    of_a_host = bad | {"options": ["--host", "head/test"], "run_dir": "runs/x"}
    assert dict(commands(of_a_host, {}, None))["as a script"].endswith(
        "--records runs/x/records.jsonl")


def test_the_parsers_take_them() -> None:
    import shlex

    from bootmatrix.cli.main import parser

    bad = record("bullseye sid", verdict="silent", reason="x")
    for _, command in [*commands(bad, {}, None), *groups(bad, record("trixie sid"))[0].commands]:
        parser().parse_args(shlex.split(command)[1:])
