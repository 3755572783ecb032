"""Guests, firmware and QEMUs that do their worst: no verdict changes, and nothing grows."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bootmatrix import guests
from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine
from bootmatrix.errors import GdbError, MonitorError
from bootmatrix.firmware.identity import EscapeFilter
from bootmatrix.machines import console
from bootmatrix.machines.console import Console
from bootmatrix.machines.qemu import command_line, reactor
from bootmatrix.machines.qemu.gdb import Gdb
from bootmatrix.machines.qemu.migration import file as migration_file
from bootmatrix.machines.qemu.monitor import Monitor
from bootmatrix.model import FirmwareBuild, Verdict
from bootmatrix.records.model import Record
from bootmatrix.run.bounds import LOG_BYTES
from bootmatrix.run.runner import Runner
from bootmatrix.run.steps import DEEDS
from bootmatrix.witnesses.observation import StepObserved
from helpers.cells import cell
from helpers.hostile import RunnerWith, hostile_probe


@pytest.fixture
def runner(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[RunnerWith]:
    with RunnerWith(Builds(store), bubblewrap, tmp_path) as runner:
        yield runner


def the_log(tmp_path: Path, record: Record, process: str) -> bytes:
    return (tmp_path / record["artifacts"] / process / "console.log").read_bytes()


# ---- what guests print ------------------------------------------------------------------


def test_a_flood_is_cut_off_and_the_record_says_so(
    runner: RunnerWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LOG_LIMIT", 20_000)
    monkeypatch.setattr("bootmatrix.run.cell_run.LOG_LIMIT", 20_000)
    runner.boots(guests.probe_disk("A", tmp_path, source=Path(__file__).parents[1] / "programs" /
                                   "flood.asm"))
    record = runner.run(cell("sid", "stock", "cold-boot", seconds=1.5))
    assert record["verdict"] == Verdict.NO_BOOT, record["reason"]
    assert record["console_truncated"] is True
    log = the_log(tmp_path, record, "1-source")
    assert len(log) == 20_000
    assert log.count(b"a dull one") > 100


def test_who_does_not_flood_is_not_said_to(runner: RunnerWith) -> None:
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record["verdict"] == Verdict.PASS
    assert "console_truncated" not in record


def test_a_flood_of_8_mb_takes_no_memory(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    size = 8 << 20

    def flood() -> None:
        with theirs:
            sent = 0
            while sent < size:
                sent += theirs.send(b"no line end and no banner \x1b[1m" * 4000)
            theirs.sendall(b"\r\nSeaBIOS (version 1.17.0-debian-1.17.0-1)\r\nBOOTMATRIX up boot=1 "
                           b'bios-vendor="SeaBIOS" bios-version="1.17.0" disk="A"\r\n')

    flooding = threading.Thread(target=flood)
    with Console(ours, tmp_path / "console.log") as reader:
        tracemalloc.start()
        flooding.start()
        seen = reader.wait_for_boot(Deadline.after(60))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert seen.up is not None
        assert seen.banners == ("1.17.0-debian-1.17.0-1",)
    flooding.join()
    assert peak < 2 << 20
    assert (tmp_path / "console.log").stat().st_size == console.LOG_LIMIT


def test_a_flood_does_not_outlast_the_deadline(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def flood() -> None:
        with theirs, contextlib.suppress(OSError):
            while not stop.is_set():
                theirs.send(b"x" * 65536)

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        with Console(ours, tmp_path / "console.log") as reader:
            deadline = Deadline.after(0.3)
            assert reader.wait_for_boot(deadline).up is None
            assert Deadline.after(0).at - deadline.at < 30, "the flood has no end"
    finally:
        stop.set()
        ours.close()
        flooding.join()


def test_a_flood_that_is_slow_to_read_does_not_put_off_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that it takes is none in which the harness was asleep."""
    monkeypatch.setattr(console, "_LATE_BYTES", 8192)
    feed = EscapeFilter.feed

    def slow(self: EscapeFilter, data: bytes) -> bytes:
        until = time.thread_time() + 0.6
        while time.thread_time() < until:
            pass
        return feed(self, data)

    monkeypatch.setattr(EscapeFilter, "feed", slow)
    ours, theirs = socket.socketpair()
    with theirs, Console(ours, tmp_path / "console.log") as reader:
        theirs.sendall(b"x" * 80_000)
        seen = reader.wait_for_boot(Deadline.after(0.3))
        assert (seen.up, seen.ended) == (None, False)
        monkeypatch.setattr(EscapeFilter, "feed", feed)
        assert reader.log.stat().st_size < 20_000, "it was read to its end"


def test_a_line_in_pieces_and_between_others(tmp_path: Path) -> None:
    """Whatever the pieces in which it comes, nothing is missed at the edge of a window."""
    line = (b"SeaBIOS (version 1.14.0-2)\r\n" + b"y" * 5000 +
            b'\r\nBOOTMATRIX up boot=1 bios-vendor="" bios-version="" disk="A"\r\n')
    for lead in range(0, 9000, 611):
        ours, theirs = socket.socketpair()
        with theirs, Console(ours, tmp_path / f"{lead}.log") as reader:
            theirs.sendall(b"z" * lead + line)
            seen = reader.wait_for_boot(Deadline.after(60))
            assert seen.up is not None, lead
            assert seen.banners == ("1.14.0-2",), lead


def test_escape_sequences_and_invalid_utf_8(runner: RunnerWith, tmp_path: Path) -> None:
    nasty = (b"\x1b[2J\x1b]0;title\x07\x1b[31mred\x1b[0m\x9b5n\xff\xfe\xc0\xaf\xed\xa0\x80"
             b"\xf8\x1b[6n"
             b"\x1bc\x1b[99999999999999999999999999999999999999999A\x01\x02\x1b")
    data = "text_hostile db " + ", ".join(str(byte) for byte in nasty) + ", 0\n"
    code = "    mov si, text_hostile\n    call put_string\n"
    for where in ("before up", "after up"):
        runner.boots(hostile_probe(tmp_path, code, data, where=where))
        record = runner.run(cell("bullseye sid", "machine-owned"))
        assert record["verdict"] == Verdict.PASS, record["reason"]
        assert nasty in the_log(tmp_path, record, "1-source")
        assert json.loads(json.dumps(record, ensure_ascii=False))["verdict"] == "pass"


# ---- guests that write, firmware that lies ---------------------------------------------------


FLASH = """\
    mov ax, 0
    mov edi, 0xFFFC0000 + 16
    mov byte [fs:edi], 0x40             ; program a byte (Intel's command set)
    mov byte [fs:edi], 0x5A
    mov byte [fs:edi], 0xFF             ; read again
"""


@pytest.mark.parametrize("where", ["before up", "after up"])
@pytest.mark.parametrize(("policy", "verdict"), [
    ("guest-owned", Verdict.WITNESS_CONFLICT),  # nobody's bytes are in the flash now
    ("stock", Verdict.PASS),  # ROM: it writes to nothing
])
def test_a_guest_that_writes_its_flash(
    runner: RunnerWith, tmp_path: Path, policy: str, verdict: Verdict, where: str
) -> None:
    runner.boots(hostile_probe(tmp_path, FLASH, "", where=where))
    record = runner.run(cell("sid", policy, "reset"))
    assert record["verdict"] == verdict, record["reason"]
    if verdict is not Verdict.PASS:
        assert "the ROM's bytes are sha256:" in record["reason"]


def run_firmware(runner: RunnerWith, tmp_path: Path, image: bytes, seconds: float) -> Record:
    path = tmp_path / "firmware.bin"
    path.write_bytes(image)
    runner.firmware["sid"] = FirmwareBuild("hostile", "0" * 64, len(image), path)
    return runner.run(cell("sid", "stock", "cold-boot", seconds=seconds))


def test_a_firmware_that_resets_for_ever(runner: RunnerWith, tmp_path: Path) -> None:
    """An event each time, thousands a second."""
    reset = b"\xba\xf9\x0c\xb0\x06\xee\xeb\xf8"  # mov dx, 0cf9h; mov al, 6; out dx, al; again
    record = run_firmware(runner, tmp_path, bytes(256 * 1024 - 16) + reset + bytes(8), 0.5)
    assert record["verdict"] == Verdict.SILENT, record["reason"]
    assert record["steps"][-1]["seconds"] < 30, "its events were read for longer than asked"
    assert runner.run(cell("bullseye", "stock", "cold-boot"))["verdict"] == Verdict.PASS


def test_a_firmware_that_says_the_guest_is_up(
    runner: RunnerWith, store: ImageStore, tmp_path: Path
) -> None:
    """By the line of another: its own banner is missing, and its bytes are not the known ones."""
    old = store.beside("debian-sid", "seabios").path.read_bytes()
    forged = old.replace(b"SeaBIOS (version %s)\n", b"BOOTMATRIX up boot=1\n")
    assert forged != old
    record = run_firmware(runner, tmp_path, forged, 1.5)
    assert record["verdict"] != Verdict.PASS


# ---- QEMUs that misbehave --------------------------------------------------------------------


def wrap(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Start each QEMU by a shell script, which has QEMU's command line as its arguments."""
    qemu_argv = command_line.qemu_argv
    monkeypatch.setattr("bootmatrix.machines.qemu.machine.qemu_argv", lambda launch: (
        "/bin/busybox", "sh", "-c", script, "sh", *qemu_argv(launch)))


def test_a_qemu_that_writes_1_gb_to_its_log(
    store: ImageStore, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "/bin/busybox dd if=/dev/zero bs=1M count=1024 2>/dev/null | /bin/busybox tr '\\0' x"
    wrap(monkeypatch, f"{{ {noise} >&2; echo done >/cell/noise; }} & exec \"$@\"")
    with Runner(Builds(store), engine, tmp_path) as runner:
        record = runner.run(cell("sid", "stock", "reset"))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    log = tmp_path / record["artifacts"] / "1-source" / "qemu.log"
    assert log.stat().st_size <= LOG_BYTES
    assert record["logs_cut"] == ["1-source/qemu.log"]


def test_a_qemu_that_does_not_end(runner: RunnerWith, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when it is asked to, nor by SIGTERM; its guest has moved on, which is what counts."""
    monkeypatch.setattr("bootmatrix.machines.qemu.process.QUIT_SECONDS", 1.0)
    wrap(monkeypatch, "trap '' TERM INT HUP; \"$@\"; /bin/busybox sleep 1000")
    record = runner.run(cell("bullseye sid", "stock"))
    assert record["verdict"] == Verdict.PASS, record["reason"]


@pytest.mark.parametrize("said", [
    b'{"event":' + b"[" * 100_000 + b"\n",
    b'{"return":{},"id":{}}\n',
    b'{"return":' + b"9" * 5000 + b"}\n",
    b"x" * (11 << 20),
], ids=["deep", "unhashable", "long number", "long line"])
def test_nonsense_on_the_monitor_is_a_monitor_lost(said: bytes) -> None:
    ours, theirs = socket.socketpair()

    def talk() -> None:
        with theirs, contextlib.suppress(OSError):
            theirs.sendall(b'{"QMP":{"version":{},"capabilities":[]}}\n')
            theirs.recv(4096)
            theirs.sendall(b'{"return":{},"id":"__qmp#00000"}\n')
            theirs.recv(4096)
            theirs.sendall(said)

    talking = threading.Thread(target=talk)
    talking.start()
    monitor = Monitor(ours, "a QEMU", Deadline.after(60))
    with pytest.raises(MonitorError, match="the monitor is gone"):
        monitor.execute("query-status", deadline=Deadline.after(60))
    monitor.close(Deadline.after(60))
    talking.join()


@pytest.mark.parametrize("said", [b"x" * 400_000, b"$" + b"x" * 400_000, b"$OK#"],
                         ids=["no packet", "no end", "cut off"])
def test_nonsense_from_the_gdb_stub_is_a_gdb_error(said: bytes) -> None:
    ours, theirs = socket.socketpair()

    def talk() -> None:
        with theirs, contextlib.suppress(OSError):
            theirs.sendall(said)

    async def hear() -> None:
        gdb = await Gdb.attach(ours)
        try:
            await gdb.stopped()
        finally:
            await gdb.close()

    talking = threading.Thread(target=talk)
    talking.start()
    with pytest.raises(GdbError, match="gdb stub: "):
        reactor.call(hear(), Deadline.after(60), "a stop")
    talking.join()


def test_a_stream_that_the_disk_does_not_take_is_no_refusal() -> None:
    """Of the migration: what is wrong is the disk."""
    ours, theirs = socket.socketpair()
    copier = migration_file._Copier(migration_file._receive, ours, Path("/dev/full"))
    with theirs, contextlib.suppress(OSError):
        for _ in range(100):
            theirs.sendall(bytes(1 << 20))
    with pytest.raises(OSError, match="No space left"):
        migration_file._end(ours, copier, Deadline.after(60))


def test_a_qemu_that_closes_its_monitor(
    runner: RunnerWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rig cannot go on without it: no finding about the firmware."""
    taken: list[socket.socket] = []
    begin = Monitor.__init__

    def keep(self: Monitor, sock: socket.socket, *arguments: Any) -> None:
        taken.append(sock.dup())
        begin(self, sock, *arguments)

    reset = DEEDS["reset"]

    def close_then_reset(*arguments: Any) -> StepObserved:
        for sock in taken:
            sock.shutdown(socket.SHUT_RDWR)
        return reset(*arguments)

    monkeypatch.setattr(Monitor, "__init__", keep)
    monkeypatch.setitem(DEEDS, "reset", close_then_reset)
    record = runner.run(cell("sid", "stock", "reset"))
    for sock in taken:
        sock.close()
    assert record["verdict"] == Verdict.ERROR
    assert "monitor" in record["reason"]


Wrapped = Callable[[command_line.Launch], Sequence[str]]


def test_the_scratch_holds_nothing_of_it_afterwards(runner: RunnerWith, tmp_path: Path) -> None:
    """A guest's directory full of what it likes: removed before the next cell."""
    scratch = tmp_path / "scratch-main" / "cell"
    (scratch / "deep" / "er").mkdir(parents=True)
    (scratch / "link").symlink_to("/etc")
    (scratch / "deep" / "up").symlink_to("..")
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record["verdict"] == Verdict.PASS
    assert list(scratch.iterdir()) == []
    assert Path("/etc/passwd").exists()
    assert shutil.which("sh")
