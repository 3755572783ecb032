"""Records as Markdown, for merge requests and job summaries; and the page on which policy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bootmatrix.cell import AXES
from bootmatrix.matrix import axes
from bootmatrix.model import MigrationMode
from bootmatrix.records.model import Record
from bootmatrix.records.outcome import WORST_FIRST, Outcome, outcome_of
from bootmatrix.records.words import called, host_name, hosts_of, natural, plural
from bootmatrix.report.causes import Neighbour, causes, neighbours
from bootmatrix.report.decision import PolicyRow, counterexamples, decide, questions
from bootmatrix.report.story import stages
from bootmatrix.report.summary import (
    LONGEST,
    counts,
    declarations,
    mismatches,
    missed,
    not_run,
    rerun_command,
)
from bootmatrix.report.table import (
    MARKS,
    REFUSED,
    by_scenario,
    entry,
    policies,
    shows_refusal,
)
from bootmatrix.steps.write_boot_entry import WriteBootEntry

MOST_FINDINGS = 30
_PLAIN = re.compile(r"[A-Za-z0-9 ,._+:/=-]+")
_AUTOLINK = re.compile(r"(?i)(?<=:)/(?=/)|(?<=www)\.|@")
MOST_ROWS = 200
MOST_COUNTEREXAMPLES = 3


def markdown(records: Sequence[Record], command: str = "bootmatrix") -> str:
    """The counts, what is wrong, and the matrix folded up, scenario by scenario."""
    bad = [record for record in records if outcome_of(record).is_bad]
    bad.sort(key=lambda record: WORST_FIRST.index(outcome_of(record)))
    learnt = any(outcome_of(record) is not Outcome.UNSUPPORTED for record in records)
    worst = "✗" if bad else "✓" if learnt else MARKS[Outcome.UNSUPPORTED]
    lines = [f"### {worst} Which firmware ran?", "",
             escaped(counts(records).plain), ""]
    if bad:
        near = neighbours(records)
        lines += ["| | cell | reason |", "| --- | --- | --- |"]
        lines += [f"| {MARKS[outcome_of(record)]} | {code(called(record))} | "
                  f"{escaped('; '.join((*explained(record), *_beside(record, near))))} |"
                  for record in bad[:MOST_FINDINGS]]
        if len(bad) > MOST_FINDINGS:
            lines.append(f"| | ... and {len(bad) - MOST_FINDINGS} more | |")
        again = rerun_command(bad[0], command)
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", again)), default=0))
        lines += ["", "Again, the first of them:", "", f"{fence}sh", again, fence, ""]
    if more := [*(line for _, line in declarations(records)[:MOST_FINDINGS]),
                *map(str, causes(records)), *not_run(records), *missed(records),
                *mismatches(records)]:
        lines += [*(f"- {escaped(line)}" for line in more), ""]
    for name, of_it in by_scenario(records):
        lines += _folded(name, of_it)
    if any(map(shows_refusal, records)):
        lines += [f"{REFUSED[0]}: {REFUSED[1]}", ""]
    return "\n".join(lines)


def _folded(scenario: str, records: Sequence[Record]) -> list[str]:
    names = policies(records)
    columns = ["machine", *dict.fromkeys(("disk", *axes.telling(
        record["cell"] for record in records)))]
    rows: dict[tuple[str, ...], dict[str, Record]] = {}
    for record in records:
        cell = record["cell"]
        key = (" → ".join(host_name(host) for host in hosts_of(record)),
               *(axes.labelled(axis, cell) for axis in columns))
        rows.setdefault(key, {})[cell["policy"]] = record
    lines = [f"<details><summary>{escaped(scenario)}: {plural(len(records), 'cell')}</summary>",
             "", "| " + " | ".join(map(escaped, ("hosts", *columns, *names))) + " |",
             "|" + " --- |" * (1 + len(columns) + len(names))]
    for hosts in sorted(rows, key=lambda row: [natural(part) for part in row])[:MOST_ROWS]:
        entries = (entry(rows[hosts][name], sequence=True)[0] if name in rows[hosts] else ""
                   for name in names)
        lines.append("| " + " | ".join(escaped(text) for text in (*hosts, *entries)) + " |")
    if len(rows) > MOST_ROWS:
        lines.append(f"| ... and {plural(len(rows) - MOST_ROWS, 'more row')} |"
                     + " |" * len(columns))
    return [*lines, "", "</details>", ""]


def reason(record: Record) -> str:
    """What came of a cell, in one line that begins with its verdict."""
    lines = str(record["reason"]).splitlines() or [""]
    verdict = str(record["verdict"])
    if record.get("flaky"):
        verdict = "flaky (" + ", ".join(f"{n} {v}" for v, n in record["flaky"].items()) + ")"
    return lines[0] if lines[0].startswith(verdict) else f"{verdict}: {lines[0]}"


def explained(record: Record) -> list[str]:
    """The same, and what its machine was doing where its guest was down."""
    black_box = record.get("black_box")
    return [reason(record), *([f"black box: {black_box}"] if black_box else [])]


def _beside(record: Record, near: Mapping[str, Neighbour]) -> list[str]:
    """The cell beside it that passed, in words."""
    return [str(near[called(record)])] if called(record) in near else []


def escaped(text: str) -> str:
    """Text in which Markdown and HTML find nothing to interpret; a long one is cut."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + " ..."
    text = "".join(char if char.isprintable() else " " for char in text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", text)
    # What would become a link without any markup: an address of a page or of a person.
    return _AUTOLINK.sub(lambda found: f"&#{ord(found[0])};", text)


def code(text: str) -> str:
    """A name as code; as text where it has what would end the code or the table's entry."""
    return f"`{text}`" if _PLAIN.fullmatch(text) else escaped(text)


def decision_table(rows: Sequence[PolicyRow]) -> list[str]:
    """The policy decision table: policies down, questions across."""
    return [
        "| policy | cells | " + " | ".join(title for title, _ in questions(rows)) + " |",
        "| --- | --- |" + " --- |" * len(questions(rows)),
        *(f"| {code(row.policy)} | {row.cells} | " + " | ".join(map(str, row.counts)) + " |"
          for row in rows),
    ]  # fmt: skip


def which_policy(records: Sequence[Record]) -> str:
    """docs/which-policy.md, with the numbers of these records.

    Cells in another mode of migration than the usual one have a table of their own, and so have
    guests with a TPM, and guests that write a boot entry.
    """
    kinds: dict[str, list[Record]] = {"mode": [], "tpm": [], "entry": [], "": []}
    for record in records:
        kind = ("mode" if _mode(record) else "tpm" if _tpm(record) else
                "entry" if _writes_entry(record) else "")
        kinds[kind].append(record)
    rows = decide(kinds[""])
    examples = [
        f"- {code(policy)}, {what} ({plural(len(cells), 'cell')}): "
        + ", ".join(map(code, cells[:MOST_COUNTEREXAMPLES]))
        + (", ..." if len(cells) > MOST_COUNTEREXAMPLES else "")
        for policy, what, cells in counterexamples(rows)
    ]
    return "\n".join((
        *HEAD, "", *decision_table(rows), "",
        *(f"- **{title}**: {meaning}." for title, meaning in questions(rows)), "",
        _counted(sum(row.cells for row in rows),
                 [*kinds[""], *kinds["mode"]]),
        "", *READING, "", *_by_scenario("locked", LOCKED_HEAD, kinds["tpm"]),
        *_by_scenario("unused", ENTRY_HEAD, kinds["entry"]),
        *(_modes(kinds["mode"]) if kinds["mode"] else ()), "## Counterexamples", "",
        "Cells in which a policy does not give what one might hope for. "
        "`bootmatrix run MATRIX --cell ID` runs one again.", "", *examples, "", *TAIL, "",
    ))  # fmt: skip


def _counted(cells: int, records: Sequence[Record]) -> str:
    """Over what is counted: how many cells, of which matrices, on which hosts."""
    matrices = sorted({str(record.get("matrix") or "records") for record in records})
    hosts = sorted({(str(host.get("qemu")), host_name(host), str(host.get("firmware")))
                    for record in records for host in hosts_of(record)},
                   key=lambda row: [natural(part) for part in row])
    return (f"Counted over {plural(cells, 'cell')} of " + ", ".join(map(code, matrices)) + ", on "
            + ", ".join(escaped(f"QEMU {qemu} with {firmware}") for qemu, _, firmware in hosts)
            + ".")


def _tpm(record: Record) -> bool:
    """Whether the guest of a cell has a TPM."""
    axis = AXES["tpm"]
    return bool(record["cell"].get(axis.name, axis.default) != axis.default)


def _writes_entry(record: Record) -> bool:
    """Whether the guest of a cell writes a boot entry of its own."""
    return any(stage.step == WriteBootEntry.kind for stage in stages(record))


def _by_scenario(question: str, head: Sequence[str], records: Sequence[Record]) -> list[str]:
    """One question's counts, of decision.SOME_ASK, by policy and scenario; [] without a record."""
    if not records:
        return []
    scenarios = sorted({record["cell"]["scenario"] for record in records})
    found = {name: decide(record for record in records if record["cell"]["scenario"] == name)
             for name in scenarios}
    counts = {(row.policy, name): str(getattr(row, question))
              for name, rows in found.items() for row in rows}
    return [
        *head, "", "| policy | " + " | ".join(map(code, scenarios)) + " |",
        "| --- |" + " --- |" * len(scenarios),
        *(f"| {code(policy)} | " + " | ".join(
            counts.get((policy, name), "") for name in scenarios) + " |"
          for policy in policies(records)), "",
        _counted(len(records), records), "",
    ]  # fmt: skip


def _mode(record: Record) -> str:
    """The mode of migration of a cell; "" for the usual one."""
    axis = AXES["migration"]
    mode = str(record["cell"].get(axis.name, axis.plain(axis.default)))
    return "" if mode == axis.plain(axis.default) else mode


def _modes(records: Sequence[Record]) -> list[str]:
    """What ran after a reset behind each mode of migration, by versions of QEMU and policy."""
    shown = [record for record in records if record["cell"]["scenario"] == MODES_SCENARIO
             and outcome_of(record) is not Outcome.UNSUPPORTED]
    order, names = list(map(str, MigrationMode)), policies(shown)
    known: dict[str, set[str]] = {}  # a version tells which host it is, but where two have it
    for host in (host for record in shown for host in hosts_of(record)):
        known.setdefault(str(host.get("qemu")), set()).add(host_name(host))
    rows: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for record in shown:
        pair = " → ".join(
            version if len(known[version]) == 1 else f"{version} ({host_name(host)})"
            for host in hosts_of(record) if (version := str(host.get("qemu"))))
        rows.setdefault((_mode(record), pair), {}).setdefault(
            record["cell"]["policy"], []).append(record)

    def place(row: tuple[str, str]) -> tuple[int, str, tuple[tuple[int, int, str], ...]]:
        mode, pair = row
        return order.index(mode) if mode in order else len(order), mode, natural(pair)

    def shortly(of_it: Sequence[Record]) -> str:
        worst = min(of_it, key=lambda record: WORST_FIRST.index(outcome_of(record)))
        return escaped(entry(worst)[0])

    return [
        *MODES_HEAD, "", "| mode | QEMUs | " + " | ".join(map(code, names)) + " |",
        "| --- | --- |" + " --- |" * len(names),
        *(f"| {code(mode)} | {escaped(pair)} | " + " | ".join(
            shortly(rows[mode, pair][name]) if name in rows[mode, pair] else ""
            for name in names) + " |" for mode, pair in sorted(rows, key=place)), "",
    ]  # fmt: skip


LOCKED_HEAD = (
    "## Disks that stay locked",
    "",
    "Guests with a TPM in which a secret was sealed at their first boot, as a disk's key is: in "
    "how many cells it could not be had again, after a reset or start with firmware that the "
    "guest's user had not asked for. This is what *changed unasked* costs him: he needs his "
    "recovery key after a reboot like any other. These cells are counted nowhere else on this "
    "page; [model.md](model.md#the-tpm) says what must be.",
)
ENTRY_HEAD = (
    "## Boot entries that are not used",
    "",
    "Guests with UEFI firmware that write a boot entry of their own, into `BootOrder` or "
    "`BootNext`: in how many cells the firmware never started what it names, but its own default. "
    "The entry is a variable, and its store moves with the guest or does not: this is what a user "
    "loses whose machine no longer boots what it did. These cells are counted nowhere else on this "
    "page; [model.md](model.md#variables) says what must be.",
)
MODES_SCENARIO = "migrate-reset"
MODES_HEAD = (
    "## By mode of migration",
    "",
    f"The firmware of the reset after a migration (`{MODES_SCENARIO}`) in each "
    "[mode](matrix-file.md#modes-of-migration) but `precopy`, and what went wrong; these cells "
    "are counted nowhere else on this page. ✓ is what the policy promises, ~ a known "
    "incompatibility: [stock-qemu.md](stock-qemu.md#modes-of-migration).",
)
HEAD = (
    "# Which policy should one choose?",
    "",
    "<!-- Written by `make which-policy` from run records. Change "
    "harness/bootmatrix/report/markdown.py, not this page. -->",
    "",
    "A guest is migrated to a newer QEMU and then reset. Should its firmware be part of the "
    "guest, or part of the machine? These are the numbers of the matrices that come with "
    "bootmatrix, counted by `bootmatrix report --which-policy`. [model.md](model.md) says what "
    "each policy promises.",
    "",
    "## In numbers",
)
READING = (
    "## Reading the table",
    "",
    "- *Came back* is what a guest's user notices first. A policy that keeps old firmware needs "
    "every newer QEMU to be compatible with it; each guest that did not come back, or came back "
    "late, met one that was not.",
    "- *Changed unasked* and *stayed behind* are the two ends of one rope: what brings a fix to a "
    "guest without its user's act also changes the firmware underneath it. No policy is low in "
    "both; choose which one you can bear.",
    "- *Reset = restart* says whether a user who reboots inside the guest gets what a user gets "
    "who stops and starts it. Where it fails, two ways to reboot lead to different firmware.",
    "- *Upgraded by the user* is the way by which fixes reach a guest under the guest-owned "
    "policies. The others have no nvram: there is nothing for the user to do.",
)
TAIL = (
    "## What the numbers do not say",
    "",
    "They count cells, not guests: each cell weighs the same, however rare its hosts are. A known "
    "incompatibility is counted as what it is: a guest that did not come back, or came back late. "
    "See [limits.md](limits.md).",
)

