"""A console on which nothing comes."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.machines import console
from bootmatrix.machines.console import BANNERS, Console
from bootmatrix.model import GuestKind, OwnDisk, OwnGuest


def test_what_will_not_come_is_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has come before is read all the same."""
    monkeypatch.setattr(console, "_PAUSE_SECONDS", 0.01)
    ours, theirs = socket.socketpair()
    deadline = Deadline.after(60)
    with theirs, Console(ours, tmp_path / "log", hopeless=lambda: True) as reader:
        theirs.sendall(b"SeaBIOS (version 1.17.0)\r\n")
        seen = reader.wait_for_boot(deadline)
        assert (seen.banners, seen.up, seen.ended) == (("1.17.0",), None, False)
        assert reader.ask(deadline) is None
    assert not deadline.expired


@pytest.mark.parametrize("banners", [0, 1, 99])
def test_a_boot_is_given_up_by_whom_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, banners: int
) -> None:
    """Where nothing comes, and where the same comes again and again; what comes later is read."""
    monkeypatch.setattr(console, "_PAUSE_SECONDS", 0.01)
    ours, theirs = socket.socketpair()
    with theirs, Console(ours, tmp_path / "log") as reader:
        theirs.sendall(banners * b"SeaBIOS (version 1.17.0)\r\n")
        seen = reader.wait_for_boot(Deadline.after(60), given_up=lambda: True)
        assert (seen.up, seen.ended, len(seen.banners)) == (None, False, min(banners, BANNERS))
        theirs.sendall(b'BOOTMATRIX up boot=1 bios-vendor="SeaBIOS" bios-version="1" disk="A"\r\n')
        assert reader.wait_for_boot(Deadline.after(60)).up is not None


def test_what_nobody_reads_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_UNREAD_SECONDS", 0.01)
    ours, theirs = socket.socketpair()
    with theirs, Console(ours, tmp_path / "log") as writer:
        assert writer.send(b"a")
        assert theirs.recv(9) == b"a"
        assert not writer.send(bytes(16 << 20))


@pytest.mark.parametrize(("said", "spoke"), [
    ("", False), ("SeaBIOS (version 1.17.0)\r\n\r\nPress ESC for boot menu.\r\n", False),
    ("SeaBIOS (version 1.17.0)\r\nBOOTMATRIX up boot=1\r\n", True),
    ("SeaBIOS (version 1.17.0)\r\nBooting...\r\nBOOTM", True),
    ("SeaBIOS (version 1)\r\nBOOTMATRIX up boot=1\r\nSeaBIOS (version 1)\r\nBooting\r\n", False),
])  # fmt: skip
@pytest.mark.parametrize("closed", [False, True])
def test_whether_the_guest_of_the_last_boot_has_spoken(
    tmp_path: Path, said: str, spoke: bool, closed: bool
) -> None:
    """Be it in the middle of its word, and that it was not read by anybody."""
    ours, theirs = socket.socketpair()
    with theirs, Console(ours, tmp_path / "log") as reader:
        theirs.sendall(said.encode())
        if closed:
            reader.close()
        assert reader.guest_spoke() is spoke


def test_a_panic_ends_the_wait(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    deadline = Deadline.after(60)
    with theirs, Console(ours, tmp_path / "log") as reader:
        theirs.sendall(b"SeaBIOS (version 1.17.0)\r\n[    1.5] Kernel panic - not syncing: "
                       b"IO-APIC + timer doesn't work!\r\n")
        seen = reader.wait_for_boot(deadline)
        assert (seen.up, seen.ended, seen.banners) == (None, False, ("1.17.0",))
        assert seen.panic == "Kernel panic - not syncing: IO-APIC + timer doesn't work!"
        theirs.sendall(b"Kernel panic - not syncing: later\r\n")
        assert reader.ask(deadline) is None
        assert reader.panic == "Kernel panic - not syncing: later"
    assert not deadline.expired


def own(**more: Any) -> OwnGuest:
    return OwnGuest("mine", GuestKind.DISK, None, OwnDisk(Path("x")), "login: ", **more)


def test_a_guest_that_is_not_ours_is_up_by_its_word_and_asked_by_enter(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs, Console(ours, tmp_path / "log", guest=own()) as reader:
        theirs.sendall(b"SeaBIOS (version 1.17.0)\r\nhost login: ")
        seen = reader.wait_for_boot(Deadline.after(60))
        assert seen.banners == ("1.17.0",)
        assert seen.up is not None
        assert seen.up.foreign
        theirs.sendall(b"\r\nhost login: ")  # which nobody has asked for
        assert reader.ask(Deadline.after(0)) is None
        assert theirs.recv(9) == b"\r"
        with getty(theirs, {b"\r": b"\r\nhost login: "}):
            answer = reader.ask(Deadline.after(60))
        assert answer is not None
        assert (answer.kind, answer.foreign) == ("here", True)


def test_at_a_prompt_enter_is_typed_once_the_space_before_it_is_echoed(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs, Console(ours, tmp_path / "log", guest=GuestKind.PROMPT) as reader:
        menu = threading.Thread(target=s390_ccw, args=(theirs,))
        menu.start()
        assert reader.ask(Deadline.after(10)) is not None
        menu.join()


def s390_ccw(wire: socket.socket) -> None:
    """Its menu, until an Enter: of what has come at once it takes the first key, and echoes it."""
    typed = b""
    while (key := wire.recv(9)[:1]) != b"\r":
        if not key:
            return
        typed += key
        wire.sendall(key)
    wire.sendall(b"\r\nError: undefined configuration\r\nPlease choose:\r\n" if typed else
                 b"\r\nBooting entry #0\r\n")


@contextmanager
def getty(wire: socket.socket, says: dict[bytes, bytes]) -> Iterator[list[bytes]]:
    """Something that echoes what is typed, and says something to some of the lines."""
    heard: list[bytes] = []

    def serve() -> None:
        line = b""
        while b"exit" not in heard and (byte := wire.recv(1)):
            line += byte
            if byte == b"\r":
                text = says.get(line, b"")
                if number := re.match(rb"echo \"=\$\(\((\d+)\+0\)\)=", line):
                    text = says[b"command"] % number[1] if b"secret" in heard else b"Password: "
                wire.sendall(line + b"\n" + text)
                heard.append(line.strip())
                line = b""
                if len(says) == 1:
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    yield heard
    thread.join()


@pytest.mark.parametrize("logs_in", [True, False])
def test_the_version_in_smbios_is_what_a_command_prints(tmp_path: Path, logs_in: bool) -> None:
    login = (("login: ", "root"), ("Password: ", "secret")) if logs_in else ()
    ours, theirs = socket.socketpair()
    says = {b"\r": b"host login: ", b"root\r": b"Password: ", b"secret\r": b"# ",
            b"command": b"=%b=1.17.0-1\r\n# ", b"exit\r": b"host login: "}
    guest = own(smbios="dmidecode -s bios-version", login=login)
    with theirs, Console(ours, tmp_path / "log", guest=guest) as reader:
        theirs.sendall(b"SeaBIOS (version 1.17.0-1)\r\nhost login: ")
        with getty(theirs, says) as heard:
            if not logs_in:
                heard.append(b"secret")
            seen = reader.wait_for_boot(Deadline.after(60))
            theirs.sendall(b"")
            reader.send(b"exit\r")
        assert seen.up is not None
        assert seen.up.bios_version == "1.17.0-1"
        assert heard[0] == (b"" if logs_in else b"secret")
        assert (b"root" in heard) is logs_in
