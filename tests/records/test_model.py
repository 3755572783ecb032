"""Records from anywhere: the model that they are read through, bounds, and mutated ones."""

from __future__ import annotations

import copy
import json
import os
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cli.main import main
from bootmatrix.diagnose.lookup import from_records
from bootmatrix.errors import UserError
from bootmatrix.model import Verdict, role_name
from bootmatrix.records import jsonl, model
from bootmatrix.records.history import History
from bootmatrix.records.jsonl import read_records
from bootmatrix.records.merged import merged
from bootmatrix.records.merging import load
from bootmatrix.records.model import parsed
from bootmatrix.report.annotations import github, gitlab
from bootmatrix.report.compare import baseline, compare
from bootmatrix.report.junit import junit
from bootmatrix.report.markdown import markdown, which_policy
from bootmatrix.report.page import page
from bootmatrix.report.summary import summary
from bootmatrix.report.table import Style
from bootmatrix.run.resume import Finished
from helpers.records import all_pairs, failing, record

Mutation = Callable[[dict[str, Any]], object]
MUTATIONS: list[tuple[Mutation, str]] = [
    (lambda one: one.update(schema=3),
     "a record with schema 3; this bootmatrix reads schema 1 and 2"),
    (lambda one: one.pop("schema"),
     "a record with no schema; this bootmatrix reads schema 1 and 2"),
    (lambda one: one.pop("cell"), "no run record: it has no cell"),
    (lambda one: one["cell"].pop("policy"), "no run record: it has no cell.policy"),
    (lambda one: one["boots"][1].update(up="yes"),
     'no run record: boots[1].up is "yes", must be true or false'),
    (lambda one: one["cell"]["source"].update(host=3),
     "no run record: cell.source.host is 3, must be a string"),
    (lambda one: one["cell"].update({"host-3": [1]}),
     "no run record: cell.host-3 is a list, must be an object"),
    (lambda one: one["cell"].update({"host-3": {"qemu": 1}}),
     "no run record: cell.host-3.qemu is 1, must be a string"),
    (lambda one: one["cell"]["source"].update(host="a\ntouch x"),
     r'cell.source.host is "a\ntouch x", must be a string without control characters'),
    (lambda one: one["cell"].update(id="x" * 2000), "must be shorter"),
    (lambda one: one.update(verdict="fine"), 'verdict is "fine", must be one of pass, '),
    (lambda one: one.update(boots={}), "boots is an object, must be a list"),
    (lambda one: one.update(seconds=-1), "seconds is -1, must be greater than or equal to 0"),
    (lambda one: one.update(seconds=float("nan")), "seconds is NaN, must be a finite number"),
    (lambda one: one.update(flaky={"p\x1bss": 1}), r'flaky."p\u001bss" is "p\u001bss", must be'),
    (lambda one: one.update(known=["\x1b]0;t\a" * 99]), "known is a list, must be a string"),
    (lambda one: one.update(options=["--", "-p", "evil"]), 'options is "-- -p evil", must be --q'),
    (lambda one: one.update(options=["--qemu", "--x"]), 'options is "--qemu --x", must be --qemu'),
    (lambda one: one.update(reason=10**4000), "reason is 1000000000"),
]


@pytest.mark.parametrize(("spoil", "message"), MUTATIONS, ids=[told for _, told in MUTATIONS])
def test_what_is_wrong_is_told_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Mutation, message: str
) -> None:
    bad = copy.deepcopy(record())
    spoil(bad)
    path = tmp_path / "r.jsonl"
    path.write_text(f"{json.dumps(record())}\n{json.dumps(bad)}\n")
    assert main(["report", str(path), "-o", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bootmatrix: {path}:2: ")
    assert message in line
    assert line.isprintable()
    assert len(line) < len(str(path)) + 350


def test_a_record_is_read_as_it_was_written() -> None:
    """Keys that this version does not know included, and a baseline's, which lack most."""
    strange = record() | {"new": {"deep": [1, None, "\u2028"]}, "10": 1.5}
    strange["cell"] |= {"axis": ["of", {"tomorrow": 1}], "host-3": {"host": "c", "other": 1}}
    strange["boots"][0]["witness"] = {"x": 1}
    for one in (strange, failing(), *baseline(merged(all_pairs())),
                *(record(verdict=verdict.value) for verdict in Verdict)):
        assert parsed(json.dumps(one)) == one
        assert model.checked(one) == one


def test_a_key_that_looks_like_a_role_is_none_without_those_before_it() -> None:
    """Found by the long version of the fuzz."""
    strange = record() | {"run_dir": "."}
    strange["cell"]["host-4"] = "x"
    assert parsed(json.dumps(strange)) == strange
    (kept,) = baseline([strange])
    assert list(kept["cell"]) == ["id", "source", "destination", "machine", "policy", "scenario",
                                  "accel", "disk"]


def test_what_is_no_file_of_bounded_size_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo, sparse, one_line = tmp_path / "fifo", tmp_path / "sparse", tmp_path / "line"
    os.mkfifo(fifo)  # that nobody writes to: to open it would be to wait
    with sparse.open("wb") as file:
        file.truncate(100 << 30)
    good = tmp_path / "good"
    good.write_text(json.dumps(record()) + "\n")
    with one_line.open("wb") as file:
        file.truncate(jsonl.LONGEST_LINE + 2)
    for path, why in ((fifo, "no regular file"), (Path("/dev/zero"), "no regular file"),
                      (tmp_path, "is a directory"), (sparse, "bytes, at most 2147483648 are read"),
                      (one_line, "a line of more than 16 MiB")):
        for command in (["report", str(path), "-o", str(tmp_path / "out")],
                        ["gate", "--baseline", str(good), str(path)],
                        ["history", "add", str(path), "--db", str(tmp_path / "db")]):
            assert main(command) == 2, command
            (line,) = capsys.readouterr().err.splitlines()
            assert why in line
    monkeypatch.setattr(jsonl, "LARGEST_FILE", good.stat().st_size - 1)
    with pytest.raises(UserError, match="are read"):
        list(read_records(good))


def test_deep_nesting_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"cell":' * 100_000 + "\n")
    with pytest.raises(UserError, match=r":1: no JSON"):
        list(read_records(path))


# ---- mutated records through all readers --------------------------------------------------------

BATCH = 100
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**70, 1.5, -0.0, 1e308, 1e-320, float("inf"), float("nan"), "", "x",
    "\x1b]0;title\a", "a\nb", "`touch x`", "$(touch x)", "'", "|", "<b>", "\u202e", "\0",
    "9" * 5000, "pass", "silent", "source", "start", "migrate", "completed", "stock", "--",
    "../../x", [], [None], [1, "x"], {}, {"lost": 3}, {"host": "x"}, {"": {}}, [[]], [{}],
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else (
        enumerate(data) if isinstance(data, list) else ())
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


def some_value(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(VALUES))


def mutated(one: dict[str, Any], rng: random.Random) -> Any:
    """The record with some values in place of others, keys taken away, renamed and added."""
    told: Any = copy.deepcopy(one)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        *outer, key = rng.choice([place for place in places(told) if place] or [("x",)])
        inside = told
        for part in outer:
            inside = inside[part]
        act = rng.randrange(6)
        if not isinstance(inside, (dict, list)):
            continue
        if act == 0:
            del inside[key]
        elif act == 1 and isinstance(inside, dict):
            inside[rng.choice((role_name(rng.randrange(4)), "flaky", "times", "known", "steps",
                               "options", "repeat", "error", "retried", "console_candidates",
                               "variables", "matrix", "smp", "usual", "scenario_steps",
                               "x\x1b\n"))] = some_value(rng)
        elif act == 2 and isinstance(inside, list):
            inside.insert(rng.randrange(len(inside) + 1), some_value(rng))
        else:
            inside[key] = some_value(rng)
    return told


def spoiled(line: str, rng: random.Random) -> bytes:
    """The line, sometimes with bytes flipped, cut, or put in."""
    data = bytearray(line.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.15 and data:
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.choice((0, 1, 1, 9))] = rng.choice(
                (b"", b"\xff", b"\0", b"}", b'"', b"\\ud800", b"[" * 300, b"1e999", b"\r", b"\n"))
    return bytes(data) + b"\n"


class NoBuilds:
    """Stands in for the builds of from_records: any name is one."""

    def check(self, hosts: object) -> None:
        """Every host can be."""

    prepare = check
    host = check


def through_all_readers(records_file: Path, db: Path) -> None:
    """All that is made of the records of a file; UserError is the one thing that may be raised."""
    read = load([records_file], mixed=True)
    one = merged(read)
    summary(one, Style(80), seconds=1.0, artifacts="x")
    assert markdown(one)
    assert which_policy(one)
    github(one)
    json.loads(gitlab(one))
    junit(one)
    page(one, lambda told: [("1-source", b"x")], title="t")
    good = merged(all_pairs())
    compare(good, one, 1.5)
    compare(one, good)
    assert [parsed(json.dumps(row)) for row in baseline(one)]
    with History(db, create=True) as history:
        history.add(read, digest=os.urandom(8).hex(), time="2026-11-25T00:00:00", label="")
        history.changes()
        history.flaky()
    for told in read:
        with suppress(UserError):
            from_records(told["cell"]["id"], records_file, NoBuilds())  # type: ignore[arg-type]
    Finished(records_file.parent).tidy()


def fuzz(count: int, seed: int, home: Path) -> int:
    """How many of so many mutated records were taken for records; all were read or refused."""
    rng = random.Random(seed)
    bases = [record(), record("bullseye sid trixie", scenario="chain"), failing(),
             record(verdict="error", known="why"), *baseline(merged(all_pairs()[:1]))]
    bases[1]["boots"][1] |= {"variables": {"lost": True}, "console_candidates": ["a", "b"]}
    one, several = home / "one.jsonl", home / "records.jsonl"
    (home / "cells").mkdir()  # a run's directory has it
    taken = 0
    lines: list[bytes] = []
    refusals = set()
    for number in range(count):
        line = spoiled(json.dumps(mutated(rng.choice(bases), rng)), rng)
        one.write_bytes(line)
        try:
            lines += [line] if list(read_records(one)) else []
        except UserError as error:
            refusals.add(str(error).count("\n"))
        if len(lines) == BATCH or (number == count - 1 and lines):
            several.write_bytes(b"".join(lines))
            through_all_readers(several, home / "db")
            taken += len(lines)
            lines.clear()
    assert refusals == {0}  # all in one line
    return taken


def test_mutated_records_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    assert 100 < fuzz(1000, 0, tmp_path) < 900  # both kinds are there


if __name__ == "__main__":  # python tests/records/test_model.py COUNT SEED: the long version
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        print(fuzz(int(sys.argv[1]), int(sys.argv[2]), Path(directory)))
