"""Records to the table: hosts and machine down, policies across, in each entry what ran."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from harness import axes
from harness.model import Policy, Verdict
from harness.report.outcome import Outcome, outcome_of
from harness.report.story import ran as firmware_of
from harness.report.words import ASCII, host_name, hosts_of, natural, short_firmware

Record = Mapping[str, Any]

MARKS = {
    Outcome.PASSED: "✓",
    Outcome.FIXED: "!",
    Outcome.KNOWN: "~",
    Outcome.UNSUPPORTED: "·",
    Outcome.FLAKY: "≈",
    Outcome.FAILED: "✗",
    Outcome.ERROR: "?",
}
STYLES = {
    Outcome.PASSED: "green",
    Outcome.FIXED: "bold cyan",
    Outcome.KNOWN: "yellow",
    Outcome.UNSUPPORTED: "dim",
    Outcome.FLAKY: "bold blue",
    Outcome.FAILED: "bold red",
    Outcome.ERROR: "bold magenta",
}
LEGEND = {
    Outcome.PASSED: "this firmware ran, as the policy promises",
    Outcome.FAILED: "not what the policy promises",
    Outcome.FLAKY: "repeats of the cell ended differently; the worst of them is shown",
    Outcome.KNOWN: "not what it promises either, but the matrix declares it, with a reason",
    Outcome.FIXED: "as promised, though the matrix declares a failure: its entry can go",
    Outcome.UNSUPPORTED: "cannot be run",
    Outcome.ERROR: "the rig broke; nothing was learnt about the firmware",
}
WORDS = {
    Verdict.NO_BOOT: ("no boot", "the firmware spoke, but the guest never came up"),
    Verdict.SILENT: ("silent", "not even the firmware's banner on the console"),
    Verdict.BLOCKED: ("blocked", "QEMU refused the migration or the launch"),
    Verdict.WITNESS_CONFLICT: ("conflict", "console and ROM name different firmware"),
    Verdict.WRONG_DISK: ("wrong disk", "the guest booted another disk than it should"),
    Verdict.WRONG_FW_CFG: ("wrong host", "fw_cfg names another QEMU than the one it runs on"),
    Verdict.WRONG_VARIABLES: ("wrong vars", "the guest did not find its UEFI variables again"),
    Verdict.WRONG_KERNEL: ("wrong kernel", "another kernel ran than must, or the old one still"),
    Verdict.UNSUPPORTED: ("n/a", "cannot be on these QEMUs or this board; the reason says why"),
    Verdict.ERROR: ("error", "see the record's reason"),
}
LOST = ("vars lost", "the guest's UEFI variables did not come along, as the policy has it")
WORST_FIRST = (Outcome.ERROR, Outcome.FAILED, Outcome.FLAKY, Outcome.KNOWN, Outcome.FIXED,
               Outcome.UNSUPPORTED, Outcome.PASSED)
NARROWEST_COLUMN = 9


@dataclass(frozen=True)
class Style:
    """How wide the text may be (columns), whether in colour, whether in ASCII alone."""

    width: int = 80
    colour: bool = False
    ascii: bool = False


def rendered(parts: Sequence[RenderableType], style: Style) -> str:
    """Rich's text of the parts, independent of the environment this process has."""
    console = Console(
        file=io.StringIO(), width=style.width, force_terminal=style.colour,
        color_system="standard" if style.colour else None, no_color=not style.colour,
        highlight=False, emoji=False, markup=False, legacy_windows=False, _environ={},
    )
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    text = "\n".join(line.rstrip() for line in capture.get().splitlines())
    return text.translate(ASCII) if style.ascii else text


def tables(records: Sequence[Record], style: Style) -> str:
    """One table for each scenario, the hosts' firmware, and a legend."""
    parts: list[RenderableType] = []
    telling = axes.telling(record["cell"] for record in records)
    for scenario in sorted({record["cell"]["scenario"] for record in records}, key=natural):
        rows = [_Row(record, telling) for record in records
                if record["cell"]["scenario"] == scenario]
        title = Text(f"{scenario}: the firmware of the last boot", style="bold")
        parts += [title, "", _table(rows, style.width), ""]
    parts += [*_hosts(records), *_legend(records)]
    return rendered(parts, style)


def entry(record: Record, sequence: bool = False) -> tuple[str, Outcome]:
    """What one cell of the table says: its mark, and the firmware of the last boot or a word.

    With ``sequence`` all the firmware that ran, where it changed: ``1.14.0-2→1.17.0-1``.
    """
    outcome = outcome_of(record)
    verdict = Verdict(record["verdict"])
    if verdict in WORDS:
        text = WORDS[verdict][0]
    else:
        ran = [short_firmware(firmware_of(boot) or "nothing seen")
               for boot in record["boots"]]
        changes = [name for index, name in enumerate(ran) if index == 0 or ran[index - 1] != name]
        text = "→".join(changes if sequence else changes[-1:]) or "no boot yet"
        text += f", {LOST[0]}" if lost_variables(record) else ""
    return f"{MARKS[outcome]} {text}", outcome


def lost_variables(record: Record) -> bool:
    """Whether a guest has found another variable store than it had."""
    return any((boot.get("variables") or {}).get("lost") for boot in record["boots"])


def policies(records: Sequence[Record]) -> list[str]:
    """The policies that occur, in the order of the model."""
    found = {record["cell"]["policy"] for record in records}
    order = [policy.value for policy in Policy]
    return [name for name in order if name in found] + sorted(found - set(order))


class _Row:
    """Where a record stands: below which heading, in which row."""

    def __init__(self, record: Record, telling: Sequence[str]) -> None:
        cell = record["cell"]
        self.record = record
        self.heading = ", ".join(
            axes.said(axis, cell) for axis in ("machine", *telling)
            if not axes.is_default(axis, cell.get(axis, axes.DEFAULTS.get(axis)))
        )  # fmt: skip
        self.versions = " → ".join(str(host.get("qemu")) for host in hosts_of(record))
        self.names = " → ".join(host_name(host) for host in hosts_of(record))

    @property
    def key(self) -> tuple[str, str, str]:
        return self.heading, self.versions, self.names


def _ambiguous(rows: Sequence[_Row]) -> bool:
    """Whether two hosts share a QEMU version, so that the version alone does not name them."""
    pairs = {(str(host.get("qemu")), host_name(host))
             for row in rows for host in hosts_of(row.record)}
    return len({version for version, _ in pairs}) < len(pairs)


def _table(rows: Sequence[_Row], width: int) -> Table:
    """The fullest table that fits: first the sequences go, then the hosts' names."""
    short = "names" if _ambiguous(rows) else "versions"
    choices = [("both", True), ("both", False), (short, True), (short, False)]
    measuring = Console(file=io.StringIO(), width=10_000, _environ={})
    for label, sequence in choices:
        table = _build(rows, label, sequence)
        if measuring.measure(table).maximum <= width:
            break
    return table


def _build(rows: Sequence[_Row], label: str, sequence: bool) -> Table:
    names = policies([row.record for row in rows])
    lines: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
    for row in sorted(rows, key=lambda row: [natural(part) for part in row.key]):
        line = lines.setdefault(row.key, {})
        line.setdefault(row.record["cell"]["policy"], []).append(row.record)
    entries = {
        (key, policy): _entry_of(line[policy], sequence)
        for key, line in lines.items() for policy in names if policy in line
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("machine type\n  QEMUs" if label == "versions" else "machine type\n  hosts")
    for policy in names:
        widest = max(len(text) for (_, of), text in entries.items() if of == policy)
        header = textwrap.wrap(policy, max(NARROWEST_COLUMN, widest), break_long_words=False)
        table.add_column("\n".join(header), no_wrap=True)
    longest = max(len(hosts) for _, _, hosts in lines)
    above = None
    for key in lines:
        heading, versions, hosts = key
        if heading != above:
            above = heading
            table.add_row(Text(heading, style="bold"))
        first = {
            "versions": Text("  " + versions),
            "names": Text("  " + hosts),
            "both": Text(f"  {hosts:<{longest}}  ") + Text(versions, style="dim"),
        }[label]
        table.add_row(first, *(entries.get((key, policy)) for policy in names))
    return table


def _entry_of(records: Sequence[Record], sequence: bool) -> Text:
    worst = min(records, key=lambda record: WORST_FIRST.index(outcome_of(record)))
    text, outcome = entry(worst, sequence)
    return Text(text, style=STYLES[outcome])


def _hosts(records: Sequence[Record]) -> Iterator[RenderableType]:
    """Which QEMU and which firmware each host has: what the versions in the table refer to."""
    hosts = {
        (str(host.get("qemu")), host_name(host), str(host.get("firmware")))
        for record in records for host in hosts_of(record)
    }
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    for title in ("host", "QEMU", "its own firmware"):
        table.add_column(title, no_wrap=True)
    for version, name, firmware in sorted(hosts, key=lambda row: [natural(part) for part in row]):
        table.add_row(name, version, firmware)
    yield table
    yield ""


def _legend(records: Sequence[Record]) -> Iterator[RenderableType]:
    """The marks and words that occur, each explained in a few words."""
    seen = {outcome_of(record) for record in records}
    verdicts = {Verdict(record["verdict"]) for record in records}
    legend = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for outcome, meaning in LEGEND.items():
        if outcome in seen:
            legend.add_row(Text(MARKS[outcome], style=STYLES[outcome]), meaning)
    for verdict, (word, meaning) in WORDS.items():
        if verdict in verdicts:
            legend.add_row(word, meaning)
    if any(lost_variables(record) for record in records):
        legend.add_row(*LOST)
    yield legend
