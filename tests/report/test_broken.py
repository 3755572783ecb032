"""What broke: groups by reason, and the commands for each."""

from __future__ import annotations

from typing import Any

import pytest

from bootmatrix.records.outcome import Outcome
from bootmatrix.report.broken import broken, commands
from bootmatrix.report.causes import Neighbour, neighbours
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
        "options": ["--qemu", "head=../my build", "--engine", "docker"]}
    (group,) = groups(bad, record("trixie sid"))
    told = dict(group.commands)
    cell = bad["cell"]["id"]
    own = "--qemu 'head=../my build'"
    where = f"--matrix matrices/m.yaml {own}"
    live = f"{where} --engine docker"
    assert told["again"] == (
        f"bootmatrix run matrices/m.yaml {own} --engine docker --cell {cell}")
    assert told["as a script"] == f"bootmatrix repro {cell} {where}"
    assert told["its console"] == f"bootmatrix repro --attach {cell} {live}"
    assert told["which build"] == (
        f"bootmatrix bisect --cell {cell} {live} --over source --good debian-trixie "
        "--bad debian-bullseye --reverse")


@pytest.mark.parametrize(("one", "ends"), [
    (record("bullseye sid"), None), (record("bullseye sid") | {"known": "mended"}, None),
    (record("bullseye sid", verdict="unsupported"), None),
    (record("bullseye sid", verdict="error"), None),
    (record("bullseye sid", verdict="silent"),
     "--over firmware --good GOOD --bad seabios-1.14.0-2 --reverse"),
    (record("sid bullseye", verdict="silent"),
     "--over firmware --good GOOD --bad seabios-1.17.0-1"),
    (record("bullseye sid", verdict="silent") | {"known": "it hangs"},
     "--over firmware --good GOOD --bad seabios-1.14.0-2 --reverse"),
    (record("bullseye sid", verdict="silent") | {"options": ["--firmware", "seabios=x.bin"]},
     None),
], ids=["passes", "mended", "cannot be", "rig", "oldest", "newest", "known", "own"])
def test_a_bisection_is_offered_where_it_makes_sense(one: Any, ends: str | None) -> None:
    told = dict(commands(one, {"it": one}, None)).get("which build")
    assert (told and told.partition("m.yaml ")[2]) == ends


@pytest.mark.parametrize(("role", "changes", "ends"), [
    ("destination", {"firmware": "seabios-1.16.2-1"},
     "--over firmware --at destination --good seabios-1.16.2-1 --bad seabios-1.17.0-1"),
    ("source", {"firmware": "seabios-1.16.2-1"},
     "--over firmware --at source --good seabios-1.16.2-1 --bad seabios-1.14.0-2 --reverse"),
    ("host-3", {"build": "debian-bookworm", "qemu": "7.2.22"},
     "--over qemu --at host-3 --good debian-bookworm --bad debian-trixie"),
], ids=["firmware", "newer firmware", "host-3"])
def test_the_ends_are_what_a_cell_that_passes_has(
    role: str, changes: dict[str, str], ends: str
) -> None:
    bad = record("bullseye sid trixie", verdict="silent", reason="x")
    good: Any = record("bullseye sid trixie")
    good["cell"] = {**good["cell"], role: {**good["cell"][role], **changes}, "id": "good"}
    told = dict(commands(bad, {"good": good}, Neighbour(role, "x", "good")))["which build"]
    assert told.partition("m.yaml ")[2] == ends


def test_without_a_neighbour_that_has_another_host() -> None:
    bad = record("bullseye sid", verdict="silent", reason="x")
    told = dict(commands(bad, {}, None))
    assert told["which build"].endswith("--over firmware --good GOOD --bad seabios-1.14.0-2")
    bad["boots"][-1]["expected"] = "sha256:0123"
    assert "which build" not in dict(commands(bad, {}, None))
    of_a_host = bad | {"options": ["--host", "head/test"], "run_dir": "runs/x"}
    assert dict(commands(of_a_host, {}, None))["as a script"].endswith(
        "--records runs/x/records.jsonl")


def test_the_parsers_take_them() -> None:
    import shlex

    from bootmatrix.cli.main import parser

    bad = record("bullseye sid", verdict="silent", reason="x")
    for _, command in [*commands(bad, {}, None), *groups(bad, record("trixie sid"))[0].commands]:
        parser().parse_args(shlex.split(command)[1:])
