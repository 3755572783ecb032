"""A guest with a TPM on real QEMUs: swtpm, OVMF, and what becomes of a secret that is sealed."""

from __future__ import annotations

import itertools
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cell import Cell
from bootmatrix.machines.qemu import tpm
from bootmatrix.model import Disk, HostSpec, Tpm, Verdict
from bootmatrix.policies import Policy
from bootmatrix.run.runner import Runner
from bootmatrix.run.steps import DEEDS
from bootmatrix.steps.library import LIBRARY, parse
from bootmatrix.witnesses.observation import StepObserved
from helpers.leavings import processes

# Two QEMUs with two firmware, and two versions of swtpm.
HOSTS = tuple(HostSpec(suite, f"debian-{suite}", "ovmf-4m") for suite in ("trixie", "sid"))
SECONDS = 120.0
"""Patience: OVMF boots in 3 to 4 s on an idle machine."""


def cell(policy: Policy, scenario: str, kind: Tpm) -> Cell:
    return Cell(HOSTS, "pc-q35-10.0", policy, LIBRARY[scenario], Disk.IDE, seconds=SECONDS,
                tpm=kind)


def emulators(place: Path) -> list[int]:
    """The swtpms that know a directory."""
    return [pid for pid in processes(place)
            if Path(f"/proc/{pid}/comm").read_text() == "swtpm\n"]


def told(record: Any) -> list[tuple[str, str]]:
    """Of each boot the secret, and the beginning of PCR 0."""
    return [(boot["tpm"]["secret"], boot["tpm"]["pcrs"]["0"]) for boot in record["boots"]]


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The swtpms that there are when a guest has migrated."""
    running: list[int] = []
    do = DEEDS["migrate"]

    def looking(*args: Any) -> StepObserved:
        seen = do(*args)
        running.extend(emulators(tmp_path))
        return seen

    monkeypatch.setitem(DEEDS, "migrate", looking)
    return running


def test_a_guest_seals_a_secret_and_takes_its_tpm_along(
    runner: Runner, tmp_path: Path, running: list[int]
) -> None:
    moves = replace(cell(Policy.MACHINE_OWNED, "migrate-reset", Tpm.CRB),
                    scenario=parse("own", ["start", "migrate"]))
    record = runner.run(moves)
    assert record["verdict"] == Verdict.PASS, record["reason"]
    ((secret, pcr_0),) = told(record)
    assert secret == "sealed"
    assert int(pcr_0, 16)
    assert running, "there are some while the guest runs"
    assert not emulators(tmp_path), "and nothing is left of them"


@pytest.mark.thorough
def test_other_firmware_at_a_reset_locks_a_disk(
    runner: Runner, tmp_path: Path, running: list[int]
) -> None:
    """Its TPM has come along, with what was measured and what is sealed; PCR 0 has changed."""
    record = runner.run(cell(Policy.MACHINE_OWNED, "migrate-reset", Tpm.CRB))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    (first, one), (second, other) = told(record)
    assert (first, second) == ("sealed", "locked-out")
    assert one != other
    assert running, "there are some while the guest runs"
    assert not emulators(tmp_path), "and nothing is left of them"


@pytest.mark.slow
def test_a_guest_that_is_moved_while_it_is_down_takes_its_tpm_along(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that comes to a TPM without its state is told: the third start is such a one."""
    start: Any = tpm.start
    starts = itertools.count(1)

    def forgets(*args: Any) -> Any:
        return start(*(args if next(starts) < 3 else (*args[:-1], "")))

    monkeypatch.setattr(tpm, "start", forgets)
    steps = ["start", "shutdown", {"start": {"on": "destination"}}, "shutdown",
             {"start": {"on": "destination"}}]
    wanted = replace(cell(Policy.GUEST_OWNED, "move", Tpm.TIS), scenario=parse("own", steps))
    record = runner.run(wanted)
    (first, one), (second, other), (third, _) = told(record)
    assert (first, second, third) == ("sealed", "unlocked", "sealed")
    assert one == other
    assert record["verdict"] == Verdict.WRONG_TPM
    assert record["reason"] == ("boot 3 (start on destination): the secret in the guest's TPM is "
                                "sealed, expected unlocked")


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "how"), [
    (signal.SIGKILL, "signal 9"), (signal.SIGTERM, "exit status 0"),
])
def test_a_swtpm_that_dies_is_a_broken_rig_and_no_verdict(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: signal.Signals,
    how: str,
) -> None:
    """Though its QEMU refuses the migration, which would otherwise be blamed for it."""
    do = DEEDS["migrate"]
    seen: list[StepObserved] = []

    def killing(*args: Any) -> StepObserved:
        (pid,) = [pid for pid in emulators(tmp_path)
                  if b"1-source" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(pid, killed)
        seen.append(do(*args))
        return seen[0]

    monkeypatch.setitem(DEEDS, "migrate", killing)
    record = runner.run(cell(Policy.MACHINE_OWNED, "migrate-reset", Tpm.CRB))
    assert (record["verdict"], record["reason"]) == (
        Verdict.ERROR, f"the guest's swtpm on source ended ({how})")
    assert seen
    assert seen[0].refusal is not None
    assert not emulators(tmp_path)
