"""A QEMU process from outside: its sockets, its end, its words. The process is a fake."""

from __future__ import annotations

import gc
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.engines.scratch import QEMU_LOG, Scratch
from bootmatrix.errors import CellError, DeadlineExceeded, HarnessError, QemuError
from bootmatrix.machines.qemu.process import VM, Qemu, listen
from bootmatrix.model import QemuBuild
from helpers.descriptors import many_open

BUILD = QemuBuild("q", "5.2.0", "0123456789abcdef" * 4, Path())
ARGV = ("qemu", "-S")


class Program:
    """A process that runs until it is told otherwise; it is this test's."""

    argv = ARGV

    def __init__(self) -> None:
        self.status: int | None = None
        self.ours: bool | None = True
        self.killed = False

    def poll(self) -> int | None:
        return self.status

    def wait(self, deadline: Deadline) -> int:
        if self.status is None:
            raise DeadlineExceeded("it runs")
        return self.status

    def includes(self, pid: int, deadline: Deadline) -> bool | None:
        assert pid == os.getpid()
        return self.ours

    def kill(self) -> None:
        self.killed = True
        self.status = 137


class Sandbox:
    """Where it is launched."""

    def __init__(self, shown: Path) -> None:
        self.shown = shown
        self.program = Program()
        self.fails = False

    def launch(self, argv: tuple[str, ...], log: Path) -> Program:
        assert argv == ARGV
        if self.fails:
            raise CellError("no")
        log.write_text("qemu: warning\n")
        return self.program


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(seconds)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    with Scratch(tmp_path / "scratch") as scratch:
        yield scratch


@pytest.fixture
def sandbox(scratch: Scratch) -> Any:
    return Sandbox(scratch.shown(BUILD))


@pytest.fixture
def qemu(sandbox: Any, scratch: Scratch) -> Iterator[Qemu]:
    with Qemu("1-source", sandbox, ARGV, scratch, "1-source", ["monitor"]) as qemu:
        yield qemu


def connected(qemu: Qemu, kind: str = "monitor", seconds: float = 60.0) -> socket.socket:
    """The other end, as QEMU makes it."""
    other = socket.socket(socket.AF_UNIX)
    other.settimeout(seconds)
    directory = os.open(qemu._shown, os.O_RDONLY | os.O_DIRECTORY)  # its name may be too long
    try:
        other.connect(f"/proc/self/fd/{directory}/{kind}.sock")
    except OSError:
        other.close()
        raise
    finally:
        os.close(directory)
    return other


def test_where_things_are_inside_and_outside(qemu: Qemu, scratch: Scratch) -> None:
    assert (qemu.inside, qemu.listening) == ("/cell/1-source", "/tmp/bootmatrix/1-source")
    assert qemu.private == scratch.private / "1-source"
    assert qemu.file("x") == "1-source/x"
    assert qemu.log_tail() == "qemu: warning\n"
    assert qemu.log_tail(3) == "ng\n", "one line is told as far as it goes"
    (scratch.cell.path / "1-source/qemu.log").write_text(
        "qemu: warning: TCG doesn't support requested feature: x\nqemu: it is that\n")
    assert qemu.log_tail(50) == "qemu: it is that\n", "the end of a warning is no complaint"


def test_it_ends_with_its_owner(qemu: Qemu, sandbox: Any) -> None:
    assert qemu.alive
    qemu.close()
    assert sandbox.program.killed
    with pytest.raises(OSError, match=r"refused|No such file"):
        connected(qemu)


def test_what_is_not_launched_leaves_no_socket(sandbox: Any, scratch: Scratch) -> None:
    sandbox.fails = True
    with pytest.raises(CellError):
        Qemu("1-source", sandbox, ARGV, scratch, "1-source", ["monitor"])
    assert not list(sandbox.shown.rglob("*.sock"))


def test_a_connection_is_qemu_s_and_brings_its_clock(qemu: Qemu) -> None:
    with pytest.raises(HarnessError, match="not connected yet"):
        _ = qemu.clock
    with connected(qemu) as other, qemu.connection("monitor", soon()) as ours:
        other.sendall(b"hello")
        assert ours.recv(5) == b"hello"
        assert qemu.clock.seen
        assert qemu.clock.deadline(60).remaining > 0


def test_a_connection_beyond_the_descriptors_of_select(sandbox: Any, scratch: Scratch) -> None:
    with (many_open(), Qemu("1-source", sandbox, ARGV, scratch, "1-source", ["monitor"]) as qemu,
          qemu.listen("more") as listener, connected(qemu, "more") as other,
          qemu.accept(listener, soon()) as connection):
        connection.sendall(b"x")
        assert other.recv(1) == b"x"


def test_another_process_s_connection_is_refused(qemu: Qemu, sandbox: Any) -> None:
    sandbox.program.ours = False
    with connected(qemu) as other:
        with pytest.raises(CellError, match=(
                rf"another process than its QEMU, pid {os.getpid()}, has connected to monitor\.s")):
            qemu.connection("monitor", soon())
        assert other.recv(1) == b"", "it is closed"


def test_of_a_process_that_has_ended_the_next_connection_counts(
    qemu: Qemu, sandbox: Any
) -> None:
    answers = iter([None, True])
    sandbox.program.includes = lambda pid, deadline: next(answers)
    with connected(qemu) as first, connected(qemu) as second, \
            qemu.connection("monitor", soon()) as ours:
        assert first.recv(1) == b""
        ours.sendall(b"x")
        assert second.recv(1) == b"x"


def test_where_its_directory_has_gone_no_socket_is_left_open(
    qemu: Qemu, sandbox: Any, tmp_path: Path
) -> None:
    gc.collect()  # what other tests left
    fds = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError), listen(tmp_path / "gone" / "monitor.sock"):
        pass
    gc.collect()  # a socket that nobody has closed is an error of this suite's
    assert len(list(Path("/proc/self/fd").iterdir())) == fds


class Pest(threading.Thread):
    """Connects again and again, in the name of one that has ended."""

    def __init__(self, qemu: Qemu) -> None:
        super().__init__()
        self._qemu = qemu
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):  # nobody takes it any more
                connected(self._qemu, seconds=0.05).close()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self.join()


def test_who_connects_again_and_again_does_not_keep_it_from_its_deadline(
    qemu: Qemu, sandbox: Any
) -> None:
    sandbox.program.ours = None
    with Pest(qemu), pytest.raises(DeadlineExceeded, match="QEMU's connection to"):
        qemu.connection("monitor", soon(0.5))


def test_who_connects_again_and_again_does_not_hide_that_qemu_has_ended(
    qemu: Qemu, sandbox: Any
) -> None:
    sandbox.program.ours = None
    sandbox.program.includes = lambda pid, deadline: setattr(sandbox.program, "status", 1)
    with Pest(qemu), pytest.raises(QemuError, match="QEMU ended before it was ready"):
        qemu.connection("monitor", soon())


def test_a_qemu_that_ends_has_last_words_and_a_status(qemu: Qemu, sandbox: Any) -> None:
    sandbox.program.status = 1
    with pytest.raises(QemuError, match="QEMU ended before it was ready") as raised:
        qemu.connection("monitor", soon())
    assert (raised.value.status, raised.value.tail) == (1, "qemu: warning\n")
    assert not qemu.alive
    assert not qemu.outlives(soon())


def test_a_qemu_that_never_connects_is_named(qemu: Qemu) -> None:
    with pytest.raises(DeadlineExceeded, match=r"1-source: QEMU's connection to .*monitor\.sock"):
        qemu.connection("monitor", soon(0.05))


def test_its_log_is_read_as_text_whatever_it_is(qemu: Qemu, scratch: Scratch) -> None:
    (scratch.cell.path / "1-source" / QEMU_LOG).write_bytes(b"\xff\xfeok")
    assert qemu.log_tail().endswith("ok")


def test_one_that_succeeds_another_is_its_process_from_then_on(
    qemu: Qemu, sandbox: Any, scratch: Scratch
) -> None:
    with Qemu("2", sandbox, ARGV, scratch, "2", ["monitor"], launched=False) as heir:
        assert heir.alive, "it is still to come"
        with pytest.raises(DeadlineExceeded):
            heir.process.wait(soon(0))
        heir.succeed(qemu)
        assert (heir.process, heir.log_tail()) == (sandbox.program, "qemu: warning\n")
        assert not qemu.alive
        assert qemu.process.wait(soon()) == 0
        qemu.close()
        assert not sandbox.program.killed, "it is another's"
        with connected(heir), heir.connection("monitor", soon()):
            assert heir.pid == os.getpid()
    assert sandbox.program.killed


def test_one_that_never_had_a_process_has_none_to_end(sandbox: Any, scratch: Scratch) -> None:
    with Qemu("2", sandbox, ARGV, scratch, "2", ["monitor"], launched=False):
        pass
    assert not sandbox.program.killed
    assert not list(sandbox.shown.rglob("*.sock"))


# ---- with its console and monitor ----------------------------------------------------------------


class Other:
    """The other ends of a VM's sockets: a monitor that answers, and a console."""

    def __init__(self, vm: VM) -> None:
        self.console = connected(vm, "console")
        self.monitor = connected(vm)
        self.state = "running"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def event(self, name: str) -> None:
        self._say(f'{{"event": "{name}", "data": {{}}, "timestamp": {{"seconds": 1, '
                  '"microseconds": 0}}')

    def close(self) -> None:
        for end in (self.console, self.monitor):
            end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for end in (self.console, self.monitor):
            end.close()

    def _say(self, text: str) -> None:
        self.monitor.sendall(text.encode() + b"\r\n")

    def _serve(self) -> None:
        self._say('{"QMP": {"version": {}, "capabilities": []}}')
        while said := self.monitor.recv(1 << 16):
            asked = json.loads(said)
            answer = {"status": self.state} if asked["execute"] == "query-status" else {}
            self._say(json.dumps({"return": answer, "id": asked.get("id")}))


@pytest.fixture
def pair(sandbox: Any, scratch: Scratch) -> Iterator[tuple[VM, Other]]:
    with ExitStack() as stack:
        vm = stack.enter_context(VM("1-source", sandbox, ARGV, scratch, "1-source"))
        other = Other(vm)
        stack.callback(other.close)
        vm.connect(soon())
        yield vm, other


def test_before_it_is_connected_there_is_no_console(sandbox: Any, scratch: Scratch) -> None:
    with VM("1-source", sandbox, ARGV, scratch, "1-source") as vm:
        for end in ("console", "monitor"):
            with pytest.raises(HarnessError, match="not connected yet"):
                getattr(vm, end)
        assert not vm.stopped


def test_a_guest_that_qemu_has_stopped(pair: tuple[VM, Other]) -> None:
    vm, other = pair
    mark = vm.monitor.mark()
    other.event("STOP")
    vm.monitor.wait("STOP", since=mark, deadline=soon())
    assert not vm.stopped, "it runs: somebody else has stopped it, and goes on"
    other.state = "internal-error"
    assert vm.stopped


def test_resets_are_counted_from_the_last_boot_on(pair: tuple[VM, Other]) -> None:
    vm, other = pair
    for number in range(1, 4):
        mark = vm.monitor.mark()
        other.event("RESET")
        vm.monitor.wait("RESET", since=mark, deadline=soon())
        assert vm.resets == number
    vm.resets_before = vm.monitor.resets
    assert vm.resets == 0


def test_notes_of_one_that_was_seen_and_said_no_more_than_is_kept(pair: tuple[VM, Other]) -> None:
    assert pair[0].notes() == {}


def test_the_pid_is_that_of_who_connected(qemu: Qemu) -> None:
    with connected(qemu) as other, qemu.connection("monitor", soon()) as ours:
        seen = ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        assert struct.unpack("3i", seen)[0] == os.getpid()
        assert other.fileno() >= 0
