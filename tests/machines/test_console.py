"""A console on which nothing comes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.machines import console
from bootmatrix.machines.console import Console


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


def test_what_nobody_reads_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_UNREAD_SECONDS", 0.01)
    ours, theirs = socket.socketpair()
    with theirs, Console(ours, tmp_path / "log") as writer:
        assert writer.send(b"a")
        assert theirs.recv(9) == b"a"
        assert not writer.send(bytes(16 << 20))
