"""Records to one HTML page that needs nothing else: a heat map, and a story behind each entry.

The page holds a small index of all cells, and the stories in compressed pieces of which a
browser unpacks the one that is asked for. What firmware printed goes into the page only as data.
"""

from __future__ import annotations

import base64
import json
import shlex
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from harness import axes
from harness.identity import EscapeFilter
from harness.report.decision import QUESTIONS, counterexamples, decide
from harness.report.markdown import reason
from harness.report.outcome import Outcome, outcome_of
from harness.report.story import MARKED, capped, stretches
from harness.report.story import ran as firmware_of
from harness.report.summary import counts, rerun_command
from harness.report.table import LEGEND, MARKS, WORST_FIRST, entry, policies
from harness.report.words import duration, host_name, hosts_of, natural, short_firmware

Record = Mapping[str, Any]
Consoles = Callable[[Record], Sequence[tuple[str, bytes]] | None]
"""A record's consoles, (process, what it said), in the order of launch; None: no longer there."""

CELLS_A_PIECE = 50


def page(
    records: Sequence[Record], consoles: Consoles, *, title: str, command: str = "bootmatrix"
) -> str:
    """The page. ``records`` holds each cell once (see harness.report.merged)."""
    rows = decide(records)
    shown = sorted(records, key=lambda record: natural(record["cell"]["id"]))
    pieces = (_piece(shown[start : start + CELLS_A_PIECE], consoles, command)
              for start in range(0, len(shown), CELLS_A_PIECE))
    return str(_template().render(
        title=title,
        counts=counts(shown).plain,
        outcomes=[(outcome.value, MARKS[outcome], LEGEND[outcome], number) for outcome in Outcome
                  if (number := sum(outcome_of(record) is outcome for record in shown))],
        questions=QUESTIONS,
        rows=rows,
        counterexamples=counterexamples(rows),
        index=embedded(_index(shown)),
        pieces=pieces,
        style=_part("page.css"),
        script=_part("page.js"),
    ))


def embedded(data: Any) -> Markup:
    """Data as JSON that can stand in a script element, whatever its strings hold."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # noqa: S704  # nothing is left in it that HTML knows


def _part(name: str) -> Markup:
    text = (files("harness.report") / "page_parts" / name).read_text("utf-8")
    return Markup(text)  # noqa: S704  # ours


def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, loader=FunctionLoader(_part))
    return environment.get_template("page.html")


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
        columns["id"].append(cell["id"])
        columns["hosts"].append([word(host_name(host)) for host in hosts])
        columns["qemus"].append([word(host.get("qemu")) for host in hosts])
        for axis in plain:
            columns[axis].append(word(axes.said(axis, cell)))
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


def _piece(records: Sequence[Record], consoles: Consoles, command: str) -> str:
    text = json.dumps([_story(record, consoles(record), command) for record in records],
                      separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 3)).decode()


def _story(
    record: Record, consoles: Sequence[tuple[str, bytes]] | None, command: str
) -> dict[str, Any]:
    life = stretches(record)
    return {
        "hosts": [[host_name(host), host.get("qemu"), host.get("firmware"), host.get("build"),
                   host.get("digest")] for host in hosts_of(record)],
        "reason": record["reason"], "known": record.get("known"), "error": record.get("error"),
        "flaky": record.get("flaky"), "engine": record.get("engine"),
        "time": duration(float(record["seconds"])) if record.get("seconds") else None,
        "steps": [[s.step, s.host, s.firmware, s.seconds, s.outcome,
                   None if s.boot is None else bool(s.boot["up"])] for s in life],
        "boots": [[b["n"], b["step"], b["host"], b["expected"], b["console"], b["rom"], b["up"],
                   b.get("expected_disk"), b.get("disk"), b.get("seconds")]
                  for b in record["boots"]],
        "consoles": None if consoles is None else [
            [name, capped(EscapeFilter().feed(said).decode("utf-8", "replace"))]
            for name, said in consoles],
        "qemus": [[f"{row.get('role')}, QEMU {row.get('version')}",
                   _lines(tuple(row.get("argv", ())))]
                  for row in record.get("qemus", ())],
        "again": rerun_command(record, command),
        "artifacts": record.get("artifacts"),
    }


@cache
def _lines(argv: tuple[str, ...]) -> str:
    """A command line with an option a line, that a shell takes."""
    lines: list[str] = []
    for word in argv:
        if lines and not word.startswith("-"):
            lines[-1] += " " + shlex.quote(word)
        else:
            lines.append(shlex.quote(word))
    return " \\\n  ".join(lines)
