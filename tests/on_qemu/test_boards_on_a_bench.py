"""Cells on virtual boards: real labgrid, real flashrom, and a QEMU that nobody else speaks to."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import cache_home
from bootmatrix.machines.bench.seat import Seat
from helpers.benches import NEW, OLD, VirtualBoard, combined, image, virtual_board
from helpers.leavings import wait_for

UP = "seabios-1.16.2-1"
UPGRADED = "seabios-1.17.0-1"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[VirtualBoard]:
    """A board of this test's."""
    with virtual_board(tmp_path) as there:
        yield there


def test_its_chip_gets_the_firmware_and_the_console_names_it(
    board: VirtualBoard, tmp_path: Path
) -> None:
    board.describe(tools={})  # flashrom as it is
    record = board.run(tmp_path, "start", {"reset": {"by": "cf9"}}, {"reset": {"by": "keyboard"}},
                       {"reset": {"by": "triple-fault"}}, "reset", "shutdown", "start")
    assert (record["verdict"], record["engine"]) == ("pass", "bench"), record["reason"]
    assert [boot["console"] for boot in record["boots"]] == [UP] * 6
    assert {boot["rom"] for boot in record["boots"]} == {UP}, "the chip is read back"
    assert record["cell"]["source"]["qemu"] == "board-main"
    assert board.chip.read_bytes() == image(OLD)
    assert board.power("get") == "off"
    assert "SeaBIOS (version 1.16.2" in (
        tmp_path / "run" / record["artifacts"] / "1-source" / "console.log").read_text()


@pytest.mark.parametrize("policy", [
    "stock", *(pytest.param(policy, marks=pytest.mark.thorough)
               for policy in ("guest-owned", "reread"))])
def test_an_upgrade_is_written_by_the_programmer_and_runs_from_the_next_reset_on(
    board: VirtualBoard, tmp_path: Path, policy: str
) -> None:
    record = board.run(tmp_path, "start", "upgrade-host", {"reset": {"by": "cf9"}}, policy=policy)
    assert record["verdict"] == "pass", record["reason"]
    assert [boot["console"] for boot in record["boots"]] == [UP, UPGRADED]


@pytest.mark.thorough
def test_machine_owned_is_a_bench_that_programs_before_each_start(
    board: VirtualBoard, tmp_path: Path
) -> None:
    record = board.run(tmp_path, "start", "upgrade-host", "reset", "shutdown", "start",
                       policy="machine-owned")
    assert record["verdict"] == "pass", record["reason"]
    assert [boot["console"] for boot in record["boots"]] == [UP, UP, UPGRADED]


@pytest.mark.slow
def test_the_users_own_upgrade_waits_for_a_programmer_that_needs_the_power_off(
    board: VirtualBoard, tmp_path: Path
) -> None:
    board.describe(options={"bootmatrix-live-flash": None})
    record = board.run(tmp_path, "start", "upgrade-nvram", "reset")
    assert record["verdict"] == "pass", record["reason"]
    assert [boot["console"] for boot in record["boots"]] == [UP, UPGRADED]
    late = board.run(tmp_path, "start", "upgrade-nvram", {"reset": {"by": "cf9"}})
    assert (late["verdict"], late["reason"]) == ("unsupported", (
        "the chip of board board-main is written while it is off, and the guest resets it before: "
        "bootmatrix-live-flash, if its programmer can do so"))


@pytest.mark.thorough
def test_what_was_there_is_restored_if_that_is_asked_for(
    board: VirtualBoard, tmp_path: Path
) -> None:
    before = board.chip.read_bytes()
    record = board.run(tmp_path, "start", "upgrade-host", "reset", restore=True)
    assert record["verdict"] == "pass", record["reason"]
    assert record["bench"]["restored"]
    assert record["bench"]["writes"] == 3
    assert board.chip.read_bytes() == before
    assert board.seat.journal is None


def test_the_board_programs_itself(board: VirtualBoard, tmp_path: Path) -> None:
    record = board.run(tmp_path, "start", "guest-flash", "reset")
    assert record["verdict"] == "pass", record["reason"]
    assert board.chip.read_bytes() == image(NEW)


@pytest.mark.slow
def test_power_that_is_lost_meanwhile_leaves_a_chip_that_is_no_build(
    board: VirtualBoard, tmp_path: Path
) -> None:
    """What is written by then is chance: it does not boot, or boots with bytes of two builds.

    Both images begin with zeros: where no more was written, the old one is whole, and boots. On a
    machine that is slow to cut the power all can be written: then the new one does.
    """
    before = board.chip.read_bytes()
    record = board.run(tmp_path, "start", "guest-flash-power-loss", "start", restore=True)
    assert record["verdict"] in (
        "pass", "silent", "no-boot", "witness-conflict", "wrong-firmware"), record["reason"]
    assert record["steps"][1]["flash"]["result"] == "power-loss"
    if record["verdict"] == "silent":
        assert record["reason"].startswith(
            "boot 2 (start on source): not a byte in 10.0 s; the ROM's bytes are sha256:")
        assert record["black_box"] == (
            "dead with this firmware: the board speaks with what its chip held before")
    elif record["verdict"] == "wrong-firmware":
        assert record["reason"].endswith(f"expected {OLD}-1, seen {NEW}-1")
    elif record["verdict"] == "witness-conflict":
        assert "the ROM's bytes are sha256:" in record["reason"]
    assert board.chip.read_bytes() == before


@pytest.mark.parametrize(("steps", "why"), [
    (["start", "migrate"], "migrate needs migration, which these machines do not have"),
    (["start", "suspend"], "suspend needs wake-up from outside, which these machines do not have"),
    (["start", "replace-disk"], "replace-disk needs a disk that can be replaced, which these "
                                "machines do not have"),
    (["start", "shutdown", "clear-nvram"],
     "clear-nvram needs a digital output clear-cmos, or a programmer and UEFI: board board-main has"
     " none in its environment file"),
], ids=["migrate", "suspend", "replace-disk", "clear-nvram"])
def test_what_a_board_cannot_is_unsupported(
    board: VirtualBoard, tmp_path: Path, steps: list[str], why: str
) -> None:
    record = board.run(tmp_path, *steps)
    assert (record["verdict"], record["reason"]) == ("unsupported", why)


def test_what_a_bench_lacks_is_unsupported(board: VirtualBoard, tmp_path: Path) -> None:
    board.describe(drivers={"FlashromDriver": None})
    record = board.run(tmp_path, "start", "upgrade-host")
    assert (record["verdict"], record["reason"]) == (
        "unsupported", "upgrade-host needs firmware that can be replaced, which these machines do "
        "not have")
    record = board.run(tmp_path, "start", policy="reread")
    assert (record["verdict"], record["reason"]) == ("unsupported", (
        "reread needs firmware that can be replaced: a programmer, and board board-main has none "
        "in its environment file"))


@pytest.mark.slow
def test_the_cmos_is_cleared_by_an_output_while_the_power_is_off(
    board: VirtualBoard, tmp_path: Path
) -> None:
    button = tmp_path / "button"
    button.write_text("0\n")
    board.describe(drivers={"FileDigitalOutputDriver": {
        "name": "clear-cmos", "filepath": str(button)}})
    before = button.stat().st_mtime_ns
    record = board.run(tmp_path, "start", "shutdown", "clear-nvram", "start")
    assert record["verdict"] == "pass", record["reason"]
    assert button.read_text() == "0\n"
    assert button.stat().st_mtime_ns > before


@pytest.mark.thorough
def test_a_reset_line_is_pulled_and_the_power_stays(board: VirtualBoard, tmp_path: Path) -> None:
    (board.directory / "reset").write_text("0\n")
    board.describe(drivers={
        "FileDigitalOutputDriver": {"name": "reset", "filepath": str(board.directory / "reset")},
        "DigitalOutputResetDriver": {"bindings": {"output": "reset"}, "delay": 0.1}})
    record = board.run(tmp_path, "start", "reset", "upgrade-host", "reset")
    assert record["verdict"] == "pass", record["reason"]
    assert [boot["console"] for boot in record["boots"]] == [UP, UP, UPGRADED]


@pytest.mark.thorough
def test_a_run_that_is_interrupted_leaves_the_board_off_and_free(
    board: VirtualBoard, tmp_path: Path
) -> None:
    before = board.chip.read_bytes()
    (board.directory / "dark.bin").write_bytes(b"\xf4" * (256 << 10))
    board.fault(boots="dark.bin")  # it waits for a board that says nothing
    file = tmp_path / "mine.yaml"
    file.write_text(board.matrix("start", restore=True, patience=300.0))
    # In a project for which a warning is an error, as this one: pytest warns of a labgrid that was
    # imported before it.
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n')
    run = subprocess.Popen([sys.executable, "-m", "bootmatrix", "run", file, "--run-dir",
                            tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    wait_for(run, lambda: board.power("get") == "on")
    run.send_signal(signal.SIGINT)
    run.communicate()
    assert run.returncode == 130
    assert board.power("get") == "off"
    assert board.chip.read_bytes() == before, "what was in it is restored"
    seat = Seat.of(board.source, cache_home())
    assert (seat.mark, seat.journal) == ("", None)
    assert seat.user is None


@pytest.mark.slow
def test_uefi_firmware_resets_by_its_own_service_and_its_variables_are_cleared(
    tmp_path: Path
) -> None:
    with virtual_board(tmp_path, uefi=True) as board:
        text = board.matrix(
            "start", {"reset": {"by": "efi-cold"}}, "upgrade-host", {"reset": {"by": "efi-warm"}},
            "shutdown", "clear-nvram", "start", patience=90.0, boot_timeout=45.0)
        for name, host in ((OLD, "debian-bookworm"), (NEW, "debian-sid")):
            text = text.replace(f"firmware: {name}",
                                f"firmware: {{path: {combined(tmp_path, host)}}}")
        record = board.run_text(tmp_path, text)
        assert record["verdict"] == "pass", record["reason"]
        first, *_, last = (boot["console"] for boot in record["boots"])
        assert (len(record["boots"]), first == last) == (4, False)
        assert record["bench"]["writes"] == 3, "the firmware, the other, and blank variables"
