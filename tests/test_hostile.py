"""Guests, firmware and QEMUs that do their worst: no verdict changes, and nothing grows."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cells import cell

from harness import cmdline, console, guests, scenario
from harness.builds import Builds
from harness.console import Console
from harness.deadline import Deadline
from harness.engines import Engine
from harness.engines.confinement import FILE_BYTES
from harness.guest_files import GuestSetup
from harness.identity import banner_version
from harness.images import ImageStore
from harness.model import Cell, FirmwareBuild, Host, HostSpec, RunRecord, Verdict
from harness.qmp import Monitor
from harness.runner import Runner

FAKE = "SeaBIOS (version 1.14.0-2)"  # bullseye's
UP = "    print text_up\n"
AFTER_UP = "    call put_identity\n\nmain_loop:\n"


def banner_in_assembly(text: str = FAKE) -> str:
    return f"text_hostile db 13, 10, '{text}', 13, 10, 0\n"


class RunnerWith(Runner):
    """A runner whose guests and firmware are the test's own."""

    firmware: dict[str, FirmwareBuild]
    disk: Path | None = None

    def boots(self, disk: Path) -> None:
        self.disk = disk

    def setup(self, cell: Cell, hosts: Sequence[Host]) -> GuestSetup:
        setup = super().setup(cell, hosts)
        return replace(setup, disks=(self.disk, self.disk)) if self.disk else setup

    def host(self, spec: HostSpec) -> Host:
        host = super().host(spec)
        return replace(host, firmware=self.firmware.get(spec.name, host.firmware))


@pytest.fixture
def runner(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[RunnerWith]:
    with RunnerWith(Builds(store), bubblewrap, tmp_path) as runner:
        runner.firmware = {}
        yield runner


def probe(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """The probe guest's disk with something hostile in its source."""
    source = guests.PROBE_SOURCE.read_text()
    for before, after in changes:
        assert source.count(before) == 1, before
        source = source.replace(before, after)
    changed = tmp_path / "hostile.asm"
    changed.write_text(source)
    return guests.probe_disk("A", tmp_path, source=changed)


def hostile_probe(tmp_path: Path, code: str, data: str, *, where: str = "after up") -> Path:
    """A probe that does something before its line, once after it, or all the time."""
    place = {
        "before up": (UP, code + UP),
        "after up": (AFTER_UP, f"    call put_identity\n{code}\nmain_loop:\n"),
        "all the time": (AFTER_UP, f"    call put_identity\n\nmain_loop:\n{code}"),
    }[where]
    text = "text_disk_error db"
    return probe(tmp_path, place, ("payload:\n    cli\n", f"payload:\n    jmp hostile_start\n{data}"
                                   "hostile_start:\n    cli\n"), (text, text))


def the_log(tmp_path: Path, record: RunRecord, process: str) -> bytes:
    return (tmp_path / record.artifacts / process / "console.log").read_bytes()


# ---- what guests print ------------------------------------------------------------------


def test_a_flood_is_cut_off_and_the_record_says_so(
    runner: RunnerWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LOG_LIMIT", 20_000)
    monkeypatch.setattr("harness.runner.LOG_LIMIT", 20_000)
    runner.boots(guests.probe_disk("A", tmp_path, source=Path(__file__).parent / "guests" /
                                   "flood.asm"))
    record = runner.run(cell("sid", "stock", "cold-boot", seconds=4.0))
    assert record.verdict is Verdict.NO_BOOT, record.reason
    assert record.to_json()["console_truncated"] is True
    log = the_log(tmp_path, record, "1-source")
    assert len(log) == 20_000
    assert log.count(b"a dull one") > 100


def test_who_does_not_flood_is_not_said_to(runner: RunnerWith) -> None:
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record.verdict is Verdict.PASS
    assert "console_truncated" not in record.to_json()


def test_a_flood_of_20_mb_takes_no_memory(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    size = 20 << 20

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
            assert Deadline.after(0).at - deadline.at < 1
    finally:
        stop.set()
        ours.close()
        flooding.join()


def test_a_line_in_pieces_and_between_others(tmp_path: Path) -> None:
    """Whatever the pieces in which it comes, nothing is missed at the edge of a window."""
    line = (b"SeaBIOS (version 1.14.0-2)\r\n" + b"y" * 5000 +
            b'\r\nBOOTMATRIX up boot=1 bios-vendor="" bios-version="" disk="A"\r\n')
    for lead in range(0, 9000, 611):
        ours, theirs = socket.socketpair()
        with theirs, Console(ours, tmp_path / f"{lead}.log") as reader:
            theirs.sendall(b"z" * lead + line)
            seen = reader.wait_for_boot(Deadline.after(5))
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
        assert record.verdict is Verdict.PASS, record.reason
        assert nasty in the_log(tmp_path, record, "1-source")
        assert json.loads(json.dumps(record.to_json(), ensure_ascii=False))["verdict"] == "pass"


# ---- guests that pose as firmware, or as another boot --------------------------------------


SAY = "    mov si, text_hostile\n    call put_string\n"


@pytest.mark.parametrize("policy", ["stock", "machine-owned"])
@pytest.mark.parametrize("where", ["after up", "all the time"])
def test_a_banner_printed_by_a_guest_that_is_up_changes_nothing(
    runner: RunnerWith, tmp_path: Path, where: str, policy: str
) -> None:
    # "1.15.0": nobody's. It is still printed in the moment in which the reset happens.
    runner.boots(hostile_probe(tmp_path, SAY, banner_in_assembly("SeaBIOS (version 1.15.0)"),
                               where=where))
    for _ in range(3):
        record = runner.run(cell("bullseye sid", policy))
        assert record.verdict is Verdict.PASS, record.reason
        assert b"1.15.0" in the_log(tmp_path, record, "2-destination" if where == "all the time"
                                    else "1-source")


def test_a_banner_printed_before_its_line_is_a_conflict(
    runner: RunnerWith, tmp_path: Path
) -> None:
    runner.boots(hostile_probe(tmp_path, SAY, banner_in_assembly(), where="before up"))
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record.verdict is Verdict.WITNESS_CONFLICT
    assert record.reason == (
        "boot 1 (start on source): the banners of one boot differ: "
        "1.17.0-debian-1.17.0-1, 1.14.0-2")


@pytest.mark.parametrize("smbios", [True, False])
def test_posing_as_the_old_firmware_after_the_new_one_ran(
    runner: RunnerWith, tmp_path: Path, smbios: bool
) -> None:
    """Banner and SMBIOS forged alike; the banner of the firmware itself, and its bytes, remain."""
    forge = "    mov si, text_hostile_version\n    mov di, bios_version\n" \
            "    mov cx, 9\n    rep movsb\n" if smbios else ""
    runner.boots(hostile_probe(
        tmp_path, SAY + forge, banner_in_assembly() + "text_hostile_version db '1.14.0-2', 0\n",
        where="before up"))
    record = runner.run(cell("bullseye sid", "machine-owned", "move"))
    assert record.verdict is not Verdict.PASS
    # Bullseye's own banner is what the guest forges: only where sid's ran it is a lie.
    assert record.verdict is Verdict.WITNESS_CONFLICT
    assert record.reason.startswith("boot 2 (start on destination): ")


def test_a_guest_that_says_it_is_up_before_the_reset(runner: RunnerWith, tmp_path: Path) -> None:
    """The line of a boot that has not begun is none of that boot's."""
    again = "    print text_up\n    call put_boot\n    call put_identity\n"
    runner.boots(hostile_probe(tmp_path, again, "", where="all the time"))
    for _ in range(3):
        record = runner.run(cell("bullseye sid", "machine-owned"))
        assert record.verdict is Verdict.PASS, record.reason
        assert [boot.details["counter"] for boot in record.boots] == [1, 2]


def test_a_banner_that_the_reset_cut_off_does_not_hide_the_real_one() -> None:
    assert banner_version("SeaBIOS (version 6.6SeaBIOS (version 1.17.0)\r\n") == "1.17.0"


def chatter(sock: socket.socket, *texts: bytes) -> None:
    for text in texts:
        sock.sendall(text)


@pytest.mark.parametrize("begun", [None, lambda: True])
def test_a_firmware_without_a_banner_spoke_or_did_not(
    tmp_path: Path, begun: Callable[[], bool] | None
) -> None:
    ours, theirs = socket.socketpair()
    with theirs, Console(ours, tmp_path / "console.log") as reader:
        assert not reader.wait_for_boot(Deadline.after(0.05), begun=begun).spoke
        # What comes first can be of before a reset; firmware says more than one thing.
        for pause in (0.05, 0.15):
            threading.Timer(pause, chatter, (theirs, b"BdsDxe: loading Boot0001\r\n")).start()
        assert reader.wait_for_boot(Deadline.after(1), begun=begun).spoke


def test_news_of_a_reset_that_comes_late_costs_no_boot(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    line = b'BOOTMATRIX up boot=%d bios-vendor="" bios-version="" disk="A"\r\n'
    up = line % 2
    late: list[bool] = [False]

    def begun() -> bool:
        return late[0]

    with theirs, Console(ours, tmp_path / "console.log") as reader:
        chatter(theirs, b"SeaBIOS (version 1.14.0-2)\r\n", up)
        threading.Timer(0.1, lambda: late.__setitem__(0, True)).start()
        seen = reader.wait_for_boot(Deadline.after(0.3), begun=begun)
        assert seen.up is not None
        assert seen.banners == ("1.14.0-2",)
        # and what never began did not come up
        chatter(theirs, b"SeaBIOS (version 1.14.0-2)\r\n", up)
        assert reader.wait_for_boot(Deadline.after(0.1), begun=lambda: False).up is None
        # unless its line counts one boot more: then nobody has to wait for the news
        chatter(theirs, b"SeaBIOS (version 6.6.6)\r\n", line % 2,
                b"SeaBIOS (version 1.14.0-2)\r\n", line % 3, b"SeaBIOS (version 6.6.6)\r\n")
        seen = reader.wait_for_boot(Deadline.after(60), begun=lambda: False, counter=2)
        assert seen.banners == ("1.14.0-2",)
        assert seen.up is not None
        assert seen.up.boot == 3


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
    assert record.verdict is verdict, record.reason
    if verdict is not Verdict.PASS:
        assert "the ROM's bytes are sha256:" in record.reason


def run_firmware(runner: RunnerWith, tmp_path: Path, image: bytes, seconds: float) -> RunRecord:
    path = tmp_path / "firmware.bin"
    path.write_bytes(image)
    runner.firmware["sid"] = FirmwareBuild("hostile", "0" * 64, len(image), path)
    return runner.run(cell("sid", "stock", "cold-boot", seconds=seconds))


def test_a_firmware_that_resets_for_ever(runner: RunnerWith, tmp_path: Path) -> None:
    """An event each time, thousands a second."""
    reset = b"\xba\xf9\x0c\xb0\x06\xee\xeb\xf8"  # mov dx, 0cf9h; mov al, 6; out dx, al; again
    record = run_firmware(runner, tmp_path, bytes(256 * 1024 - 16) + reset + bytes(8), 1.5)
    assert record.verdict is Verdict.SILENT, record.reason
    assert record.seconds < 6
    assert runner.run(cell("bullseye", "stock", "cold-boot")).verdict is Verdict.PASS


def test_a_firmware_that_says_the_guest_is_up(
    runner: RunnerWith, store: ImageStore, tmp_path: Path
) -> None:
    """By the line of another: its own banner is missing, and its bytes are not the known ones."""
    old = store.firmware("seabios-1.17.0-1").path.read_bytes()
    forged = old.replace(b"SeaBIOS (version %s)\n", b"BOOTMATRIX up boot=1\n")
    assert forged != old
    record = run_firmware(runner, tmp_path, forged, 1.5)
    assert record.verdict is not Verdict.PASS


# ---- QEMUs that misbehave --------------------------------------------------------------------


def wrap(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Start each QEMU by a shell script, which has QEMU's command line as its arguments."""
    qemu_argv = cmdline.qemu_argv
    monkeypatch.setattr(scenario, "qemu_argv", lambda launch: (
        "/bin/busybox", "sh", "-c", script, "sh", *qemu_argv(launch)))


def test_a_qemu_that_writes_1_gb_to_its_log(
    store: ImageStore, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "/bin/busybox dd if=/dev/zero bs=1M count=1024 2>/dev/null | /bin/busybox tr '\\0' x"
    wrap(monkeypatch, f"{{ {noise} >&2; echo done >/cell/noise; }} & exec \"$@\"")
    with Runner(Builds(store), engine, tmp_path) as runner:
        record = runner.run(cell("sid", "stock", "reset"))
    assert record.verdict is Verdict.PASS, record.reason
    log = tmp_path / record.artifacts / "1-source" / "qemu.log"
    assert log.stat().st_size <= FILE_BYTES


def test_a_qemu_that_does_not_end(runner: RunnerWith, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when it is asked to, nor by SIGTERM; its guest has moved on, which is what counts."""
    monkeypatch.setattr("harness.vm.QUIT_SECONDS", 1.0)
    wrap(monkeypatch, "trap '' TERM INT HUP; \"$@\"; /bin/busybox sleep 1000")
    record = runner.run(cell("bullseye sid", "stock"))
    assert record.verdict is Verdict.PASS, record.reason


def test_a_qemu_that_closes_its_monitor(
    runner: RunnerWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rig cannot go on without it: no finding about the firmware."""
    taken: list[socket.socket] = []
    begin = Monitor.__init__

    def keep(self: Monitor, sock: socket.socket, *arguments: Any) -> None:
        taken.append(sock.dup())
        begin(self, sock, *arguments)

    reset = scenario.Guest.reset

    def close_then_reset(self: scenario.Guest, *arguments: Any, **more: Any) -> object:
        for sock in taken:
            sock.shutdown(socket.SHUT_RDWR)
        return reset(self, *arguments, **more)

    monkeypatch.setattr(Monitor, "__init__", keep)
    monkeypatch.setattr(scenario.Guest, "reset", close_then_reset)
    record = runner.run(cell("sid", "stock", "reset"))
    for sock in taken:
        sock.close()
    assert record.verdict is Verdict.ERROR
    assert "monitor" in record.reason


Wrapped = Callable[[cmdline.Launch], Sequence[str]]


def test_the_scratch_holds_nothing_of_it_afterwards(runner: RunnerWith, tmp_path: Path) -> None:
    """A guest's directory full of what it likes: removed before the next cell."""
    scratch = tmp_path / "scratch-main"
    (scratch / "deep" / "er").mkdir(parents=True)
    (scratch / "link").symlink_to("/etc")
    (scratch / "deep" / "up").symlink_to("..")
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record.verdict is Verdict.PASS
    assert list(scratch.iterdir()) == []
    assert Path("/etc/passwd").exists()
    assert shutil.which("sh")
