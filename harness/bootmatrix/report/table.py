"""Records to the table: hosts and machine down, policies across, in each entry what ran."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from bootmatrix.matrix import axes
from bootmatrix.model import Verdict
from bootmatrix.policies import Policy
from bootmatrix.records.model import Record
from bootmatrix.records.outcome import WORST_FIRST, Outcome, outcome_of
from bootmatrix.records.words import (
    ASCII,
    host_name,
    hosts_of,
    matrix_name,
    natural,
    plural,
    short_firmware,
)
from bootmatrix.report.story import ran as firmware_of
from bootmatrix.report.story import refused
from bootmatrix.terminal import visible

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
    Verdict.WRONG_CMOS: ("wrong CMOS", "what the guest had written to the CMOS was lost"),
    Verdict.WRONG_MEMORY: ("wrong memory", "the running guest's program changed in its memory"),
    Verdict.WRONG_TABLES: ("wrong tables", "not the ACPI or SMBIOS tables that it must find"),
    Verdict.WRONG_HARDWARE: ("wrong hw", "fewer CPUs or less memory than the guest was given"),
    Verdict.WRONG_PROGRAM: (
        "wrong entry", "the firmware started another program than the guest's boot entries say"),
    Verdict.WRONG_TPM: (
        "wrong TPM", "the secret in the guest's TPM was not locked or unlocked as it must be"),
    Verdict.EXTRA_RESET: ("extra reset", "the machine was reset more often than it was asked for"),
    Verdict.LATE: (
        "late", "the right firmware, but only after so long (from QEMU's own time to the clock's)"),
    Verdict.NOT_RESET: ("not reset", "nothing reset the machine: QEMU's event never came"),
    Verdict.STOPPED: ("stopped", "QEMU stopped the guest by itself: KVM could not run it on"),
    Verdict.NO_BOOT: ("no boot", "the firmware spoke, but the guest did not come up in its time"),
    Verdict.SILENT: ("silent", "not even the firmware's banner on the console"),
    Verdict.BLOCKED: (
        "blocked", "refused: a migration or launch by QEMU, or an image that does not fit"),
    Verdict.WITNESS_CONFLICT: (
        "conflict", "what told of one boot (banners, guest, ROM) disagrees, or names no firmware"),
    Verdict.WRONG_DISK: ("wrong disk", "the guest booted another disk than it should"),
    Verdict.WRONG_FW_CFG: ("wrong host", "fw_cfg names another QEMU than the one it runs on"),
    Verdict.WRONG_VARIABLES: ("wrong vars", "the guest did not find its UEFI variables again"),
    Verdict.WRONG_KERNEL: ("wrong kernel", "another kernel ran than must, or the old one still"),
    Verdict.UNSUPPORTED: ("n/a", "cannot be on these QEMUs or this board, for the reasons below"),
    Verdict.ERROR: ("error", "see the record's reason"),
}
REFUSED = ("refused", "QEMU refused the migration, as the model expects: nothing migrated")
LOST = ("vars lost", "the guest's UEFI variables did not come along, as the policy has it")
NARROWEST_COLUMN = 9
GAP = 2
"""Between two columns of the table."""


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
            console.print(_Shown(part))
    text = "\n".join(line.rstrip() for line in capture.get().splitlines())
    return text.translate(ASCII) if style.ascii else text


class _Shown:
    """A part whose texts cannot steer a terminal; the colours are rich's own."""

    def __init__(self, part: RenderableType) -> None:
        self._part = part

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._part, options):
            yield Segment(visible(segment.text), segment.style, segment.control)


MOST_ROWS, MOST_POLICIES = 2000, 10
"""What a terminal is shown of a run. Chosen: so many rows of so many policies took 4.6 s here."""


def tables(records: Sequence[Record], style: Style) -> str:
    """One table for each scenario, the hosts' firmware, and a legend."""
    parts: list[RenderableType] = []
    telling = axes.telling(record["cell"] for record in records)
    hidden, left = 0, MOST_ROWS
    for name, of_it in by_scenario(records):
        every = [_Row(record, telling) for record in of_it]
        rows = _fewer(every, left)
        hidden += len(every) - len(rows)
        left -= len({row.key for row in rows})
        if not rows:
            continue
        fitting, sequences = _fitting(rows, style.width)
        more = " (a→b: a at the boot before)" if sequences else ""
        parts += [Text(f"{name}: the firmware of the last boot{more}", style="bold"), ""]
        for table in fitting:
            parts += [table, ""]
    if hidden:
        parts += [f"... and {plural(hidden, 'more cell')}, in the records", ""]
    parts += [*_hosts(records), *_legend(records)]
    return rendered(parts, style)


def by_scenario(records: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    """The records of each scenario; matrices apart where cells of theirs have equal ids."""
    apart = any("called" in record for record in records)

    def about(record: Record) -> tuple[str, str]:
        return matrix_name(record) if apart else "", record["cell"]["scenario"]

    for matrix, scenario in sorted({*map(about, records)}, key=lambda it: [*map(natural, it)]):
        of_it = [record for record in records if about(record) == (matrix, scenario)]
        yield f"{matrix}, {scenario}" if matrix else scenario, of_it


def entry(record: Record, sequence: bool = False) -> tuple[str, Outcome]:
    """What one cell of the table says: its mark, and the firmware of the last boot or a word.

    With ``sequence`` all the firmware that ran, where it changed: ``1.14.0-2→1.17.0-1``.
    """
    outcome = outcome_of(record)
    verdict = Verdict(record["verdict"])
    if verdict in WORDS:
        text = WORDS[verdict][0]
        boot = record["boots"][-1] if record["boots"] else None
        if verdict is Verdict.LATE and boot and "seconds" in boot:  # a baseline has no times
            # Of two clocks one is right for a guest that works, the other for one that waits: as
            # does who was in time by the first.
            able, wall = boot["seconds"], boot.get("wall_seconds")
            waits = wall is not None and able <= (boot.get("usual") or 0.0)
            text += f" {wall if waits else able:.0f}"
            text += f"-{wall:.0f}s" if wall is not None and not waits else "s"
    elif shows_refusal(record):
        text = REFUSED[0]  # what ran before it says nothing of the policy
    else:
        ran = [short_firmware(firmware_of(boot) or "nothing seen")
               for boot in record["boots"]]
        changes = [name for index, name in enumerate(ran) if index == 0 or ran[index - 1] != name]
        text = "→".join(changes if sequence else changes[-1:]) or "no boot yet"
        text += f", {LOST[0]}" if lost_variables(record) else ""
    return f"{MARKS[outcome]} {text}", outcome


def shows_refusal(record: Record) -> bool:
    """Whether a cell passes because QEMU refused a migration that it must refuse."""
    return record["verdict"] == Verdict.PASS and refused(record)


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
            axes.labelled(axis, cell) for axis in ("machine", *telling)
            if not axes.is_default(axis, cell.get(axis, axes.DEFAULTS.get(axis)))
        )  # fmt: skip
        self.versions = " → ".join(str(host.get("qemu")) for host in hosts_of(record))
        self.names = " → ".join(host_name(host) for host in hosts_of(record))

    @property
    def key(self) -> tuple[str, str, str]:
        return self.heading, self.versions, self.names


def _fewer(rows: Sequence[_Row], most: int) -> list[_Row]:
    """Those of the first rows, as many as there may be, and of the first policies."""
    names = policies([row.record for row in rows])[:MOST_POLICIES]
    keys = set(islice(dict.fromkeys(row.key for row in rows), most))
    return [row for row in rows if row.key in keys and row.record["cell"]["policy"] in names]


def _ambiguous(rows: Sequence[_Row]) -> bool:
    """Whether two hosts share a QEMU version, so that the version alone does not name them."""
    pairs = {(str(host.get("qemu")), host_name(host))
             for row in rows for host in hosts_of(row.record)}
    return len({version for version, _ in pairs}) < len(pairs)


def _fitting(rows: Sequence[_Row], width: int) -> tuple[list[Table], bool]:
    """The fullest table that fits, and whether it has sequences: they go first, then host names.

    Where none does, hosts are broken over lines, and policies stand in as many tables as needed.
    """
    names = policies([row.record for row in rows])
    short = "names" if _ambiguous(rows) else "versions"
    for label, sequence in (("both", True), ("both", False), (short, True), (short, False)):
        table = _Table(rows, label, sequence)
        if table.label + sum(map(table.column, names)) <= width + GAP:
            return [table.build(names)], table.sequences
    tables, fitting = [], list[str]()
    available = width + GAP - min(table.label, width // 2)
    for name in names:
        if fitting and sum(map(table.column, (*fitting, name))) > available:
            tables.append(fitting)
            fitting = []
        fitting.append(name)
    tables.append(fitting)
    widest = max(sum(map(table.column, part)) for part in tables)
    left = max(width + GAP - widest, NARROWEST_COLUMN)
    return [table.build(part, left) for part in tables], table.sequences


class _Table:
    """The rows of one scenario, laid out in one of the ways to say where a guest moves."""

    def __init__(self, rows: Sequence[_Row], label: str, sequence: bool) -> None:
        self._label = label
        self._lines: dict[tuple[str, str, str], dict[str, list[Record]]] = {}
        for row in sorted(rows, key=lambda row: [natural(part) for part in row.key]):
            line = self._lines.setdefault(row.key, {})
            line.setdefault(row.record["cell"]["policy"], []).append(row.record)
        self._entries = {
            (key, policy): _entry_of(records, sequence)
            for key, line in self._lines.items() for policy, records in line.items()
        }
        self._longest = max(len(hosts) for _, _, hosts in self._lines)

    @property
    def sequences(self) -> bool:
        """Whether an entry says more than the firmware of the last boot."""
        return any("→" in text.plain for text in self._entries.values())

    @property
    def label(self) -> int:
        """The columns that its first column takes, unbroken."""
        texts = [Text(heading) for heading, _, _ in self._lines]
        return max(text.cell_len for text in (*texts, *map(self._first, self._lines))) + GAP

    def column(self, policy: str) -> int:
        """The columns that a policy's column takes."""
        return max(map(len, (*self._header(policy), *self._texts(policy)))) + GAP

    def build(self, policies: Sequence[str], label: int | None = None) -> Table:
        """The table of these policies; its first column is broken at ``label``."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
        what = "QEMUs" if self._label == "versions" else "hosts"
        table.add_column(f"machine type\n  {what}", width=label and label - GAP, overflow="fold")
        for policy in policies:
            table.add_column("\n".join(self._header(policy)), no_wrap=True)
        above = None
        for key in self._lines:
            if key[0] != above:
                above = key[0]
                table.add_row(Text(above, style="bold"))
            table.add_row(self._first(key), *(self._entries.get((key, name)) for name in policies))
        return table

    def _first(self, key: tuple[str, str, str]) -> Text:
        _, versions, hosts = key
        return {
            "versions": Text("  " + versions),
            "names": Text("  " + hosts),
            "both": Text(f"  {hosts:<{self._longest}}  ") + Text(versions, style="dim"),
        }[self._label]

    def _texts(self, policy: str) -> list[str]:
        return [str(text) for (_, of), text in self._entries.items() if of == policy]

    def _header(self, policy: str) -> list[str]:
        widest = max(map(len, self._texts(policy)))
        return textwrap.wrap(policy, max(NARROWEST_COLUMN, widest), break_long_words=False)


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
    table.add_column("host", overflow="fold")
    for title in ("QEMU", "its own firmware"):
        table.add_column(title, no_wrap=True)
    in_order = sorted(hosts, key=lambda row: [natural(part) for part in row])
    for version, name, firmware in in_order[:MOST_ROWS]:
        table.add_row(name, version, firmware)
    yield table
    if more := in_order[MOST_ROWS:]:
        yield f"... and {plural(len(more), 'more host')}, in the records"
    yield ""


def _legend(records: Sequence[Record]) -> Iterator[RenderableType]:
    """The marks and words that occur, each explained in a few words."""
    # Where QEMU refuses what it must, no firmware ran as promised.
    seen = {outcome_of(record) for record in records if not shows_refusal(record)}
    verdicts = {Verdict(record["verdict"]) for record in records}
    legend = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for outcome, meaning in LEGEND.items():
        if outcome in seen:
            legend.add_row(Text(MARKS[outcome], style=STYLES[outcome]), meaning)
    for verdict, (word, meaning) in WORDS.items():
        if verdict in verdicts:
            legend.add_row(word, meaning)
    if any(map(shows_refusal, records)):
        legend.add_row(*REFUSED)
    if any(lost_variables(record) for record in records):
        legend.add_row(*LOST)
    yield legend
