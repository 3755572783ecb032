"""Offers and differences as lines and JSON: what a person reads of a contract."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from bootmatrix.fw_cfg.contract import ChangeKind, Difference, Impact, Item
from bootmatrix.fw_cfg.report import (
    SCHEMA,
    Column,
    comparison_json,
    comparison_lines,
    offer_json,
    offer_lines,
    title,
)
from helpers.offers import BOOT_WAIT, OLD

GONE = Difference("etc/e820", ChangeKind.VANISHED, Impact.BREAKS, ("it was 20 bytes",))
LONG = Difference("etc/acpi/tables", ChangeKind.CHANGED, Impact.CONTENT,
                  tuple(f"line {number}" for number in range(20)))
MORE = Difference("genroms/kvmvapic.bin", ChangeKind.APPEARED, Impact.HARMLESS, ())


def test_the_title_counts_what_can_be_found() -> None:
    assert title(OLD) == "old (QEMU 5.2.0), pc-q35-5.2, 128 MiB: 7 files, 4 fixed items"


def test_each_item_is_a_line_and_what_reads_as_zeros_is_named_once() -> None:
    lines = list(offer_lines(OLD, verbose=False))
    assert sum(line.startswith("0x") for line in lines) == 7 + 4
    assert next(line for line in lines if "signature" in line).split()[:3] == [
        "0x0000", "signature", "4"]
    assert lines[-1] == "1 fixed item read as zeros, as one does that is not there: boot_menu"
    assert "writable" in next(line for line in lines if "requested-features" in line)


def test_a_malformed_item_says_so_and_the_rest_is_told() -> None:
    broken = replace(OLD, items=tuple(
        replace(item, data=b"\1") if item.name == "etc/e820" else item for item in OLD.items))
    assert len(list(offer_lines(broken, verbose=True))) > len(OLD.items)
    line = next(line for line in offer_lines(broken, verbose=True) if "etc/e820" in line)
    assert "malformed: " in line
    rows = {row["name"]: row for row in offer_json(broken)["items"]}
    assert rows["etc/e820"]["decoded"] is None
    assert rows["etc/e820"]["malformed"]
    assert rows["etc/boot-fail-wait"]["malformed"] is None


def test_long_content_is_cut_and_verbose_has_all_of_it() -> None:
    files = replace(OLD, items=(*OLD.items, Item(0x40, "bootorder", b"/x" * 90 + b"\0")))
    short = next(line for line in offer_lines(files, verbose=False) if "bootorder" in line)
    assert short.endswith("…")
    assert len(list(offer_lines(files, verbose=True))) > len(list(offer_lines(files, False)))


def test_json_has_every_item() -> None:
    row = offer_json(OLD)
    assert json.loads(json.dumps(row)) == row
    assert (row["schema"], row["qemu"], row["memory_mib"]) == (SCHEMA, "old", 128)
    assert [item["name"] for item in row["items"]] == [item.name for item in OLD.items]
    wait = next(item for item in row["items"] if item["name"] == BOOT_WAIT.name)
    assert (wait["size"], wait["sha256"]) == (4, BOOT_WAIT.sha256)


COLUMNS = [
    Column("old", "5.2.0", (), is_reference=True),
    Column("new", "11.1.3", (MORE, LONG, GONE)),
    Column("same", "7.2.22", ()),
    Column("none", "2.0.0", None),
]


def test_a_comparison_has_the_worst_first() -> None:
    lines = list(comparison_lines(OLD, COLUMNS, None, verbose=False))
    assert lines[0] == "reference: " + title(OLD)
    header = next(line.split() for line in lines if line.startswith("ITEM"))
    assert header == ["ITEM", "old", "new", "same", "none"]
    row = next(line for line in lines if line.startswith("etc/e820"))
    assert row.split() == ["etc/e820", "same", "breaks", "same", "no", "such", "machine"]
    assert "new (QEMU 11.1.3): 1 breaks, 1 content, 1 harmless; an old reader BREAKS" in lines
    assert "same (QEMU 7.2.22): the same" in lines
    assert "none (QEMU 2.0.0): has no machine type pc-q35-5.2" in lines
    told = [line.split()[0] for line in lines if ": vanished" in line or ": changed" in line
            or ": appeared" in line]
    assert told == ["breaks", "content", "harmless"]


def test_details_are_bounded_unless_asked_for() -> None:
    def details(verbose: bool) -> list[str]:
        return [line.strip() for line in comparison_lines(OLD, COLUMNS, None, verbose)
                if line.strip().startswith(("line ", "and "))]

    assert len(details(True)) == 20
    assert details(False)[-1] == "and 9 more (-v shows them)"
    assert len(details(False)) == 12


def test_what_only_differs_in_content_breaks_nobody() -> None:
    told = list(comparison_lines(OLD, [Column("new", "7", (LONG,))], Path("base.json"), False))
    assert told[0].startswith("reference: base.json, old (QEMU 5.2.0)")
    assert "new (QEMU 7): 1 content; an old reader finds what it found" in told


def test_a_comparison_as_json() -> None:
    row = comparison_json(OLD, COLUMNS, Path("base.json"))
    assert json.loads(json.dumps(row)) == row
    assert row["reference"] == {"qemu": "old", "version": "5.2.0", "baseline": "base.json"}
    assert [column["machine"] for column in row["columns"]] == [True, True, True, False]
    assert [column["worst"] for column in row["columns"]] == [None, "breaks", None, None]
    assert row["columns"][1]["differences"][2] == {
        "item": "etc/e820", "change": "vanished", "impact": "breaks",
        "details": ["it was 20 bytes"]}
