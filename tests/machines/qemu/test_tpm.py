"""How swtpm is started beside a QEMU, and which state it is given; its program is played."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.engines.scratch import Scratch
from bootmatrix.errors import HarnessError
from bootmatrix.machines.qemu import tpm


class Played:
    """A sandbox whose programs end at once, with a status and last words."""

    def __init__(self, status: int = 0, words: str = "") -> None:
        self._status, self._words = status, words
        self.argv: tuple[str, ...] = ()

    def launch(self, argv: Sequence[str], log: Path) -> Played:
        self.argv = tuple(argv)
        log.write_text(self._words)
        return self

    def wait(self, deadline: Deadline) -> int:
        return self._status


def start(scratch: Scratch, qemu: str, before: str = "", sandbox: Played | None = None) -> Played:
    sandbox = sandbox or Played()
    tpm.start("/usr/bin/swtpm", cast(Any, sandbox), scratch, qemu, before)
    return sandbox


def test_it_is_told_where_its_state_lies_and_ends_with_its_qemu(tmp_path: Path) -> None:
    with Scratch(tmp_path / "scratch") as scratch:
        argv = start(scratch, "1-source").argv
        assert (scratch.cell.path / "1-source-tpm" / "state").is_dir()
    told = dict(pairwise(argv))
    assert argv[:2] == ("/usr/bin/swtpm", "socket")
    assert told["--tpmstate"] == "dir=/cell/1-source-tpm/state"
    assert told["--ctrl"] == f"type=unixio,path={tpm.socket('1-source')}"
    assert {"--tpm2", "--terminate", "--daemon"} <= set(argv)


def test_its_state_goes_with_the_guest(tmp_path: Path) -> None:
    """From where it ran last, if it has left any; it is not in two places."""
    with Scratch(tmp_path / "scratch") as scratch:
        start(scratch, "1-source")
        start(scratch, "2-destination")
        left = scratch.cell.path / "1-source-tpm" / "state" / "tpm2-00.permall"
        left.write_text("state")
        start(scratch, "3-source", before="1-source")
        came = scratch.cell.path / "3-source-tpm" / "state" / "tpm2-00.permall"
        assert (came.read_text(), left.exists()) == ("state", False)
        start(scratch, "4-source", before="2-destination")
        assert not list((scratch.cell.path / "4-source-tpm" / "state").iterdir())


def test_one_that_does_not_start_is_a_broken_rig(tmp_path: Path) -> None:
    with Scratch(tmp_path / "scratch") as scratch, pytest.raises(HarnessError) as error:
        start(scratch, "1-source", sandbox=Played(1, "swtpm: Could not open TCP socket\n"))
    assert error.value.message == "the TPM of 1-source does not start"
    assert "Could not open" in str(error.value)
