"""One cell end to end: cell in, run record out. No pytest, no printing, any process, any host."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from harness import guests, images, known, policies
from harness.engines import Engine
from harness.errors import HarnessError
from harness.identity import KnownFirmware
from harness.images import ImageStore
from harness.model import (
    DEFAULT_MACHINE,
    Cell,
    Host,
    HostSpec,
    Known,
    RunRecord,
    Verdict,
    role_name,
)
from harness.observation import StepObserved
from harness.scenario import Guest, GuestSetup, run_steps
from harness.verdict import judge


class Runner:
    """Runs cells, one after the other, and keeps engine and images open between them.

    Each cell's artifacts go to ``run_dir``/cells/<id>; the cell itself happens in a scratch
    directory of this ``worker``'s own, the only place its QEMUs can write to.
    """

    def __init__(
        self, store: ImageStore, engine: Engine, run_dir: Path, worker: str = "main"
    ) -> None:
        self._store = store
        self._engine = engine
        self._run_dir = run_dir.resolve()
        self._scratch = self._run_dir / f"scratch-{worker}"
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._known_firmware = KnownFirmware(store.firmwares())
        self._disks = tuple(
            guests.probe_disk(label, images.cache_home())
            for label in (policies.FIRST_DISK, policies.SECOND_DISK)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the scratch directory; the engine is its owner's."""
        _remove(self._scratch)

    def host(self, spec: HostSpec) -> Host:
        """The builds that a host's names stand for. Raises UserError or ImageError."""
        qemu = self._store.qemu(spec.qemu)
        return Host(spec.name, qemu, self._store.firmware(spec.firmware or qemu.firmware))

    def run(self, cell: Cell, declared: Sequence[Known] = ()) -> RunRecord:
        """Run a cell. What it does is in the record; a broken rig is verdict ``error`` there."""
        begun = time.monotonic()
        hosts = [self.host(spec) for spec in cell.hosts]
        described = describe(cell, hosts)
        missing = _missing_machine(cell, hosts)
        if missing:
            return RunRecord(
                described, Verdict.UNSUPPORTED, missing, engine=self._engine.name,
                seconds=round(time.monotonic() - begun, 4),
            )  # fmt: skip
        artifacts = self._run_dir / "cells" / cell.id
        setup = GuestSetup(
            hosts, cell.machine, cell.policy, self._disks, cell.disk, cell.accel, cell.seconds,
            long_post=any(step.during_post for step in cell.scenario.steps),
        )
        guest: Guest | None = None
        seen: list[StepObserved] = []
        try:
            try:
                guest = Guest(self._engine, setup, self._scratch)
                with guest:
                    run_steps(guest, cell.scenario.steps, seen)
            finally:
                keep_logs(self._scratch, artifacts)
            judgement = judge(self._plan(cell, hosts), seen, self._known_firmware)
            verdict, reason, boots = judgement.verdict, judgement.reason, judgement.boots
            details: dict[str, Any] = {}
        except HarnessError as error:
            verdict, reason = Verdict.ERROR, error.message
            details = {"error": str(error)}
        except Exception as error:  # a fault of ours must not take the other cells with it
            verdict, reason = Verdict.ERROR, f"{type(error).__name__}: {error}"
            details = {"error": traceback.format_exc()}
        if verdict is Verdict.ERROR:  # the boots before it were seen all the same
            boots = judge(self._plan(cell, hosts), seen, self._known_firmware).boots
        outcome = known.match(declared, described, verdict)
        if outcome.entry is not None:
            details["known_state"] = outcome.state.value
        return RunRecord(
            cell=described,
            verdict=verdict,
            reason=reason,
            boots=boots,
            steps=tuple(_step_row(step, self._known_firmware) for step in seen),
            qemus=tuple(guest.processes) if guest else (),
            engine=self._engine.name,
            seconds=round(time.monotonic() - begun, 4),
            artifacts=str(artifacts.relative_to(self._run_dir)),
            known=outcome.entry.reason if outcome.entry else None,
            details=details,
        )

    def _plan(self, cell: Cell, hosts: Sequence[Host]) -> tuple[policies.Expected, ...]:
        # By bytes: two names of the same image are one firmware.
        facts = [
            policies.HostFacts(
                host.qemu.version,
                host.qemu.default_machine,
                self._known_firmware.by_bytes(host.firmware.sha256),
            )
            for host in hosts
        ]
        return policies.plan(cell.policy, facts, cell.machine, cell.scenario.steps)


def describe(cell: Cell, hosts: Sequence[Host]) -> dict[str, Any]:
    """The record's ``cell`` object: what was run, with the builds behind the names."""
    described: dict[str, Any] = {"id": cell.id}
    for index, host in enumerate(hosts):
        described[role_name(index)] = {
            "host": host.name,
            "qemu": host.qemu.version,
            "build": host.qemu.name,
            "firmware": host.firmware.name,
            "firmware_sha256": host.firmware.sha256,
            "packages": dict(host.qemu.packages),
            "digest": host.qemu.digest,
        }
    return described | {
        "machine": cell.machine,
        "policy": cell.policy.value,
        "scenario": cell.scenario.name,
        "accel": cell.accel.value,
        "disk": cell.disk.value,
    }


def _missing_machine(cell: Cell, hosts: Sequence[Host]) -> str | None:
    for host in hosts:
        if cell.machine not in (DEFAULT_MACHINE, *host.qemu.machines):
            return f"QEMU {host.qemu.version} ({host.qemu.name}) has no machine {cell.machine}"
    return None


def _step_row(step: StepObserved, firmware: KnownFirmware) -> dict[str, Any]:
    outcome = "completed" if step.step.kind.value == "migrate" else "ok"
    if step.refusal:
        outcome = f"refused: {step.refusal}"
    row: dict[str, Any] = {
        "step": step.step.kind.value,
        "seconds": round(step.seconds, 4),
        "outcome": outcome,
        "host": role_name(step.host) if step.host is not None else None,
    }
    if step.rom is not None:
        row["rom"] = firmware.by_bytes(step.rom)
    if step.here is not None:
        row["guest"] = {"counter": step.here.boot, "bios_version": step.here.bios_version}
    if step.nvram_equal is not None:
        row["nvram_equal"] = step.nvram_equal
    return row


def keep_logs(scratch: Path, artifacts: Path) -> None:
    """Move what a person may want to read out of a scratch directory, and empty it."""
    _remove(artifacts)
    artifacts.mkdir(parents=True)
    for process in scratch.glob("*/qemu.log"):
        target = artifacts / process.parent.name
        target.mkdir()
        for log in process.parent.glob("*.log"):
            log.rename(target / log.name)
    for leftover in scratch.iterdir():
        _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
