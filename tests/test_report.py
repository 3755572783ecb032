"""Records to text: the table, what stands under it, one failure, the progress line."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.model import Verdict
from harness.records import RecordWriter, read_records
from harness.report.compare import baseline
from harness.report.decision import decide
from harness.report.failure import failure
from harness.report.junit import junit
from harness.report.markdown import markdown
from harness.report.outcome import Outcome, outcome_of
from harness.report.progress import Progress
from harness.report.summary import summary
from harness.report.table import MARKS, Style, entry, tables
from harness.report.words import duration, natural, short_firmware

HOSTS = {
    "bullseye": ("5.2.0", "seabios-1.14.0-2"),
    "bookworm": ("7.2.22", "seabios-1.16.2-1"),
    "trixie": ("10.0.13", "seabios-1.16.3-2"),
    "sid": ("11.1.3", "seabios-1.17.0-1"),
}
POLICIES = ("stock", "guest-owned", "guest-owned-versioned", "machine-owned", "reread")
ROLES = ("source", "destination", "host-3")


def record(hosts: str = "bullseye sid", policy: str = "guest-owned", verdict: str = "pass",
           known: str | None = None, reason: str = "", **cell: Any) -> dict[str, Any]:
    names = hosts.split()
    values = {"machine": "pc-q35-5.2", "scenario": "migrate-reset", "disk": "ahci",
              "accel": "tcg", "policy": policy} | cell
    firmware = [HOSTS[name][1] for name in names]
    last = firmware[-1] if policy in ("machine-owned", "reread") else firmware[0]
    if verdict == "wrong-firmware":
        last = "sha256:0123456789abcdef"
    seen = None if verdict == "silent" else last
    described: dict[str, Any] = {
        "id": ",".join(("-to-".join(names), values["machine"], policy, values["scenario"]))}
    for role, name in zip(ROLES, names, strict=False):
        described[role] = {"host": name, "qemu": HOSTS[name][0], "firmware": HOSTS[name][1],
                           "build": f"debian-{name}"}
    return {
        "schema": 1, "cell": described | values, "verdict": verdict, "reason": reason,
        "known": known, "matrix": "matrices/m.yaml", "seconds": 0.4, "artifacts": "cells/x",
        "boots": [
            {"n": 1, "step": "start", "host": "source", "expected": firmware[0],
             "console": firmware[0], "rom": firmware[0], "up": True, "seconds": 0.041},
            {"n": 2, "step": "reset", "host": "destination", "expected": last,
             "console": seen, "rom": last, "up": verdict == "pass", "seconds": 3.0}],
    }


def all_pairs() -> list[dict[str, Any]]:
    return [record(f"{a} {b}", policy, machine=machine) for a in HOSTS for b in HOSTS if a != b
            for policy in POLICIES for machine in ("pc-q35-5.2", "pc-i440fx-5.2")]


def whole(records: list[dict[str, Any]], **style: Any) -> str:
    return summary(records, Style(**style), seconds=72.0, artifacts="runs/x")


@pytest.mark.parametrize(("verdict", "known", "state", "outcome"), [
    ("pass", None, None, Outcome.PASSED),
    ("pass", "why", "fixed", Outcome.FIXED),
    ("silent", "why", "known", Outcome.KNOWN),
    ("silent", "why", "changed", Outcome.FAILED),
    ("silent", None, None, Outcome.FAILED),
    ("wrong-firmware", None, None, Outcome.FAILED),
    ("witness-conflict", None, None, Outcome.FAILED),
    ("unsupported", None, None, Outcome.UNSUPPORTED),
    ("error", None, None, Outcome.ERROR),
])
def test_outcomes(verdict: str, known: str | None, state: str | None, outcome: Outcome) -> None:
    told = {"verdict": verdict, "known": known} | ({"known_state": state} if state else {})
    assert outcome_of(told) is outcome


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
    expected = whole(records)
    random.Random(1).shuffle(records)
    assert whole(records) == expected


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


def test_other_forms_leave_out_what_goes_without_saying() -> None:
    plain = record(arch="x86_64", guest="probe", cpu="", smp=1, nic="none")
    assert junit([plain]) == junit([record()])
    assert '<property name="smp" value="2" />' in junit([record(smp=2)])
    assert baseline([plain]) == baseline([record()])
    assert baseline([record(smp=2)])[0]["cell"]["smp"] == 2
    # A reset is compared with a restart on equal cells, whichever bootmatrix ran them.
    restart = record(scenario="migrate-restart")
    assert [str(row.same) for row in decide([plain, restart])] == ["1 of 1"]
    assert [str(row.same) for row in decide([record(smp=2), restart])] == ["not tried"]


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
    plain, coloured = whole(records), whole(records, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[" in coloured
    assert all(mark in plain for mark in ("✓", "✗"))


def test_ascii_where_the_terminal_has_no_more() -> None:
    text = tables([record(), record(policy="stock", verdict="silent")], Style(80, ascii=True))
    assert text.isascii()
    assert "+ 1.14.0-2" in text
    assert "x silent" in text


def test_the_environment_has_no_influence(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = whole(all_pairs())
    for name, value in (("COLUMNS", "20"), ("FORCE_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
    assert whole(all_pairs()) == expected


def test_the_summary_counts_and_tells_how_to_go_on() -> None:
    records = [
        record(policy="stock", verdict="silent", reason="boot 2: nothing on the console"),
        record(policy="reread", verdict="blocked", reason="refused"),
        record(verdict="silent", known="an old bug"),
        record("bookworm sid", verdict="silent", known="an old bug"),
        record("trixie sid", known="was broken"),
        record("sid trixie"),
        record("sid bookworm", verdict="unsupported", reason="no such machine"),
        record("sid bullseye", verdict="error", reason="the monitor broke off"),
    ]
    lines = whole(records, width=120).splitlines()
    assert lines[-2:] == [
        "artifacts: runs/x",
        "one cell again: bootmatrix run matrices/m.yaml "
        "--cell bullseye-to-sid,pc-q35-5.2,reread,migrate-reset"]
    assert ("8 cells: 1 passed, 1 fixed, 2 known (silent), 1 unsupported, 2 failed (1 blocked, "
            "1 silent), 1 error") in lines
    assert "in 1 min 12 s, 7 cells a minute" in lines
    assert "~ known, 2 cells: an old bug" in lines
    assert "! no longer, 1 cell: was broken" in lines
    at = lines.index("✗ silent: boot 2: nothing on the console")
    assert lines[at + 1] == "  bullseye-to-sid,pc-q35-5.2,stock,migrate-reset"


def test_the_same_failure_is_told_once() -> None:
    records = [record(f"{a} {b}", "stock", "silent", reason="nothing", machine=machine)
               for a in HOSTS for b in HOSTS if a != b for machine in ("pc-a", "pc-b")]
    text = whole(records, width=100)
    assert text.count("✗ silent: nothing") == 1
    assert "... and 12 more" in text


def test_a_failure_text() -> None:
    text = failure(record(verdict="silent", reason="boot 2 (reset): nothing"),
                   artifacts="runs/x/cells/y", tail=["one", "two"])
    assert text.splitlines() == [
        "silent: boot 2 (reset): nothing",
        "",
        "boot  step   host         expected          console           rom               guest up",
        "1     start  source       seabios-1.14.0-2  seabios-1.14.0-2  seabios-1.14.0-2  "
        "yes, 0.041 s",
        "2     reset  destination  seabios-1.14.0-2  -                 seabios-1.14.0-2  no, 3.0 s",
        "",
        "the console's last lines:",
        "    one",
        "    two",
        "",
        "artifacts: runs/x/cells/y",
        "again: bootmatrix run matrices/m.yaml "
        "--cell bullseye-to-sid,pc-q35-5.2,guest-owned,migrate-reset",
    ]


def test_a_rig_error_shows_command_and_output() -> None:
    broken = record(verdict="error", reason="QEMU ended") | {
        "error": "QEMU ended\nexit status: 1\ncommand: qemu -x", "boots": []}
    lines = failure(broken, artifacts="runs/x").splitlines()
    assert lines[:4] == ["the rig broke; nothing was learnt about the firmware:", "QEMU ended",
                         "exit status: 1", "command: qemu -x"]


def test_progress() -> None:
    progress = Progress(20)
    assert progress.line() == "cells: 0/20, 0 failed"
    assert [progress.add(Outcome.PASSED) for _ in range(4)] == [False, True, False, True]
    progress.add(Outcome.KNOWN)
    progress.add(Outcome.ERROR)
    assert progress.line() == "cells: 6/20, 0 failed, 1 rig error, 1 known"
    assert Progress(0).line() == "cells: 0/0, 0 failed"


def test_words() -> None:
    assert [duration(s) for s in (0.0412, 3.4, 59.94, 59.96, 125, 3720)] == [
        "0.041 s", "3.4 s", "59.9 s", "1 min 00 s", "2 min 05 s", "1 h 02 min"]
    assert sorted(["11.1", "5.2", "10.0"], key=natural) == ["5.2", "10.0", "11.1"]
    assert short_firmware("seabios-1.14.0-2") == "1.14.0-2"
    assert short_firmware("ovmf-4m-2022.11-6+deb12u2") == "ovmf-4m-2022.11-6"
    assert len(short_firmware("a-firmware-with-a-very-long-name")) == 20


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "records.jsonl"
    with RecordWriter(path) as writer:
        assert not path.exists()
        writer.write(record())
        assert len(list(read_records(path))) == 1  # at once, not when the file is closed
        writer.write(record(policy="stock"))
    assert list(read_records(path)) == [record(), record(policy="stock")]


@pytest.mark.parametrize("line", ["{", "[]", '{"verdict": "pass"}'])
def test_what_is_no_record_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "records.jsonl"
    with RecordWriter(path) as writer:
        writer.write(record())
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"records\.jsonl:2: no "):
        list(read_records(path))
