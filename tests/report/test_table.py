"""Records to the table: what each entry says, what fits, what the legend explains."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bootmatrix.model import Verdict
from bootmatrix.records.outcome import Outcome
from bootmatrix.report import table
from bootmatrix.report.compare import baseline
from bootmatrix.report.markdown import markdown
from bootmatrix.report.table import MARKS, Style, entry, tables
from helpers.records import POLICIES, all_pairs, record


@pytest.mark.parametrize("verdict", [verdict.value for verdict in Verdict])
def test_every_verdict_has_an_entry_of_its_own_and_a_mark(verdict: str) -> None:
    text, outcome = entry(record(verdict=verdict))
    assert text.startswith(MARKS[outcome] + " ")
    others = {entry(record(verdict=other.value))[0] for other in Verdict if other != verdict}
    assert text not in others


def test_entries_name_the_firmware_that_ran() -> None:
    assert entry(record()) == ("✓ 1.14.0-2", Outcome.PASSED)
    assert entry(record(policy="machine-owned"))[0] == "✓ 1.17.0-1"
    assert entry(record(policy="machine-owned"), sequence=True)[0] == "✓ 1.14.0-2→1.17.0-1"
    assert entry(record(), sequence=True)[0] == "✓ 1.14.0-2"
    assert entry(record(verdict="wrong-firmware"))[0] == "✗ 01234567"
    assert entry(record(verdict="silent", known="why"))[0] == "~ silent"
    late = record(verdict="late", known="why")
    assert entry(late)[0] == "~ late 3s"
    late["boots"][1] |= {"seconds": 12.0, "wall_seconds": 33.0, "usual": 5.0}
    assert entry(late)[0] == "~ late 12-33s"
    late["boots"][1]["usual"] = 20.0  # in time as far as it was able to run: so it waits
    assert entry(late)[0] == "~ late 33s"
    del late["boots"][1]["seconds"]
    assert entry(late)[0] == "~ late"
    unheard = record()
    unheard["boots"][1]["console"] = None  # two builds that print the same: the bytes tell
    assert entry(unheard)[0] == "✓ 1.14.0-2"


def test_lost_variables_are_marked_and_explained() -> None:
    kept, lost = record(policy="guest-owned"), record(policy="stock")
    kept["boots"][1]["variables"] = {"lost": False}
    lost["boots"][1]["variables"] = {"lost": True}
    assert entry(lost)[0].endswith("1.14.0-2, vars lost")
    assert "vars lost" not in entry(kept)[0]
    assert "variables did not come along" in tables([lost, kept], Style(100))
    assert "vars lost" not in tables([kept], Style(100))


def test_a_refused_migration_is_shown_as_such_and_explained() -> None:
    one = record()
    one["steps"] = [{"step": "start", "outcome": "ok"},
                    {"step": "migrate", "outcome": "refused: machine-type: not the same"}]
    one["boots"] = one["boots"][:1]
    assert entry(one) == ("✓ refused", Outcome.PASSED)
    assert entry(one, sequence=True) == ("✓ refused", Outcome.PASSED)
    text = tables([one], Style())
    assert "refused  QEMU refused the migration, as the model expects: nothing migrated" in text
    assert "1.14.0-2\n" not in text.partition("host ")[0]
    assert "this firmware ran" not in text
    assert "this firmware ran" in tables([one, record(policy="reread")], Style())
    assert "✓ refused" in markdown([one])
    assert "nothing migrated" in markdown([one])
    assert "nothing migrated" not in tables([record()], Style()) + markdown([record()])
    assert entry(one | {"verdict": "blocked"})[0] == "✗ blocked"


def test_builds_that_print_the_same_are_named_by_their_bytes() -> None:
    told = record()
    names = ["ovmf-4m-2020.11-2+deb11u2", "ovmf-4m-2022.11-6+deb12u2"]
    for boot, name in zip(told["boots"], names, strict=True):
        boot |= {"console": "0.0.0", "rom": name, "console_candidates": names}
    assert entry(told, sequence=True)[0] == "✓ ovmf-4m-2020.11-2→ovmf-4m-2022.11-6"
    (kept,) = baseline([told])
    assert entry(kept, sequence=True)[0] == entry(told, sequence=True)[0]
    told["boots"][1]["rom"] = "sha256:0123456789abcdef"  # none of them: both are told elsewhere
    assert entry(told)[0] == "✓ 0.0.0"


def test_the_quickstart_fits_80_columns_whole() -> None:
    text = tables(all_pairs(), Style(80))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    heads = [line for line in lines if line.startswith("pc-")]
    assert heads == ["pc-i440fx-5.2", "pc-q35-5.2"]  # each machine's rows stand together
    row = next(line for line in lines if "5.2.0 → 11.1.3" in line)
    assert row.split("✓ ")[1:] == [
        "1.14.0-2  ", "1.14.0-2  ", "1.14.0-2  ", "1.17.0-1  ", "1.17.0-1"]
    # Versions as numbers, not as text: 5.2.0 first, 11.1.3 last.
    first = [line.split()[0] for line in lines if " → " in line][:12]
    assert first == ["5.2.0"] * 3 + ["7.2.22"] * 3 + ["10.0.13"] * 3 + ["11.1.3"] * 3
    assert "bullseye  5.2.0    seabios-1.14.0-2" in lines


def test_more_room_brings_names_then_sequences() -> None:
    assert "bullseye → sid" not in tables(all_pairs(), Style(80))
    assert "bullseye → sid       5.2.0 → 11.1.3" in tables(all_pairs(), Style(110))
    assert "1.14.0-2→1.17.0-1" not in tables(all_pairs(), Style(110))
    assert "1.14.0-2→1.17.0-1" in tables(all_pairs(), Style(120))


def test_one_qemu_with_two_firmwares_is_told_apart_by_name() -> None:
    same = record("bullseye sid"), record("bookworm sid")
    for role in ("source",):
        same[1]["cell"][role]["qemu"] = "5.2.0"
    text = tables(list(same), Style(40))
    assert "  bullseye → sid" in text
    assert "  bookworm → sid" in text


def test_order_of_arrival_does_not_show() -> None:
    records = [*all_pairs(), record("bullseye sid bookworm", "reread", scenario="chain")]
    expected = tables(records, Style())
    random.Random(1).shuffle(records)
    assert tables(records, Style()) == expected


def test_scenarios_have_tables_and_disks_headings_of_their_own() -> None:
    records = [record(), record(scenario="ping-pong"), record(disk="virtio", verdict="silent")]
    lines = tables(records, Style(80)).splitlines()
    titles = [line.partition(": the firmware of the last boot") for line in lines]
    assert [title for title, found, _ in titles if found] == ["migrate-reset", "ping-pong"]
    at = lines.index("pc-q35-5.2, ahci")
    assert lines[at + 1].endswith("✓ 1.14.0-2")
    assert lines[at + 2] == "pc-q35-5.2, virtio"
    assert lines[at + 3].endswith("✗ silent")
    assert "pc-q35-5.2" in tables([record()], Style(80)).splitlines()


def test_axes_are_told_where_they_are_not_at_their_defaults() -> None:
    defaults: dict[str, Any] = {
        "arch": "x86_64", "guest": "probe", "cpu": "", "smp": 1, "nic": "none"}
    old, new = record(), record(**defaults)
    assert tables([old], Style(80)) == tables([new], Style(80)) == tables([old, new], Style(80))
    assert markdown([old]) == markdown([new])
    linux = record(**defaults | {"guest": "linux", "cpu": "max", "smp": 2})
    lines = tables([linux], Style(80)).splitlines()
    assert "pc-q35-5.2, linux, cpu max, smp 2" in lines
    lines = tables([old, linux], Style(80)).splitlines()
    assert {"pc-q35-5.2", "pc-q35-5.2, linux, cpu max, smp 2"} <= set(lines)
    assert "| hosts | machine | disk | guest | cpu | smp | guest-owned |" in markdown([old, linux])
    assert "| bullseye → sid | pc-q35-5.2 | ahci | linux | cpu max | smp 2 | ✓ 1.14.0-2 |" in (
        markdown([old, linux]))


def test_a_chain_shows_all_its_hosts() -> None:
    text = tables([record("bullseye bookworm sid", policy) for policy in POLICIES], Style(100))
    assert "5.2.0 → 7.2.22 → 11.1.3" in text


def test_the_legend_explains_what_occurs_and_no_more() -> None:
    text = tables([record()], Style(80))
    assert "as the policy promises" in text
    assert "the matrix declares" not in text
    assert "silent" not in text
    text = tables([record(verdict="silent", known="why")], Style(80))
    assert "not even the firmware's banner" in text


def test_colour_is_an_addition() -> None:
    records = [record(), record(policy="stock", verdict="silent")]
    plain, coloured = tables(records, Style()), tables(records, Style(colour=True))
    assert "\x1b" not in plain
    assert "\x1b[" in coloured
    assert all(mark in plain for mark in ("✓", "✗"))


def test_ascii_where_the_terminal_has_no_more() -> None:
    text = tables([record(), record(policy="stock", verdict="silent")], Style(80, ascii=True))
    assert text.isascii()
    assert "+ 1.14.0-2" in text
    assert "x silent" in text


def test_the_environment_has_no_influence(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tables(all_pairs(), Style())
    for name, value in (("COLUMNS", "20"), ("FORCE_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
    assert tables(all_pairs(), Style()) == expected


@pytest.mark.parametrize("width", [60, 80])
def test_long_names_leave_hosts_and_verdicts_on_the_page(width: int) -> None:
    long = "head-of-a-branch-with-a-very-long-name-2026-11-25"
    records = [record(policy=policy) for policy in POLICIES]
    for number, one in enumerate(records):
        one["cell"]["source"] = one["cell"]["source"] | {"host": long}
        # Two hosts of one version: the versions alone do not tell them apart.
        one["cell"]["destination"] = one["cell"]["source"] | {"host": f"{long}-{number % 2}"}
    text = tables(records, Style(width=width))
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "pc-q35-5.2" in text
    assert text.count("✓ 1.14.0-2") == 3
    assert text.count("✓ ") == 6  # one is the legend's
    assert text.count("  head-of-a-branch") >= 4  # two moves, in two tables at least


def test_of_a_run_without_end_a_terminal_is_shown_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record can have a machine, a policy and hosts of its own, and there can be thousands."""
    records = [record(machine=f"m{number}", policy=policy)
               for number in range(9) for policy in ("stock", "reread", "mine")]
    every = tables(records, Style())
    assert "m8" in every
    assert "more cell" not in every
    monkeypatch.setattr(table, "MOST_ROWS", 5)
    monkeypatch.setattr(table, "MOST_POLICIES", 2)
    some = tables(records, Style())
    assert "m4" in some
    assert not {"m5", "mine"} & {*some.split()}
    assert "... and 17 more cells, in the records" in some
