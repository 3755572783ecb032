"""What is known of a cell that was run, as a run record has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from bootmatrix.cell import Cell
from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.matrix import known
from bootmatrix.model import RECORD_SCHEMA, Host, Known, Verdict, role_name
from bootmatrix.records.model import (
    BootRow,
    CellRow,
    EndedRow,
    HostRow,
    QemuRow,
    Record,
    StepRow,
    TimeRow,
)
from bootmatrix.steps.base import Scenario
from bootmatrix.steps.library import written
from bootmatrix.steps.migrate import Migrate
from bootmatrix.witnesses import (
    answer,
    boot_entry,
    cmos,
    console,
    counter,
    devices,
    disk,
    flash,
    fw_cfg,
    hardware,
    kernel,
    late,
    memory,
    nvram,
    resets,
    rom,
    smbios,
    tables,
    tpm,
    variables,
)
from bootmatrix.witnesses.moment import Moment, differs
from bootmatrix.witnesses.observation import BootObserved, StepObserved


def record(
    cell: CellRow, verdict: Verdict, reason: str, *, scenario: Scenario,
    declared: Sequence[Known] = (), boots: Iterable[BootRow] = (), steps: Iterable[StepRow] = (),
    qemus: Iterable[Mapping[str, Any]] = (), engine: str, seconds: float, artifacts: str = "",
) -> Record:
    """A run record, as plain data. ``declared`` are the ``known`` entries of its matrix."""
    found = known.match(declared, cell, verdict)
    made: Record = {
        "schema": RECORD_SCHEMA,
        "cell": cell,
        "verdict": verdict.value,
        "reason": reason,
        "known": found.entry.reason if found.entry else None,
        "scenario_steps": list(map(written, scenario.steps)),
        "boots": list(boots),
        "steps": list(steps),
        "qemus": [cast(QemuRow, dict(qemu)) for qemu in qemus],
        "engine": engine,
        "seconds": round(seconds, 4),
        "artifacts": artifacts,
    }
    if found.entry is not None:
        made["known_state"] = found.state.value
        if found.entry.link:
            made["known_link"] = found.entry.link
    return made


def cell_row(cell: Cell, hosts: Sequence[Host]) -> CellRow:
    """What was run, with the builds behind the names."""
    described: dict[str, Any] = {"id": cell.id}
    described |= {role_name(index): _host_row(host) for index, host in enumerate(hosts)}
    described |= cell.values | {"boot_timeout": cell.seconds, "patience": cell.longest}
    words = {axis: list(found.words) for axis in ("arguments", "devices")
             if (found := getattr(cell, axis)).words}
    if words:
        described["words"] = words
    if cell.limits.given:
        described["limits"] = cell.limits.given
    return cast(CellRow, described)


def _host_row(host: Host) -> HostRow:
    row: HostRow = {
        "host": host.name,
        "qemu": host.qemu.version,
        "build": host.qemu.name,
        "firmware": host.firmware.name,
        "firmware_sha256": host.firmware.sha256,
        "packages": dict(host.qemu.packages),
        "digest": host.qemu.digest,
    }
    if host.qemu.mounts:
        row["root"] = host.qemu.root_name
    if host.qemu.saved is not None:
        row["saved"] = host.qemu.digest
    if host.arguments:
        row["arguments"] = list(host.arguments)
    return row


def boot_row(boot: Moment) -> BootRow:
    """What was seen of a boot, beside what must be."""
    return {
        "n": boot.n,
        "step": boot.step,
        "host": role_name(boot.boot.host),
        "expected": boot.expected.firmware,
        "up": boot.boot.up is not None,
        **_seconds(boot.boot),
        **console.row(boot), **rom.row(boot), **smbios.row(boot), **disk.row(boot),
        **counter.row(boot), **cmos.row(boot), **fw_cfg.row(boot.line), **tables.row(boot.line),
        **memory.row(boot.line), **hardware.row(boot.line), **devices.row(boot.line),
        **variables.row(boot), **boot_entry.row(boot),
        **kernel.row(boot.line), **tpm.row(boot), **resets.row(boot), **late.row(boot),
    }  # fmt: skip


def step_row(seen: StepObserved, firmware: KnownFirmware) -> StepRow:
    """What became of a step."""
    outcome = "completed" if isinstance(seen.step, Migrate) else "ok"
    if seen.refusal is not None:
        outcome = f"refused: {seen.refusal}"
    if seen.failed is not None:
        outcome = f"failed: {seen.failed}"
    return {
        "step": seen.step.kind,
        "outcome": outcome,
        "host": role_name(seen.host) if seen.host is not None else None,
        **_seconds(seen), **rom.step_row(seen, firmware), **answer.step_row(seen),
        **flash.step_row(seen), **variables.step_row(seen), **nvram.step_row(seen),
        **_ended(seen),
    }  # fmt: skip


def _ended(seen: StepObserved) -> EndedRow:
    return {} if seen.ended is None else {"ended": seen.ended}


def _seconds(seen: BootObserved | StepObserved) -> TimeRow:
    """How long it took while its machine was able to run, and by the wall clock."""
    row: TimeRow = {"seconds": round(seen.seconds, 4)}
    if differs(seen.seconds, seen.wall):
        row["wall_seconds"] = round(seen.wall, 4)
    return row
