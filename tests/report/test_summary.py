"""What stands under the table."""

from __future__ import annotations

from typing import Any

from bootmatrix.report.markdown import markdown
from bootmatrix.report.summary import summary, unfinished
from bootmatrix.report.table import Style
from helpers.records import HOSTS, all_pairs, record


def whole(records: list[Any], **style: Any) -> str:
    return summary(records, Style(**style), seconds=72.0, artifacts="runs/x", ran=len(records))


def test_reasons_of_cells_that_cannot_be_run_are_told_in_groups() -> None:
    cannot = [record(verdict="unsupported", reason=reason, machine=f"pc-q35-{number}")
              for number, reason in enumerate(["QEMU 5.2.0 has no such machine"] * 3 + ["no disk"])]
    text = summary(cannot, Style(), seconds=1.0, artifacts="runs/x")
    assert "· n/a, 3 cells: QEMU 5.2.0 has no such machine\n· n/a, 1 cell: no disk\n" in text
    assert "in 1.0 s\n" in text, "none was run"
    for seconds, told in ((200.0, "in 3 min 20 s, 1 cell a minute\n"), (700.0, "11 min 40 s\n")):
        assert told in summary(cannot, Style(), seconds=seconds, artifacts="runs/x", ran=4)
    assert markdown(cannot).startswith("### · Which firmware ran?")
    assert markdown([*cannot, record()]).startswith("### ✓ Which firmware ran?")
    assert "n/a, 3 cells: QEMU 5.2.0 has no such machine" in markdown(cannot)
    many = [record(verdict="unsupported", reason=f"why {number}", machine=f"pc-q35-{number}")
            for number in range(20)]
    assert "· n/a, 8 cells: 8 other reasons, in the records" in summary(
        many, Style(), seconds=1.0, artifacts="runs/x")


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


def test_failures_that_differ_in_times_are_told_once() -> None:
    records = [record(f"{source} sid", verdict="late", reason=f"boot 2: up after {seconds} s")
               for source, seconds in (("trixie", 32.1), ("bookworm", 32.4))]
    assert ("✗ late: boot 2: up after 32.4 s (so the first of them)\n"
            "  bookworm-to-sid,pc-q35-5.2,guest-owned,migrate-reset\n"
            "  trixie-to-sid,pc-q35-5.2,guest-owned,migrate-reset\n") in whole(records, width=120)
    assert "the first" not in whole(records[:1])


def test_the_same_failure_is_told_once() -> None:
    records = [record(f"{a} {b}", "stock", "silent", reason="nothing", machine=machine)
               for a in HOSTS for b in HOSTS if a != b for machine in ("pc-a", "pc-b")]
    text = whole(records, width=100)
    assert text.count("✗ silent: nothing") == 1
    assert "... and 12 more" in text


def test_a_mismatch_of_layouts_is_told_of_cells_that_do_not_say_it() -> None:
    wrong = "the code is of the 4 MiB layout, the variables of the 2 MiB layout"
    green, known = record() | {"layout_mismatch": wrong}, record(policy="stock", known="so it is")
    red = record(policy="reread", verdict="wrong-variables", reason=f"boot 2: lost; {wrong}")
    cells = [green, known | {"layout_mismatch": wrong}, red | {"layout_mismatch": wrong}]
    told = f"code and variables do not fit, 2 cells: {wrong}"
    assert whole(cells, width=120).splitlines().count(told) == 1
    assert f"- {told}" in markdown(cells).splitlines()
    assert "do not fit" not in whole([cells[2], record()], width=120)


def test_what_the_machine_did_is_told_once() -> None:
    loops, halted = (record("bullseye sid", policy, "silent", reason="nothing") | {"black_box": did}
                     for policy, did in (("stock", "loops in 0x10"), ("guest-owned", "halted")))
    lines = [line.strip() for line in whole([loops], width=100).splitlines()]
    assert lines[lines.index("✗ silent: nothing") + 1] == "black box: loops in 0x10"
    assert "black box of one of them: halted" in whole([loops, halted], width=100)


def test_what_passes_beside_a_failure_and_what_failures_share() -> None:
    fails = {"verdict": "silent", "reason": "nothing came"}
    cells = [one | (fails if one["cell"]["destination"]["host"] == "sid" else {})
             for one in all_pairs()]
    lines = whole(cells, width=120).splitlines()
    assert "  bookworm-to-sid,pc-q35-5.2,stock,migrate-reset: passes to trixie" in lines
    shared = ("in all 30 failed (silent) and in no passed cell: "
              "destination.firmware seabios-1.17.0-1")
    assert lines[lines.index("120 cells: 90 passed, 30 failed (silent)") + 1] == shared


def test_order_of_arrival_does_not_show() -> None:
    records = [*all_pairs(), record(verdict="silent"), record("sid trixie", verdict="silent")]
    expected = whole(records)
    assert whole(list(reversed(records))) == expected


def test_a_cell_that_was_run_once_more_is_named() -> None:
    again = "step 1 was missed; when waited for: up within the usual time"
    one = record() | {"run_again": again}
    told = ("1 cell run once more: a step was missed, and then it was not; that counts: "
            f"{one['cell']['id']}")
    assert told in whole([one, record("sid trixie")], width=300)
    assert "run once more: a step was missed" in markdown([one])
    many = [record(machine=f"pc-{number}") | {"run_again": again} for number in range(5)]
    assert "5 cells run once more" in whole(many, width=300)
    assert " and 2 more" in whole(many, width=400)
    assert "once more" not in whole([record()])


def test_what_is_shown_of_a_reason_is_bounded() -> None:
    """rich works with the square of it, and a record can have megabytes."""
    long = record(verdict="silent", reason="x" * 3_000_000)
    text = whole([long, long | {"known": "y" * 3_000_000}], width=100)
    assert len(text) < 50_000


def test_runs_of_what_is_repeated_are_not_cells() -> None:
    style = Style(width=80, colour=False, ascii=False)
    told = summary([record() | {"repeats": 3}], style, seconds=60.0, artifacts="x", ran=3)
    assert "1 cell: 1 passed\nin 1 min 00 s, 3 runs a minute\n" in told
    nodeids = {"m.yaml::a": False, "m.yaml::a#2": False, "m.yaml::b#2": False, "m.yaml::b": True}
    lines = unfinished(nodeids, "bootmatrix", "out", ["-n", "2"], ["--durations", "3"],
                       repeated=True).splitlines()
    assert lines == [
        "ended without a record: 1 run of 1 cell", "  b", "not run: 3 runs of 2 cells",
        "  a", "  a#2", "  b#2",
        "go on: bootmatrix run m.yaml -n 2 --resume out -- --durations 3"]
    assert unfinished({"m.yaml::a": False}, "bootmatrix", None) == "not run: 1 cell\n  a"
