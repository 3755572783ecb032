"""One cell end to end: cell in, run record out. No pytest, no printing, any process, any host."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

from harness import axes, firmware_volume, images, known, policies, unsupported
from harness.boards import board_of
from harness.builds import Builds
from harness.console import LOG_LIMIT
from harness.deadline import Deadline
from harness.engines import Engine
from harness.errors import DeadlineExceeded, EngineError, HarnessError
from harness.guest_files import GuestSetup, setup_of
from harness.identity import KnownFirmware
from harness.kept import kernel_row
from harness.model import (
    Cell,
    Host,
    HostSpec,
    Known,
    QemuBuild,
    RunRecord,
    Verdict,
    host_label,
    role_name,
)
from harness.observation import StepObserved
from harness.scenario import Guest, run_steps
from harness.sharing import Beginning, Beginnings
from harness.verdict import fw_cfg_row, judge

# No cell can be run in a directory that says this.
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_NOTHING = ("/bin/busybox", "true")
_ENGINE_SECONDS = 5.0


class Runner:
    """Runs cells, one after the other, and keeps engine and images open between them.

    Each cell's artifacts go to ``run_dir``/cells/<id>; the cell itself happens in a scratch
    directory of this ``worker``'s own, the only place its QEMUs can write to.
    """

    def __init__(
        self,
        builds: Builds,
        engine: Engine,
        run_dir: Path,
        worker: str = "main",
        share: bool = False,
    ) -> None:
        self._builds = builds
        self._engine = engine
        self._run_dir = run_dir.resolve()
        self._scratch = self._run_dir / f"scratch-{worker}"
        self._scratch.mkdir(parents=True, exist_ok=True)
        # Held as long as this process lives: what is not held, a killed one has left.
        self._held = os.open(self._scratch, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._held, fcntl.LOCK_SH)
        self._beginnings = Beginnings(self._run_dir / "shared") if share else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the scratch directory; the engine is its owner's."""
        try:
            if self._beginnings is not None:
                self._beginnings.close()
            _remove(self._scratch)
        finally:
            os.close(self._held)

    def host(self, spec: HostSpec) -> Host:
        """The builds that a host stands for. Raises UserError or ImageError."""
        return self._builds.host(spec)

    def setup(self, cell: Cell, hosts: Sequence[Host]) -> GuestSetup:
        """What the guest of a cell is made of. Raises ImageError where its disks cannot be."""
        return setup_of(cell, hosts, images.cache_home())

    def run(
        self, cell: Cell, declared: Sequence[Known] = (), repeat: int = 1
    ) -> RunRecord:
        """Run a cell, the ``repeat``-th time. What it does is in the record.

        A broken rig is verdict ``error`` there.

        Raises HarnessError where the next cell would fail alike: EngineError when the engine
        has failed, whatever the cell seemed to do meanwhile, and on a full disk.
        """
        begun = time.monotonic()
        hosts = [self.host(spec) for spec in cell.hosts]
        described = describe(cell, hosts)
        cannot = unsupported.reason(cell, hosts)
        if cannot is not None:
            return RunRecord(
                described, Verdict.UNSUPPORTED, cannot, engine=self._engine.name,
                seconds=round(time.monotonic() - begun, 4),
            )  # fmt: skip
        firmware = self._builds.known_firmware(hosts, cell.machine)
        name = cell.id if repeat == 1 else f"{cell.id},repeat-{repeat}"
        artifacts = self._run_dir / "cells" / name
        setup = self.setup(cell, hosts)
        guest: Guest | None = None
        seen: list[StepObserved] = []
        qemus: list[dict[str, Any]] = []
        details: dict[str, Any] = {}
        steps = cell.scenario.steps
        try:
            beginning = self._begin(cell, hosts, setup)
            if beginning is not None:
                seen += beginning.seen
                qemus += beginning.qemus
                details["shared"] = {"key": beginning.key, "steps": len(beginning.seen)}
                steps = steps[len(beginning.seen) :] if beginning.saved else ()
            with self._guest(setup, artifacts, qemus) as guest:
                if beginning is not None and beginning.saved is not None:
                    guest.resume(beginning.saved, 0)
                run_steps(guest, steps, seen)
            own, mismatch = _mismatches(hosts)
            judgement = judge(_plan(cell, hosts, firmware), seen, firmware, mismatch)
            verdict, reason, boots = judgement.verdict, judgement.reason, judgement.boots
            # A pass all the same is one of an OVMF that keeps them elsewhere: on the guest's disk.
            if own is not None:
                details["layout_mismatch"] = own
        except HarnessError as error:
            self._check_disk(error)
            self._check_engine(error, guest, hosts[0].qemu)
            verdict, reason = Verdict.ERROR, error.message
            details["error"] = str(error)
        except Exception as error:  # a fault of ours must not take the other cells with it
            self._check_disk(error)
            verdict, reason = Verdict.ERROR, f"{type(error).__name__}: {error}"
            details["error"] = traceback.format_exc()
        if verdict is Verdict.ERROR:  # the boots before it were seen all the same
            boots = judge(_plan(cell, hosts, firmware), seen, firmware).boots
        if any(log.stat().st_size >= LOG_LIMIT for log in artifacts.glob("*/console.log")):
            details["console_truncated"] = True
        outcome = known.match(declared, described, verdict)
        if outcome.entry is not None:
            details["known_state"] = outcome.state.value
        return RunRecord(
            cell=described,
            verdict=verdict,
            reason=reason,
            boots=boots,
            steps=tuple(_step_row(step, firmware) for step in seen),
            qemus=tuple(qemus),
            engine=self._engine.name,
            seconds=round(time.monotonic() - begun, 4),
            artifacts=str(artifacts.relative_to(self._run_dir)),
            known=outcome.entry.reason if outcome.entry else None,
            details=details,
        )

    @contextmanager
    def _guest(
        self, setup: GuestSetup, artifacts: Path, qemus: list[dict[str, Any]]
    ) -> Iterator[Guest]:
        """A guest in the scratch directory; its logs go to ``artifacts``, its QEMUs' rows, too."""
        try:
            with Guest(self._engine, setup, self._scratch, qemus) as guest:
                yield guest
            guest.check_engine()
        finally:
            keep_logs(self._scratch, artifacts)

    def _begin(
        self, cell: Cell, hosts: Sequence[Host], setup: GuestSetup
    ) -> Beginning | None:
        """The beginning that this cell shares with others, if any is to be shared."""
        if self._beginnings is None:
            return None

        def make_guest(key: str) -> AbstractContextManager[Guest]:
            return self._guest(setup, self._run_dir / "cells" / f"shared-{key}", [])

        return self._beginnings.run(cell, hosts, make_guest)

    def _check_disk(self, error: BaseException) -> None:
        """Raise HarnessError if it is the disk that is behind an error."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in _DISK_FAULTS:
                raise HarnessError(f"cannot go on in {self._run_dir}: {cause.strerror}") from error
            cause = cause.__cause__ or cause.__context__

    def _check_engine(self, error: HarnessError, guest: Guest | None, build: QemuBuild) -> None:
        """Raise EngineError if it is the engine that is behind an error."""
        if isinstance(error, EngineError):
            raise error
        if guest is not None:
            guest.check_engine()
        # It may have fallen silent: then a program that does nothing does not end either.
        with self._engine.sandbox(build, self._scratch) as sandbox:
            probe = sandbox.launch(_NOTHING, self._scratch / "probe.log")
            try:
                probe.wait(Deadline.after(_ENGINE_SECONDS))
            except DeadlineExceeded:
                raise EngineError(f"{self._engine.name} no longer runs programs") from error


def _plan(
    cell: Cell, hosts: Sequence[Host], firmware: KnownFirmware
) -> tuple[policies.Expected, ...]:
    board = board_of(cell.machine, cell.arch)
    assert board is not None, "harness.unsupported has let this through"
    # By bytes: two names of the same image are one firmware.
    facts = [
        policies.HostFacts(
            host.qemu.version,
            host.qemu.default_machine,
            firmware.by_bytes(host.firmware.sha256),
            host_label(index, host.qemu),
            board.loader(host.firmware),
        )
        for index, host in enumerate(hosts)
    ]
    return policies.plan(cell.policy, facts, cell.machine, cell.scenario.steps)


def _mismatches(hosts: Sequence[Host]) -> tuple[str | None, str | None]:
    """What does not fit between code and variables of one host, and of any two of a cell."""
    own: str | None = None
    any_two: str | None = None
    for host in hosts:
        if host.firmware.variables is None:
            continue
        template = host.firmware.variables.read_bytes()
        for other in hosts:
            wrong = firmware_volume.mismatch(other.firmware.size, template)
            any_two = any_two or wrong
            if other is host:
                own = own or wrong
    return own, any_two


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
        } | ({"root": host.qemu.root_name} if host.qemu.mounts else {})
    return described | axes.values(cell) | {"boot_timeout": cell.seconds}


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
        row["guest"] = {
            "counter": step.here.boot,
            "bios_version": step.here.bios_version,
            "fw_cfg": fw_cfg_row(step.here),
            "acpi": step.here.acpi,
            "kernel": kernel_row(step.here),
        }
    if step.flash is not None:
        row["flash"] = {
            key: getattr(step.flash, key) for key in ("size", "written", "result")
        }
    if step.cut_off is not None:
        row["flash"] = {"size": None, "written": step.flashed, "result": "cut-off"}
    if step.failed is not None:
        row["outcome"] = f"failed: {step.failed}"
    if step.told is not None:
        row["told"] = {
            key: getattr(step.told, key) for key in ("value", "count", "size", "result")
        }
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
