"""Boards that several people share: labgrid's coordinator and exporter on loopback, and ser2net."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootmatrix.cli.main import main
from helpers.benches import PROGRAM, VirtualBoard, virtual_board
from helpers.coordinators import Coordinator, coordinator, exporter

pytestmark = pytest.mark.slow

UP = "seabios-1.16.2-1"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[VirtualBoard]:
    """A board of this test's."""
    with virtual_board(tmp_path) as there:
        yield there


@pytest.fixture
def place(board: VirtualBoard, tmp_path: Path) -> Iterator[Coordinator]:
    """The board's serial port is that of the place ``shared``, by RFC 2217."""
    with coordinator(tmp_path / "coordinator") as at, \
            exporter(at, tmp_path / "coordinator", board.directory / "tty"):
        at.client("-p", "shared", "create")
        at.client("-p", "shared", "add-match", "bench/board/*")
        board.describe(resources={"RawSerialPort": None, "RemotePlace": {"name": "shared"}},
                       top={"options": {"coordinator_address": at.address}})
        yield at


def test_a_place_is_held_while_a_cell_uses_it(
    board: VirtualBoard, place: Coordinator, tmp_path: Path
) -> None:
    # Its power is switched by whom sees then who holds the place.
    seen = tmp_path / "seen"
    shown = (f"{Path(sys.executable).parent}/labgrid-client -x {place.address} -p shared show "
             f">>{seen}")
    script = tmp_path / "on.sh"
    script.write_text(f"{shown}\nexec {sys.executable} {PROGRAM} power {board.directory} on\n")
    switch = f"{sys.executable} {PROGRAM} power {board.directory} off"
    board.describe(
        resources={"RawSerialPort": None, "RemotePlace": {"name": "shared"}},
        drivers={"ExternalPowerDriver": {"cmd_on": f"sh {script}", "cmd_off": switch}},
        top={"options": {"coordinator_address": place.address}})
    record = board.run(tmp_path, "start", {"reset": {"by": "cf9"}})
    assert record["verdict"] == "pass", record["reason"]
    assert record["bench"]["place"] == "shared"
    assert "acquired: None" not in seen.read_text()
    assert "acquired: None" in place.client("-p", "shared", "show")


def test_a_place_that_somebody_else_holds_is_waited_for(
    board: VirtualBoard, place: Coordinator, tmp_path: Path
) -> None:
    place.client("-p", "shared", "acquire", user="alice")
    record = board.run(tmp_path, "start", patience=1.0, boot_timeout=1.0)
    assert record["verdict"] == "error"
    assert record["reason"].startswith("the place shared is held by ")
    assert record["reason"].endswith("/alice")
    assert board.seat.mark == "", "the bench is in order"
    assert "/alice" in place.client("-p", "shared", "show")
    # Who has the patience waits for it.
    leaves = threading.Timer(
        3.0, place.client, ("-p", "shared", "release"), {"user": "alice"})
    leaves.start()
    record = board.run(tmp_path, "start", patience=60.0)
    leaves.join()
    assert record["verdict"] == "pass", record["reason"]


def test_what_a_killed_run_held_is_ours(
    board: VirtualBoard, place: Coordinator, tmp_path: Path
) -> None:
    place.client("-p", "shared", "acquire")
    record = board.run(tmp_path, "start")
    assert record["verdict"] == "pass", record["reason"]
    assert "acquired: None" in place.client("-p", "shared", "show")


def test_a_board_that_is_at_fault_is_marked_for_all_who_share_it(
    board: VirtualBoard, place: Coordinator, tmp_path: Path
) -> None:
    board.fault(dead=True)
    record = board.run(tmp_path, "start", patience=1.0, boot_timeout=1.0)
    assert record["verdict"] == "error"
    assert "comment: bootmatrix: the board is dead" in place.client("-p", "shared", "show")
    board.fault()
    assert board.run(tmp_path, "start")["verdict"] == "pass"
    assert "bootmatrix" not in place.client("-p", "shared", "show")


def test_a_coordinator_that_is_not_there(board: VirtualBoard, tmp_path: Path) -> None:
    board.describe(resources={"RawSerialPort": None, "RemotePlace": {"name": "shared"}},
                   top={"options": {"coordinator_address": "127.0.0.1:9"}})
    record = board.run(tmp_path, "start", patience=1.0, boot_timeout=1.0)
    assert record["verdict"] == "error"
    assert record["reason"].startswith("the coordinator at 127.0.0.1:9 does not answer")


# ---- one cell at a time ---------------------------------------------------------------------


def test_two_runs_and_their_workers_use_a_board_one_after_the_other(
    board: VirtualBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board's switch says when it is used: never twice at once."""
    log = tmp_path / "switched"
    for word in ("on", "off"):
        (tmp_path / f"{word}.sh").write_text(
            f"echo {word} >>{log}\n"
            f"exec {sys.executable} {PROGRAM} power {board.directory} {word}\n")
    board.describe(drivers={"ExternalPowerDriver": {
        "cmd_on": f"sh {tmp_path}/on.sh", "cmd_off": f"sh {tmp_path}/off.sh"}})
    file = tmp_path / "mine.yaml"
    file.write_text(board.matrix("start", policy="[stock, guest-owned]"))
    runs = [subprocess.Popen([sys.executable, "-m", "bootmatrix", "run", file, "-n", workers,
                              "--run-dir", tmp_path / f"run-{workers}"], stdout=subprocess.PIPE)
            for workers in ("1", "2")]
    for run in runs:
        printed, _ = run.communicate()
        assert run.returncode == 0, printed.decode()
    words = log.read_text().split()
    assert words == ["off", "on", "off"] * 4, words


def test_cells_of_two_boards_and_of_a_qemu_are_in_one_run(
    board: VirtualBoard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with virtual_board(tmp_path, "other") as other:
        file = tmp_path / "mine.yaml"
        file.write_text(
            "schema: 1\nhosts:\n"
            f"  board: {{board: {{env: {board.env}}}, firmware: seabios-1.16.2}}\n"
            f"  other: {{board: {{env: {other.env}}}, firmware: seabios-1.17.0}}\n"
            "  sid: {qemu: debian-sid}\n"
            "axes: {source: [board, other, sid], machine: 'newest-common:pc-i440fx', "
            "scenario: reset, policy: guest-owned}\n")
        assert main(["run", str(file), "--run-dir", str(tmp_path / "run"), "--json",
                     str(tmp_path / "records.jsonl")]) == 0
        records = [json.loads(line) for line in
                   (tmp_path / "records.jsonl").read_text().splitlines()]
        found = {record["cell"]["source"]["host"]: (
            record["engine"], record["boots"][-1]["console"], record["cell"]["machine"])
            for record in records}
        assert found["board"] == ("bench", UP, "board")
        assert found["other"] == ("bench", "seabios-1.17.0-1", "board")
        assert found["sid"][1:] == ("seabios-1.17.0-1", "pc-i440fx-11.1")
        printed = capsys.readouterr().out
        assert "board-main" in printed
        assert "3 cells: 3 passed" in printed
