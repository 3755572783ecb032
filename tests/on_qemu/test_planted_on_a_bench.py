"""What goes wrong on benches, planted: whose fault it is must be told from the evidence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bootmatrix.firmware.identity import sha256
from helpers.benches import NEW, OLD, VirtualBoard, image, virtual_board

pytestmark = pytest.mark.slow

UP = "seabios-1.16.2-1"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[VirtualBoard]:
    """A board of this test's."""
    with virtual_board(tmp_path) as there:
        yield there


def flashrom(directory: Path, body: str) -> dict[str, str]:
    """A tool in the place of flashrom, a shell script that can call the real one as $real."""
    script = directory / "flashrom"
    script.write_text(f"#!/bin/sh\nreal=/usr/sbin/flashrom\n{body}\n")
    script.chmod(0o755)
    return {"flashrom": str(script)}


def test_a_dead_board_is_not_its_firmwares_fault(board: VirtualBoard, tmp_path: Path) -> None:
    board.fault(dead=True)
    record = board.run(tmp_path, "start", patience=1.0, boot_timeout=1.0)
    assert (record["verdict"], record["reason"]) == ("error", (
        "the board is dead: it says nothing with what its chip held before, either"))
    assert board.seat.mark == record["reason"]
    board.fault()
    record = board.run(tmp_path, "start")
    assert record["verdict"] == "pass"
    assert board.seat.mark == "", "a board that is in order loses its mark"


def test_of_a_board_that_never_spoke_nothing_is_said(board: VirtualBoard, tmp_path: Path) -> None:
    board.fault(dead=True)
    board.chip.write_bytes(image(OLD))
    record = board.run(tmp_path, "start", patience=1.0, boot_timeout=1.0)
    assert (record["verdict"], record["reason"]) == ("error", (
        "not a byte from the board, not after a power cycle either, and no other firmware is known "
        "to tell by"))


def test_firmware_that_does_not_boot_is_its_own_fault(board: VirtualBoard, tmp_path: Path) -> None:
    broken = image(OLD)[:-16] + b"\xeb\0\xf4\xeb\xfd" + bytes(11)  # it jumps, and halts
    (tmp_path / "broken.bin").write_bytes(broken)
    (tmp_path / "mine.yaml").unlink(missing_ok=True)
    file = board.matrix("start", patience=2.0, boot_timeout=2.0).replace(
        f"firmware: {OLD}", "firmware: {path: broken.bin}")
    record = board.run_text(tmp_path, file)
    assert record["verdict"] == "silent", record["reason"]
    assert record["black_box"] == (
        "dead with this firmware: the board speaks with what its chip held before")
    assert board.seat.mark == ""


def test_a_board_that_boots_another_image_than_its_chips(
    board: VirtualBoard, tmp_path: Path
) -> None:
    (board.directory / "other.bin").write_bytes(image(NEW))
    board.fault(boots="other.bin")
    record = board.run(tmp_path, "start")
    assert (record["verdict"], record["reason"]) == ("witness-conflict", (
        "boot 1 (start on source): the console says seabios-1.17.0-1, the ROM's bytes are "
        "seabios-1.16.2-1"))
    board.describe(options={"bootmatrix-live-flash": None})
    record = board.run(tmp_path, "start")
    assert (record["verdict"], record["reason"]) == ("wrong-firmware", (
        "boot 1 (start on source): expected seabios-1.16.2-1, seen seabios-1.17.0-1"))


def test_a_chip_that_does_not_verify(board: VirtualBoard, tmp_path: Path) -> None:
    board.describe(tools=flashrom(tmp_path, (
        'case " $* " in *" -w "*) "$real" "$@"; '
        'echo "Verifying flash... FAILED at 0x00000010!"; exit 3;;'
        ' esac\nexec "$real" "$@"')))
    record = board.run(tmp_path, "start")
    assert record["verdict"] == "error"
    assert record["reason"].startswith("the chip cannot be written: ")
    assert record["reason"].endswith("Verifying flash... FAILED at 0x00000010!")
    assert board.seat.mark == record["reason"]


def test_a_chip_that_verifies_and_does_not_hold_it(board: VirtualBoard, tmp_path: Path) -> None:
    board.describe(tools=flashrom(tmp_path, (
        'case " $* " in *" -w "*) "$real" "$@" || exit; '
        f'dd if=/dev/zero of={board.chip} bs=1k count=256 conv=notrunc status=none;; '
        '*) exec "$real" "$@";; esac')))
    record = board.run(tmp_path, "start", patience=1.0, boot_timeout=1.0)
    assert (record["verdict"], record["reason"]) == (
        "error", "the chip does not hold what was written to it, and verified")


def test_a_board_without_its_guests_disk_is_not_its_firmwares_fault(
    board: VirtualBoard, tmp_path: Path
) -> None:
    stick = board.directory / "stick.img"
    stick.write_bytes(bytes(stick.stat().st_size))
    record = board.run(tmp_path, "start", patience=1.0, boot_timeout=1.0)
    assert (record["verdict"], record["reason"]) == (
        "error", "no guest comes up on this board, with what its chip held before neither: look at "
        "the guest's disk, and at the boot order")


def test_power_that_does_not_switch_off(board: VirtualBoard, tmp_path: Path) -> None:
    board.fault(stuck=True)
    board.power("on")
    record = board.run(tmp_path, "start")
    assert (record["verdict"], record["reason"]) == (
        "error", "the power does not switch: the board goes on to speak without it")
    board.fault()


def test_a_power_command_that_fails(board: VirtualBoard, tmp_path: Path) -> None:
    board.describe(drivers={"ExternalPowerDriver": {"cmd_on": "false", "cmd_off": "true"}})
    record = board.run(tmp_path, "start")
    assert (record["verdict"], record["reason"]) == (
        "error", "the power cannot be switched on: false ended with 1: not a word")


def test_a_console_that_garbles_one_byte_in_a_hundred(board: VirtualBoard, tmp_path: Path) -> None:
    board.fault(garble=0.01)
    record = board.run(tmp_path, "start", {"reset": {"by": "cf9"}}, "reset", patience=3.0,
                       boot_timeout=3.0)
    assert record["verdict"] == "error", record["reason"]
    assert record["reason"].startswith("the console garbles what the board says: ")
    assert record["bench"]["noise"] > 0.002


def test_a_serial_port_that_is_not_there(board: VirtualBoard, tmp_path: Path) -> None:
    board.describe(resources={"RawSerialPort": {"port": str(tmp_path / "nothing")}})
    record = board.run(tmp_path, "start")
    assert record["verdict"] == "error"
    assert record["reason"].startswith("board-main cannot be opened: ")


# ---- killed while it flashes ----------------------------------------------------------------

KILLED = """
import sys
from pathlib import Path
from helpers.benches import VirtualBoard
there = Path(sys.argv[1])
VirtualBoard(there / "board", there / "cache").run(there, "start", restore=sys.argv[2] == "yes")
"""


@pytest.mark.parametrize("restore", ["yes", "no"])
def test_a_run_that_is_killed_while_it_flashes_leaves_a_chip_that_the_next_restores(
    board: VirtualBoard, tmp_path: Path, restore: str
) -> None:
    before = board.chip.read_bytes()
    half = tmp_path / "half"
    os.mkfifo(half)
    board.describe(tools=flashrom(tmp_path, (
        # Half of the image is in the chip when it says who it is, and then it waits to be ended.
        'case " $* " in *" -w "*) while [ "$1" != -w ]; do shift; done; '
        f'dd if="$2" of={board.chip} bs=1k count=128 conv=notrunc status=none; '
        f'echo $$ >{half}; read never <{half}; exit 1;; esac\nexec "$real" "$@"')))
    run = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), restore],
                           cwd=Path(__file__).parents[1], start_new_session=True)
    programmer = int(half.read_text())
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    os.kill(programmer, signal.SIGKILL)  # which is in a session of its own
    assert board.chip.read_bytes() not in (before, image(OLD)), "it is half-written"
    board.describe()
    record = board.run(tmp_path, "start")
    assert record["verdict"] == "pass", record["reason"]
    assert record["bench"]["recovered"] == (
        "the chip was left half-written by a killed or failed run: what it held before is restored")
    assert board.seat.saved.read_bytes() == before


def test_a_programmer_that_goes_on_when_its_run_is_killed_is_waited_for(
    board: VirtualBoard, tmp_path: Path
) -> None:
    half, log = tmp_path / "half", tmp_path / "log"
    os.mkfifo(half)
    board.describe(tools=flashrom(tmp_path, (
        f'case " $* " in *" -w "*) echo begins >>{log}; echo half >{half}; read go <{half}; '
        f'"$real" "$@"; echo ends >>{log};; *) echo reads >>{log}; exec "$real" "$@";; esac')))
    run = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), "no"],
                           cwd=Path(__file__).parents[1], start_new_session=True)
    assert half.read_text() == "half\n"
    run.kill()  # it alone: the programmer has not heard of it
    run.wait()
    log.write_text("")
    with ThreadPoolExecutor(1) as pool:
        next_run = pool.submit(board.run, tmp_path, "start")
        with pytest.raises(TimeoutError):
            next_run.result(2.0)
        half.write_text("go\n")
        record = next_run.result()
    assert log.read_text().splitlines()[:2] == ["ends", "reads"]
    assert record["verdict"] == "pass", record["reason"]
    assert "recovered" not in record["bench"], "what it wrote is whole"


def test_a_run_that_was_killed_before_it_restored(board: VirtualBoard, tmp_path: Path) -> None:
    before = board.chip.read_bytes()
    board.run(tmp_path, "start", restore=True)
    from bootmatrix.machines.bench.seat import Journal

    board.chip.write_bytes(image(OLD))
    board.seat.journal = Journal(sha256(image(OLD)), done=True, restore=True)
    record = board.run(tmp_path, "start", restore=True)
    assert record["bench"]["recovered"] == (
        "the chip was not restored by a killed or failed run: what it held before is restored")
    assert board.chip.read_bytes() == before
