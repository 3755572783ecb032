"""Guests that are not up, and what the black box of their QEMU says of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.engines import Engine
from bootmatrix.engines.peers import peer
from bootmatrix.engines.scratch import FIRMWARE_LOG
from bootmatrix.machines.console import BootSeen, Console
from bootmatrix.machines.qemu import black_box
from bootmatrix.machines.qemu.command_line import DEBUG_LOG_BYTES
from bootmatrix.machines.qemu.monitor import Monitor
from bootmatrix.matrix.expansion import load
from bootmatrix.model import Host, HostSpec, Verdict
from bootmatrix.records.model import Record
from bootmatrix.run import guest as guest_module
from bootmatrix.run.runner import Runner
from bootmatrix.witnesses.observation import BLACK_BOX
from bootmatrix.witnesses.resets import ENDLESS
from helpers.cells import cell
from helpers.hostile import RunnerWith
from helpers.programs import spinning_firmware

pytestmark = pytest.mark.usefixtures("ample")
HALTS = "cli\nhlt\njmp $"
LOOPS = "cli\nxor cx, cx\na: inc cx\ntest cx, 1\njz b\ninc dx\njmp c\nb: inc bx\nc: jmp a"


@pytest.fixture
def runner(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[RunnerWith]:
    with RunnerWith(Builds(store), bubblewrap, tmp_path) as runner:
        yield runner


def boot_sector(directory: Path, code: str) -> Path:
    source, disk = directory / "guest.asm", directory / "guest.img"
    source.write_text(f"bits 16\norg 0x7c00\n{code}\ntimes 510-($-$$) db 0\ndw 0xaa55\n"
                      "times 65536-($-$$) db 0\n")
    subprocess.run(["nasm", "-f", "bin", "-o", disk, source], check=True)
    return disk


@pytest.mark.parametrize(("suite", "code", "line"), [
    ("sid", HALTS, "halted with interrupts off at 0000:7C02"),
    # What 5.2 prints of a CPU that runs stays the same while this loop goes on.
    ("bullseye", LOOPS, "loops in 0000:7C03-0000:7C0"),
], ids=["halts", "loops"])
def test_where_a_guest_hangs(
    runner: RunnerWith, tmp_path: Path, suite: str, code: str, line: str
) -> None:
    runner.boots(boot_sector(tmp_path, code))
    record = runner.run(cell(suite, "stock", "cold-boot", seconds=1.5))
    assert record["verdict"] == Verdict.NO_BOOT, record["reason"]
    assert record["black_box"].startswith(line)
    told = (tmp_path / record["artifacts"] / BLACK_BOX).read_text()
    assert re.match(rf"1-source, \d+\.\d s after the step began\n\n{re.escape(line)}", told)
    assert "EIP=00007c0" in told
    assert "Host bridge" in told


def test_functions_are_named_where_the_firmware_s_symbols_are_given(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path
) -> None:
    """By a matrix file, as its user writes it; the copies in the cache are what is read."""
    for file in spinning_firmware(tmp_path):
        file.rename(tmp_path / f"my {file.name}")
    matrix = tmp_path / "m.yaml"
    matrix.write_text(
        "schema: 1\nhosts: {h: {qemu: debian-sid, firmware: "
        "{path: my spins.bin, symbols: my spins.elf}}}\nboot-timeout: 1\npatience: 1\n"
        "axes: {source: h, machine: pc-i440fx-5.2, policy: stock, scenario: cold-boot}\n")
    wanted = load(matrix).cells(lambda host: store.qemu(str(host.qemu)).machines)
    with Builds(store, tmp_path / "cache") as builds, \
            Runner(builds, bubblewrap, tmp_path / "run") as runner:
        record = runner.run(wanted[0])
    assert record["verdict"] == Verdict.SILENT, record["reason"]
    assert re.match(r"(stays at|loops in) F000:100\d(-F000:100\d)? "
                    r"\(wait_for_a_device(\+0x2)?\)", record["black_box"])
    told = (tmp_path / "run" / record["artifacts"] / BLACK_BOX).read_text()
    assert re.search(r"\d+ x F000:100\d wait_for_a_device", told)


def test_a_machine_that_goes_round(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path
) -> None:
    """As SeaBIOS 1.14.0 does on q35 when it is reset: it has its usual time once, no patience."""
    loops = cell("bullseye", "stock", "reset", machine="pc-q35-5.2", seconds=2.0)
    with Builds(store) as builds, \
            Runner(builds, bubblewrap, tmp_path, cache=tmp_path / "kept") as runner:
        record = runner.run(loops)
        goes_round_as_seabios_does(record, tmp_path)
        again = runner.run(loops)
    assert 1.9 < record["boots"][1]["seconds"] < 20
    assert again["boots"][1]["seconds"] < 1.9
    assert again["went_round"]["step"] == 2
    assert again["reason"] == record["reason"]
    goes_round_as_seabios_does(again, tmp_path)


def goes_round_as_seabios_does(record: Record, tmp_path: Path) -> None:
    assert (record["boots"][1]["resets"] or 0) >= ENDLESS
    assert "waited" not in record
    assert record["verdict"] == Verdict.SILENT, record["reason"]
    assert re.match(r"reset (at least )?\d{2,} times in \d+\.\d s; \w+ ", record["black_box"])
    assert '; the firmware printed "' in record["black_box"]
    log = (tmp_path / record["artifacts"] / "1-source" / FIRMWARE_LOG).read_bytes()
    assert len(log) <= DEBUG_LOG_BYTES
    assert log.count(b"Unable to unlock ram - bridge not found\n") > 10


def test_a_guest_goes_where_firmware_has_no_debug_log_and_comes_back(
    runner: RunnerWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As to a QEMU of one's own that was built without the device."""
    host = RunnerWith.host

    def without(self: RunnerWith, spec: HostSpec) -> Host:
        found = host(self, spec)
        return replace(found, qemu=replace(found.qemu, debug_port=spec.name != "sid"))

    monkeypatch.setattr(RunnerWith, "host", without)
    record = runner.run(cell("bullseye sid", "stock", "ping-pong"))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert [any("debugcon" in word for word in qemu["argv"]) for qemu in record["qemus"]] == [
        True, False, True]
    assert not list((tmp_path / record["artifacts"]).glob(f"*/{FIRMWARE_LOG}")), "all went well"


def test_a_qemu_that_stands_still_is_a_finding_and_no_error(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its monitor does not answer, neither now nor when it is closed."""
    monkeypatch.setattr(black_box, "SECONDS", 0.5)
    monkeypatch.setattr(guest_module, "ANSWER_SECONDS", 0.1)
    wait_for_boot = Console.wait_for_boot

    def stopped(self: Console, *arguments: object, **more: object) -> BootSeen:
        os.kill(peer(self._socket) or 0, signal.SIGSTOP)
        return wait_for_boot(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Console, "wait_for_boot", stopped)
    record = runner.run(cell("sid", "stock", "cold-boot", seconds=0.5))
    assert record["verdict"] == Verdict.SILENT, record["reason"]
    assert record["black_box"] == "the monitor does not answer within 0.5 s"
    assert (tmp_path / record["artifacts"] / BLACK_BOX).is_file()


def test_a_qemu_that_does_not_reset(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for it: the monitor's command comes to nothing."""
    monkeypatch.setattr("bootmatrix.machines.qemu.process.RESET_SECONDS", 0.5)
    execute = Monitor.execute

    def ignored(self: Monitor, command: str, *arguments: Any, **more: Any) -> Any:
        return None if command == "system_reset" else execute(self, command, *arguments, **more)

    monkeypatch.setattr(Monitor, "execute", ignored)
    record = runner.run(cell("sid", "stock", "reset"))
    assert (record["verdict"], record["reason"]) == (
        Verdict.NOT_RESET, "reset: the machine was told to reset, and was not; the guest goes on, "
        "and answers as boot 1")
    assert record["black_box"] == "still running the guest: the reset never happened"


def test_a_cell_that_passes_has_none(runner: Runner, tmp_path: Path) -> None:
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert "black_box" not in record
    assert not (tmp_path / record["artifacts"] / BLACK_BOX).exists()
