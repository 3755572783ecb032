"""How swtpm is started beside a QEMU, and which state it is given; its program is played."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.engines.scratch import Scratch
from bootmatrix.errors import DeadlineExceeded, HarnessError, TpmLost
from bootmatrix.machines.qemu import tpm


class Played:
    """A sandbox whose program listens at once, or ends with a status and last words."""

    def __init__(self, status: int | None = None, words: str = "") -> None:
        self.status, self._words = status, words
        self.argv: tuple[str, ...] = ()

    def launch(self, argv: Sequence[str], log: Path) -> Played:
        self.argv = tuple(argv)
        log.write_text(self._words)
        if self.status is None:
            log.with_name("pid").write_text("7")
        return self

    def poll(self) -> int | None:
        return self.status

    def wait(self, deadline: Deadline) -> int:
        if self.status is None:
            raise DeadlineExceeded("it runs")
        return self.status

    def kill(self) -> None:
        if self.status is None:
            self.status = 137


def start(scratch: Scratch, qemu: str, before: str = "", sandbox: Played | None = None) -> Played:
    sandbox = sandbox or Played()
    tpm.start("/usr/bin/swtpm", cast(Any, sandbox), scratch, qemu, "source", before)
    return sandbox


def beside(status: int | None, *, goes_on: bool) -> tuple[Played, tpm.Emulator]:
    """One that has ended with a status, or still runs, beside a QEMU that goes on or does not."""
    process = Played(status)
    emulator = tpm.Emulator(cast(Any, process), "source")
    emulator.goes_on = lambda: goes_on
    return process, emulator


def test_it_is_told_where_its_state_lies_and_ends_with_its_qemu(tmp_path: Path) -> None:
    with Scratch(tmp_path / "scratch") as scratch:
        argv = start(scratch, "1-source").argv
        assert (scratch.cell.path / "1-source-tpm" / "state").is_dir()
    told = dict(pairwise(argv))
    assert argv[:2] == ("/usr/bin/swtpm", "socket")
    assert told["--tpmstate"] == "dir=/cell/1-source-tpm/state"
    assert told["--ctrl"] == f"type=unixio,path={tpm.socket('1-source')}"
    assert {"--tpm2", "--terminate"} <= set(argv)
    assert "--daemon" not in argv, "nobody would know how it has ended"


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


@pytest.mark.parametrize(("status", "goes_on", "how"), [
    (137, True, "signal 9"), (137, False, "signal 9"), (0, True, "exit status 0"),
    (1, True, "exit status 1"),
])
def test_one_that_ends_before_its_qemu_is_named(status: int, goes_on: bool, how: str) -> None:
    _, emulator = beside(status, goes_on=goes_on)
    emulator.look()
    emulator.goes_on = lambda: False  # whatever comes later
    emulator.close()
    for _ in range(2):
        with pytest.raises(TpmLost) as error:
            emulator.check()
        assert str(error.value) == f"the guest's swtpm on source ended ({how})"


@pytest.mark.parametrize("status", [0, 1])
def test_one_that_ends_with_its_qemu_is_no_fault(status: int) -> None:
    """With a status of its own, too: QEMU has gone for what it has refused, which it says."""
    _, emulator = beside(status, goes_on=False)
    emulator.check()
    emulator.close()
    emulator.check()


def test_one_that_is_left_is_killed_and_has_not_ended_by_itself() -> None:
    process, emulator = beside(None, goes_on=True)
    emulator.check()
    emulator.close()
    assert process.status == 137
    emulator.check()
