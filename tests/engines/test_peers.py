"""Which process has connected, and whether it is a program's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.engines import peers
from bootmatrix.engines.peers import descends, hold, lives, peer


def test_the_kernel_says_who_has_connected(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(tmp_path / 's')!r})"
        with subprocess.Popen([sys.executable, "-c", code]) as child:
            connection, _ = listening.accept()
            with connection:
                assert peer(connection) == child.pid


def test_one_of_this_host_is_of_no_sandbox() -> None:
    assert descends(os.getpid(), 1, INODE) is False


def test_one_that_has_ended_is_nobody() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    assert descends(child.pid, 1, INODE) is None


# In a namespace of pids whose inode is that, a program has the pid 3.
INODE = 4026532000


@pytest.mark.parametrize(("pid", "found"), [
    (30, True), (20, True), (60, False), (50, False), (40, False), (10, False), (70, False),
    (99, None),
])  # fmt: skip
def test_children_of_a_program_are_its_own(
    monkeypatch: pytest.MonkeyPatch, pid: int, found: bool | None
) -> None:
    # pid here: pids in the namespaces, parent, inode of the innermost
    table: dict[int, tuple[str, int, int | None]] = {
        10: ("10", 1, 1), 20: ("20 3", 10, INODE), 30: ("30 7", 20, INODE),
        40: ("40 2", 10, INODE),
        50: ("50 3", 10, INODE + 1), 60: ("60 7", 50, INODE + 1),  # another sandbox, the same pids
        70: ("70 3", 10, None),  # one that does not let itself be looked at
    }  # fmt: skip

    class Proc:
        def __init__(self, path: str) -> None:
            self._pid = int(path.split("/")[2])

        def __truediv__(self, name: str) -> Proc:
            return self

        def read_bytes(self) -> bytes:
            if self._pid not in table:
                raise FileNotFoundError
            pids, parent, _ = table[self._pid]
            status = f"NSpid:\t{pids.replace(' ', chr(9))}\nPPid:\t{parent}\n"
            return b"Name:\t\xff\xfe\n" + status.encode()

        def stat(self) -> SimpleNamespace:
            inode = table[self._pid][2]
            if inode is None:
                raise PermissionError
            return SimpleNamespace(st_ino=inode)

    fake: Any = Proc
    monkeypatch.setattr(peers, "Path", fake)
    assert descends(pid, 3, INODE) is found


@pytest.mark.parametrize("newer", [True, False])
def test_who_has_connected_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newer: bool
) -> None:
    if not newer:  # a kernel before Linux 6.5: no such option
        monkeypatch.setattr(peers, "_SO_PEERPIDFD", 9999)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        code = (f"import socket, sys; s = socket.socket(socket.AF_UNIX); "
                f"s.connect({str(tmp_path / 's')!r}); sys.stdin.read()")
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
            connection, _ = listening.accept()
            with connection:
                process = hold(connection)
                assert process is not None
                assert lives(process)
                child.communicate()
                assert not lives(process)
                os.close(process)
                assert not may_live(connection)


def may_live(connection: socket.socket) -> bool:
    """Whether it can still be held; newer kernels name even a process that is buried."""
    try:
        process = hold(connection)
    except ProcessLookupError:
        return False
    assert process is not None
    try:
        return lives(process)
    finally:
        os.close(process)
