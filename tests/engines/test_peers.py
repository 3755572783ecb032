"""Which process has connected, and whether it is a program's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.engines import peers
from bootmatrix.engines.peers import descends, peer


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
    assert descends(os.getpid(), 1) is False


def test_one_that_has_ended_is_nobody() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    assert descends(child.pid, 1) is None


@pytest.mark.parametrize(("pid", "ancestor", "found"), [
    (30, 7, True), (30, 3, True), (20, 7, False), (40, 3, False), (10, 3, False), (99, 3, None),
])
def test_children_of_a_program_are_its_own(
    monkeypatch: pytest.MonkeyPatch, pid: int, ancestor: int, found: bool | None
) -> None:
    # pid here, pids in the namespaces, parent; 40 is in another sandbox with the same pids
    table = {10: ("10", 1), 20: ("20 3", 10), 30: ("30 7", 20), 40: ("40 2", 10)}

    class Proc:
        def __init__(self, path: str) -> None:
            self._pid = int(path.split("/")[2])

        def read_text(self) -> str:
            if self._pid not in table:
                raise FileNotFoundError
            pids, parent = table[self._pid]
            return f"Name:\tx\nNSpid:\t{pids.replace(' ', chr(9))}\nPPid:\t{parent}\n"

    fake: Any = Proc
    monkeypatch.setattr(peers, "Path", fake)
    assert descends(pid, ancestor) is found
