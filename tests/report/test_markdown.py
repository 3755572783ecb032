"""Records as Markdown, and the page on which policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from bootmatrix.records.merged import merged
from bootmatrix.report.annotations import github, gitlab
from bootmatrix.report.junit import junit
from bootmatrix.report.markdown import markdown, which_policy
from helpers.records import POLICIES, all_pairs, failing, record

HERE = Path(__file__).parents[2]


def test_formats_tell_the_failure_and_cannot_be_broken_out_of() -> None:
    bad = failing() | {"reason": "silent: a|b <script> ::error:: ##[x %\x1b]]>\x00"}
    records = [*all_pairs(), bad]
    text = markdown(records)
    assert "<script>" not in text
    assert "a\\|b" in text
    assert f"--cell {bad['cell']['id']}" in text
    (line,) = github(records).splitlines()
    assert line.startswith("::error file=matrices/m.yaml,title=bullseye-to-sid%2C")
    assert "##[" not in line
    (finding,) = json.loads(gitlab(records))
    assert finding["severity"] == "critical"
    assert len(finding["fingerprint"]) == 64
    suite = Xml.fromstring(junit(records))[0]
    assert suite.get("failures") == "1"
    assert suite.get("tests") == str(len(records))
    assert junit(merged([record(), record(verdict="silent")])).count("<failure") == 1


def skeleton(page: str) -> list[str]:
    """The page without what is counted."""
    return [line for line in page.splitlines()
            if not line.startswith(("| `", "- `", "Counted over"))]


def test_the_page_on_policies_is_as_it_is_generated() -> None:
    page = (HERE / "docs" / "which-policy.md").read_text()
    modes = [record("trixie sid", policy, migration="postcopy") for policy in POLICIES]
    tpms = [with_tpm(scenario, "stock", "unlocked") for scenario in ("migrate-reset", "move")]
    entries = [with_entry(scenario, "stock", "default") for scenario in (
        "boot-entry-migrate-reset", "boot-entry-move", "boot-next-migrate-reset")]
    records = [*all_pairs(), failing(), *modes, *tpms, *entries]
    assert skeleton(page) == skeleton(which_policy(records))
    assert "0 cells" not in page


def with_tpm(scenario: str, policy: str, secret: str) -> Any:
    told = record("trixie sid", policy, scenario=scenario, tpm="crb")
    for boot, found in zip(told["boots"], ("sealed", secret), strict=True):
        boot["tpm"] = {"pcrs": {}, "secret": found}
    return told


def test_guests_with_a_tpm_have_a_table_of_their_own() -> None:
    page = which_policy([
        *all_pairs(), with_tpm("migrate-reset", "stock", "unlocked"),
        with_tpm("migrate-reset", "machine-owned", "locked-out"),
        with_tpm("move", "stock", "locked-out")])
    rows = page[page.index("## Disks that stay locked"):].splitlines()
    assert rows[4:8] == [
        "| policy | `migrate-reset` | `move` |", "| --- | --- | --- |",
        "| `stock` | 0 of 1 | 1 of 1 |", "| `machine-owned` | 1 of 1 |  |"]
    assert page.count("| stock") == which_policy(all_pairs()).count("| stock")
    assert "stay locked" not in which_policy(all_pairs())


def with_entry(scenario: str, policy: str, booted_by: str) -> Any:
    told: Any = record("trixie sid", policy, scenario=scenario)
    told["steps"] = [{"step": "start", "outcome": "ok", "host": "source"},
                     {"step": "write-boot-entry", "outcome": "ok", "host": "source"},
                     {"step": "reset", "outcome": "ok", "host": "source"}]
    for boot, by in zip(told["boots"], ("default", booted_by), strict=True):
        boot["program"] = {"path": "x", "booted_by": by, "expected": "boot-order"}
    return told


def test_guests_that_write_a_boot_entry_have_a_table_of_their_own() -> None:
    page = which_policy([
        *all_pairs(), with_entry("boot-entry-move", "stock", "default"),
        with_entry("boot-entry-move", "guest-owned", "boot-order")])
    rows = page[page.index("## Boot entries that are not used"):].splitlines()
    assert rows[4:8] == [
        "| policy | `boot-entry-move` |", "| --- | --- |", "| `stock` | 1 of 1 |",
        "| `guest-owned` | 0 of 1 |"]
    assert page.count("| stock") == which_policy(all_pairs()).count("| stock")
    assert "not used" not in which_policy(all_pairs())


def test_modes_of_migration_have_a_table_of_their_own() -> None:
    modes = [record("trixie sid", policy, mode_verdict, migration=mode)
             for mode in ("mapped-ram", "postcopy") for policy, mode_verdict in (
                 ("stock", "pass"), ("machine-owned", "silent"))]
    page = which_policy([*all_pairs(), *modes, record("sid trixie", migration="a|b")])
    assert page.count("| stock") == which_policy(all_pairs()).count("| stock")
    table = [line for line in page.splitlines() if line.startswith("| `") and " → " in line]
    assert [line[:40] for line in table] == [
        "| `postcopy` | 10.0.13 → 11.1.3 | ✓ 1.16", "| `mapped-ram` | 10.0.13 → 11.1.3 | ✓ 1."]
    assert all("silent" in line for line in table)
    assert "| a\\|b | 11.1.3 → 10.0.13 |" in page
    assert "By mode" not in which_policy(all_pairs())
    renamed = record("sid trixie", migration="savevm")
    renamed["cell"]["source"]["host"] = "upgraded"
    named = which_policy([*modes, renamed])
    assert "| `savevm` | 11.1.3 (upgraded) → 10.0.13 |" in named
    assert "| `postcopy` | 10.0.13 → 11.1.3 (sid) |" in named


def test_what_passes_beside_a_failure_and_what_failures_share() -> None:
    bad = [record(policy=policy, verdict="silent", reason="nothing") for policy in ("stock", "a|b")]
    text = markdown([*bad, record("trixie sid", "stock"), record("trixie sid", "a|b")])
    assert text.count("| silent: nothing; passes from trixie |") == 2
    assert ("- in all 2 failed (silent) and in no passed cell: source.firmware "
            "seabios-1.14.0-2") in text.splitlines()
    shared = markdown([*bad, record("bullseye trixie", "stock"), record("trixie sid", "stock")])
    assert "source.firmware seabios-1.14.0-2 and destination.firmware seabios-1.17.0-1" in shared


def test_what_the_machine_did_stands_behind_the_reason() -> None:
    loops = record(verdict="silent", reason="nothing") | {"black_box": "loops in 0x10"}
    assert "| silent: nothing; black box: loops in 0x10 |" in markdown([loops])


def test_what_is_declared_is_told_with_its_link() -> None:
    known = record(verdict="silent", reason="x", known="it hangs") | {
        "known_link": "https://bugs.example/1"}
    said = markdown([known, record(policy="stock", known="it is late"), record(policy="reread")])
    assert "- known, 1 cell: it hangs (https:&#47;/bugs.example/1)" in said
    assert "- no longer, 1 cell: it is late" in said
