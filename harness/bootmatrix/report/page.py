"""Records to one HTML page that needs nothing else: a heat map, and a story behind each entry.

The page holds a small index of all cells, and the stories in compressed pieces of which a
browser unpacks the one that is asked for. What firmware printed goes into the page only as data.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from bootmatrix import __version__
from bootmatrix.firmware.identity import EscapeFilter
from bootmatrix.matrix import axes
from bootmatrix.model import Verdict
from bootmatrix.records.model import Record
from bootmatrix.records.outcome import WORST_FIRST, Outcome, outcome_of
from bootmatrix.records.times import when
from bootmatrix.records.words import (
    called,
    duration,
    host_name,
    hosts_of,
    natural,
    quoted,
    short_firmware,
)
from bootmatrix.report.broken import broken, commands
from bootmatrix.report.causes import Neighbour, causes, neighbours
from bootmatrix.report.compare import Comparison
from bootmatrix.report.decision import counterexamples, decide, questions
from bootmatrix.report.markdown import reason
from bootmatrix.report.story import MARKED, Stage, capped, stages
from bootmatrix.report.story import ran as firmware_of
from bootmatrix.report.summary import counts, mismatches
from bootmatrix.report.table import (
    LEGEND,
    MARKS,
    REFUSED,
    entry,
    policies,
    shows_refusal,
)
from bootmatrix.terminal import visible

Consoles = Callable[[Record], Sequence[tuple[str, bytes]] | None]
"""A record's consoles, (process, what it said), in the order of launch; None: no longer there."""

BlackBoxes = Callable[[Record], bytes | None]
"""All of a record's black box; None where there is none."""

Logs = Callable[[Record], Sequence[tuple[str, str]]]
"""A record's raw logs: (name, address from where the page is)."""

Trends = Callable[[Record], Sequence[tuple[str, str, str, float | None]]]
"""What a record's cell did in earlier runs, the oldest first: (run, verdict, firmware, seconds)."""

CELLS_A_PIECE = 50


def page(
    records: Sequence[Record], consoles: Consoles, *, title: str, command: str = "bootmatrix",
    black_boxes: BlackBoxes = lambda record: None, seconds: float | None = None,
    compared: Comparison | None = None,
    logs: Logs = lambda record: (), trends: Trends = lambda record: (), job: str | None = None,
) -> str:
    """The page. ``records`` holds each cell once (see bootmatrix.records.merged).

    ``seconds`` is how long the run took, ``job`` the address of the CI job that made it. With
    ``compared`` the page shows them beside the run before: what is different comes first.
    """
    rows = decide(records)
    shown = sorted(records, key=lambda record: natural(called(record)))
    near = neighbours(shown)
    named = {called(record): record for record in shown}
    then = compared.were if compared else {}
    def story_of(record: Record) -> dict[str, Any]:
        neighbour, earlier = near.get(called(record)), then.get(called(record))
        story = _story(record, consoles(record), black_boxes(record), neighbour)
        story["deeds"] = commands(record, named, neighbour, command)
        story["logs"], story["trend"] = logs(record), trends(record)
        story["before"] = earlier and [
            outcome_of(earlier).value, reason(earlier), _firmware(earlier),
            _said(consoles(earlier)) if _ended_otherwise(earlier, record) else None]
        return story

    pieces = (_piece([story_of(record) for record in shown[start : start + CELLS_A_PIECE]])
              for start in range(0, len(shown), CELLS_A_PIECE))
    return str(template("page.html").render(
        title=title,
        counts=counts(shown).plain,
        facts=_facts(shown, seconds),
        job=job,
        broken=broken(shown, near, command),
        marks=MARKS,
        compared=compared,
        outcomes=[(outcome.value, MARKS[outcome], LEGEND[outcome], number) for outcome in Outcome
                  if (number := sum(outcome_of(record) is outcome for record in shown))],
        questions=questions(rows),
        refused=REFUSED if any(map(shows_refusal, shown)) else None,
        notes=[*map(str, causes(shown)), *mismatches(shown)],
        rows=rows,
        counterexamples=counterexamples(rows),
        index=embedded(_index(shown)),
        pieces=pieces,
        records=_packed("".join(f"{json.dumps(_as_read(record))}\n" for record in records)),
        script=_part("page.js"),
    ))


def _facts(records: Sequence[Record], seconds: float | None) -> list[str]:
    """When it was run, how long it took, and on what, as far as the records say."""
    builds = dict.fromkeys(
        f"{host_name(host)}: QEMU {host.get('qemu')}, {host.get('firmware')}"
        for record in records for host in hosts_of(record))
    took = f"cells ran for {duration(seconds)}" if seconds is not None else None
    return [*filter(None, (when(records), took, f"bootmatrix {__version__}")),
            *sorted(builds, key=natural)]


def embedded(data: Any) -> Markup:
    """Data as JSON that can stand in a script element, whatever its strings hold."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # noqa: S704  # nothing is left in it that HTML knows


def _part(name: str) -> Markup:
    text = (files("bootmatrix.report") / "page_parts" / name).read_text("utf-8")
    return Markup(text)  # noqa: S704  # ours


@cache
def template(name: str) -> Any:
    """A template of page_parts/, which is given the style of them all."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, loader=FunctionLoader(_part))
    environment.globals["style"] = _part("page.css")
    return environment.get_template(name)


def _index(records: Sequence[Record]) -> dict[str, Any]:
    """All that the heat map and its filters need: one column for each axis, words by number."""
    words: dict[str, int] = {}

    def word(text: Any) -> int:
        return words.setdefault(str(text), len(words))

    firmware = sorted({name for record in records for name in _firmware(record)}, key=natural)
    telling = axes.telling(record["cell"] for record in records)
    plain = dict.fromkeys(("scenario", "machine", "policy", "disk", "accel", *telling))
    columns: dict[str, list[Any]] = {key: [] for key in (
        "id", "hosts", "qemus", *plain, "outcome", "verdict", "text", "reason", "ran")}
    for record in records:
        cell, hosts = record["cell"], list(hosts_of(record))
        columns["id"].append(called(record))
        columns["hosts"].append([word(host_name(host)) for host in hosts])
        columns["qemus"].append([word(host.get("qemu")) for host in hosts])
        for axis in plain:
            columns[axis].append(word(axes.labelled(axis, cell)))
        columns["outcome"].append(word(outcome_of(record).value))
        columns["verdict"].append(word(record["verdict"]))
        columns["text"].append(word(entry(record)[0].partition(" ")[2]))
        columns["reason"].append(word(reason(record)))
        columns["ran"].append([firmware.index(name) for name in _firmware(record)])
    return {
        "words": list(words), "columns": columns, "firmware": firmware,
        "short": [short_firmware(name) for name in firmware],
        "marks": {outcome.value: mark for outcome, mark in MARKS.items()},
        "worst": [outcome.value for outcome in WORST_FIRST],
        "axes": list(plain), "telling": telling,
        "policies": policies(records), "piece": CELLS_A_PIECE, "marked": MARKED,
    }


def _firmware(record: Record) -> list[str]:
    """The firmware that ran at the boots, where it changed."""
    ran: list[str] = []
    for boot in record["boots"]:
        name = firmware_of(boot) or "nothing seen"
        if ran[-1:] != [name]:
            ran.append(name)
    return ran


def _piece(stories: Sequence[dict[str, Any]]) -> str:
    return _packed(json.dumps(stories, separators=(",", ":"), ensure_ascii=False))


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 3)).decode()


def _as_read(record: Record) -> dict[str, Any]:
    """The record without where it was read from, which is this machine's."""
    return {name: value for name, value in record.items() if name != "run_dir"}


def _ended_otherwise(one: Record, other: Record) -> bool:
    return (one["verdict"], _firmware(one)) != (other["verdict"], _firmware(other))


def _said(consoles: Sequence[tuple[str, bytes]] | None) -> list[list[str]] | None:
    """What was said, as text; None: it is no longer there."""
    return None if consoles is None else [
        [name, capped(EscapeFilter().feed(said).decode("utf-8", "replace"))]
        for name, said in consoles]


def _story(
    record: Record, consoles: Sequence[tuple[str, bytes]] | None, black_box: bytes | None,
    near: Neighbour | None,
) -> dict[str, Any]:
    life = stages(record)
    return {
        "hosts": [[host_name(host), host.get("qemu"), host.get("firmware"), host.get("build"),
                   host.get("digest")] for host in hosts_of(record)],
        "reason": record["reason"], "error": record.get("error"),
        "known": [record.get("known"), _address(record)],
        "flaky": record.get("flaky"), "engine": record.get("engine"),
        "time": duration(float(record["seconds"])) if record.get("seconds") else None,
        "steps": [[s.step, s.host, s.firmware, s.seconds, s.outcome,
                   _well(s, record["verdict"]), s.boot is not None and bool(s.boot.get("usual"))]
                  for s in life],
        "boots": [[b["n"], b["step"], b["host"], b["expected"], b["console"], b["rom"], b["up"],
                   b.get("expected_disk"), b.get("disk"), b.get("seconds"), b.get("usual"),
                   b.get("wall_seconds")]
                  for b in record["boots"]],
        "near": near and [str(near), near.cell],
        "mismatch": record.get("layout_mismatch"), "again": record.get("run_again"),
        "doing": record.get("black_box"),
        "box": None if black_box is None else visible(black_box.decode("utf-8", "replace")),
        "consoles": _said(consoles),
        "qemus": [[f"{row.get('role')}, QEMU {row.get('version')}",
                   _lines(tuple(row.get("argv", ())))]
                  for row in record.get("qemus", ())],
        "artifacts": record.get("artifacts"), "run": record.get("run"),
    }


def _address(record: Record) -> str | None:
    """The link of the record's ``known`` entry, if it is one to follow."""
    link = record.get("known_link") or ""
    return link if link.startswith(("https://", "http://")) else None


def _well(step: Stage, verdict: str) -> bool | None:
    """Whether a boot came up, or a refusal is as the model expects. None: the step tells neither.

    A cell ends with a refusal: it passes with an expected one, and is blocked by another.
    """
    if step.boot is not None:
        return bool(step.boot["up"])
    if step.outcome.startswith("refused"):
        return {Verdict.PASS: True, Verdict.BLOCKED: False}.get(Verdict(verdict))
    return None


@cache
def _lines(argv: tuple[str, ...]) -> str:
    """A command line with an option a line, that a shell takes."""
    lines: list[str] = []
    for word in argv:
        if lines and not word.startswith("-"):
            lines[-1] += " " + quoted(word)
        else:
            lines.append(quoted(word))
    return " \\\n  ".join(lines)
