"""A console on which nothing comes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.machines import console
from bootmatrix.machines.console import BANNERS, Console


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
    assert not deadline.expired


def test_a_guest_that_is_not_ours_is_up_by_its_word_and_asked_by_enter(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs, Console(ours, tmp_path / "log", up="login: ") as reader:
        theirs.sendall(b"SeaBIOS (version 1.17.0)\r\nhost login: ")
        seen = reader.wait_for_boot(Deadline.after(60))
        assert seen.banners == ("1.17.0",)
        assert seen.up is not None
        assert seen.up.foreign
        assert reader.ask(Deadline.after(0)) is None
        theirs.sendall(b"\r\nhost login: ")
        answer = reader.ask(Deadline.after(60))
        assert answer is not None
        assert (answer.kind, answer.foreign) == ("here", True)
        assert theirs.recv(9) == b"\r\r"
