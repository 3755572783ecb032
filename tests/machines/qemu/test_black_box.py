"""The black box of a QEMU that says what it likes, or nothing: bounded in time and in length."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.engines.scratch import FIRMWARE_LOG
from bootmatrix.files.cell_files import CellDir
from bootmatrix.machines.qemu import black_box
from bootmatrix.machines.qemu.black_box import SECONDS, SECTION_LENGTH, explain
from bootmatrix.machines.qemu.command_line import DEBUG_LOG_BYTES, debug_log
from bootmatrix.machines.qemu.monitor import Monitor
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import Arch
from bootmatrix.witnesses.observation import BlackBox

Answers = Callable[[str, dict[str, Any]], Any]
"""To a command with its arguments; None: there is none."""

REGISTERS = ("\nCPU#0\nEIP=0000e05b EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\n"
             "CS =f000 000f0000 0000ffff 00009b00\nCR0=00000010 CR2=00000000\n"
             "FPR0=0000000000000000 0000\n")


class Qemu:
    """The other end of a monitor, in a thread."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.ours, self._theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _serve(self) -> None:
        with self._theirs, contextlib.suppress(OSError):
            self._say({"QMP": {"version": {}, "capabilities": []}})
            said, decoder = "", json.JSONDecoder()
            # Without line ends, and several at once where one was not waited for.
            while more := self._theirs.recv(1 << 16):
                said += more.decode()
                while said:
                    asked, end = decoder.raw_decode(said)
                    said = said[end:]
                    self._answer(asked)

    def _answer(self, asked: dict[str, Any]) -> None:
        command = asked["execute"]
        answer = {} if command == "qmp_capabilities" else self._answers(
            command, asked.get("arguments", {}))
        if answer is not None:
            self._say({"return": answer} | {key: asked[key] for key in ("id",) if key in asked})

    def _say(self, what: object) -> None:
        self._theirs.sendall(json.dumps(what).encode() + b"\n")


@pytest.fixture
def said_by(tmp_path: Path) -> Iterator[Callable[[Answers], BlackBox]]:
    """The black box of a QEMU with these answers."""
    opened = contextlib.ExitStack()

    def look(answers: Answers) -> BlackBox:
        qemu = Qemu(answers)
        opened.callback(qemu.close)
        monitor = Monitor(qemu.ours, "1-source", Deadline.after(60))
        opened.callback(lambda: monitor.close(Deadline.after(60)))
        cell = opened.enter_context(CellDir(tmp_path))
        vm = cast(VM, SimpleNamespace(
            name="1-source", monitor=monitor, private=tmp_path, argv=("qemu", *debug_log()),
            inside="/cell", file=lambda name: name,
            clock=SimpleNamespace(deadline=Deadline.after), scratch=SimpleNamespace(cell=cell)))
        begun = time.monotonic()
        box = explain(vm, Arch.X86_64, begun - 5.0)
        assert time.monotonic() - begun < SECONDS + 60, "it has a bound"
        return box

    with opened:
        yield look


def halted(command: str, arguments: dict[str, Any]) -> Any:
    """A machine that has halted, which does all that it is told."""
    if command == "query-status":
        return {"status": "running", "running": True}
    line = str(arguments.get("command-line", ""))
    return {"info registers -a": REGISTERS, "info pci": "  Bus  0, device   0",
            "info pic": "unknown command: 'info pic'\r\n"}.get(line, "")


def test_it_says_what_the_cpu_does_and_the_rest_below(
    said_by: Callable[[Answers], BlackBox]
) -> None:
    box = said_by(halted)
    assert box.line.startswith("halted with interrupts off at F000:E05B")
    assert box.text.startswith(f"1-source, 5.0 s after the step began\n\n{box.line}\n\n== where")
    assert "x F000:E05B" in box.text
    assert "== info pci\n  Bus  0, device   0" in box.text
    assert "info pic" not in box.text, "there is none"
    assert "FPR0" not in box.text


def test_who_does_not_answer_has_that_in_his_black_box(
    said_by: Callable[[Answers], BlackBox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(black_box, "SECONDS", 0.05)
    box = said_by(lambda command, arguments: None)
    assert box.line == "the monitor does not answer within 0.05 s"
    assert box.text == f"1-source, 5.0 s after the step began\n\n{box.line}\n"


@pytest.mark.usefixtures("ample")
def test_who_says_nothing_more_than_that_it_runs_is_no_error(
    said_by: Callable[[Answers], BlackBox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(black_box, "_ANSWER_SECONDS", 0.05)
    asked: list[str] = []

    def silent(command: str, arguments: dict[str, Any]) -> Any:
        asked.append(command)
        return halted(command, arguments) if len(asked) == 1 else None

    box = said_by(silent)
    assert box.line == "the registers cannot be read"
    assert box.blind
    assert "\n\n== no answer in time to\nthe CPU\n" in box.text


@pytest.mark.usefixtures("ample")
def test_who_falls_silent_meanwhile_keeps_what_was_found(
    said_by: Callable[[Answers], BlackBox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(black_box, "_ANSWER_SECONDS", 1.0)

    def silent(command: str, arguments: dict[str, Any]) -> Any:
        wanted = str(arguments.get("command-line", ""))
        return None if wanted in ("info pic", "info pci") else halted(command, arguments)

    box = said_by(silent)
    assert box.line.startswith("halted with interrupts off at F000:E05B")
    assert box.text.endswith("== no answer in time to\ninfo pic\ninfo pci\n")


@pytest.mark.usefixtures("ample")
@pytest.mark.parametrize(("log", "words"), [
    (b"one\nUnable to unlock ram\r\nhalf a li", '; the firmware printed "Unable to unlock ram"'),
    (b'\x1b[2J"two"\xff\n\n\n', "; the firmware printed \"[2J'two'\""),
    (b"x" * 200 + b"\n", f'; the firmware printed "{"x" * 80}"'),
    # Twice as much as was asked for.
    pytest.param(b"x\n" * DEBUG_LOG_BYTES, '; the firmware printed "x"', id="too much"),
    (b"\n" * 5000, ""),
    (b"", ""),
])
def test_the_debug_log_is_kept_and_its_last_words_are_in_the_line(
    said_by: Callable[[Answers], BlackBox], tmp_path: Path, log: bytes, words: str
) -> None:
    def prints(command: str, arguments: dict[str, Any]) -> Any:
        if command == "ringbuf-read":
            return base64.b64encode(log).decode()
        return halted(command, arguments)

    box = said_by(prints)
    # On a busy machine there is not the time for all samples, and the line says so.
    halted_at = r"halted with interrupts off at F000:E05B(, in \d+ samples?)?"
    assert re.fullmatch(halted_at + re.escape(words), box.line), box.line
    kept = tmp_path / FIRMWARE_LOG
    assert (kept.read_bytes() if kept.exists() else b"") == log[-DEBUG_LOG_BYTES:]
    assert len(box.text) < 6000


@pytest.mark.usefixtures("ample")
@pytest.mark.parametrize(("status", "goes_on"), [
    ("paused", True),
    ("prelaunch", True),  # a reset was on its way: it would stand still at every later sample
    ("debug", False),  # the swap's breakpoint
])
def test_a_guest_that_is_looked_at_goes_on(
    said_by: Callable[[Answers], BlackBox], status: str, goes_on: bool
) -> None:
    asked: list[str] = []

    def stops(command: str, arguments: dict[str, Any]) -> Any:
        asked.append(command)
        if command == "query-status":
            return {"status": status if "stop" in asked else "running"}
        return halted(command, arguments)

    said_by(stops)
    assert asked.count("stop") > 1
    assert asked.count("cont") == goes_on * (asked.count("stop") + 1), "and at the end"


def test_a_guest_that_qemu_has_stopped_is_not_let_go_on(
    said_by: Callable[[Answers], BlackBox]
) -> None:
    asked: list[str] = []

    def stopped(command: str, arguments: dict[str, Any]) -> Any:
        asked.append(command)
        if command == "query-status":
            return {"status": "internal-error", "running": False}
        return halted(command, arguments)

    assert said_by(stopped).line == (
        "QEMU has stopped the guest (internal-error): halted with interrupts off at F000:E05B")
    assert not {"stop", "cont"} & {*asked}


@pytest.mark.parametrize("said", ["\x1b[2J::error::" * 1000, 7, [], {"a": "\u202e"}],
                         ids=["long", "number", "list", "object"])
def test_hostile_answers_are_cut_and_are_not_in_the_line(
    said_by: Callable[[Answers], BlackBox], said: object
) -> None:
    def hostile(command: str, arguments: dict[str, Any]) -> Any:
        return {"status": said} if command == "query-status" else said

    box = said_by(hostile)
    assert box.line.isascii()
    assert box.line.isprintable()
    assert "::" not in box.line
    assert len(box.text) < 6 * SECTION_LENGTH


@pytest.mark.parametrize("said", [[], 7, {"running": True}], ids=["list", "number", "no status"])
def test_a_status_that_is_none_is_no_fault_of_ours(
    said_by: Callable[[Answers], BlackBox], said: object
) -> None:
    assert said_by(lambda command, arguments: said).line
