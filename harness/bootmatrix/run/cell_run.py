"""One cell while it is run: judged by what was seen, and made a record of."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from bootmatrix.arguments import machine_type
from bootmatrix.boards import host_label
from bootmatrix.cell import Cell
from bootmatrix.errors import HarnessError, SandboxLost
from bootmatrix.firmware import edk2
from bootmatrix.firmware.identity import KnownFirmware, sha256
from bootmatrix.guests import secure_boot
from bootmatrix.machines.console import LOG_LIMIT
from bootmatrix.model import Host, Known, Tpm, Verdict
from bootmatrix.policies.base import HostFacts
from bootmatrix.records import rows
from bootmatrix.records.model import CellRow, Notes, Record
from bootmatrix.run import bounds
from bootmatrix.run.directory import CELLS
from bootmatrix.run.patience import surely_late
from bootmatrix.steps.enrol_keys import EnrolKeys
from bootmatrix.steps.plan import Expected, plan
from bootmatrix.verdict import Judgement, judge
from bootmatrix.witnesses.moment import Given, Moment
from bootmatrix.witnesses.observation import BLACK_BOX, BlackBox, StepObserved
from bootmatrix.witnesses.probe_line import Measured, Tables

T = TypeVar("T")

_LONGEST_NAME = 200


@dataclass
class CellRun:
    """One cell while it is run: what is known of it, and what comes of it.

    ``name`` is its directory's, below ``run_dir``/cells. ``memory_mib`` and ``cpus`` are the
    guest's, None where its hosts give it different ones, ``machine`` is the type that SMBIOS must
    have, None where that is not known. ``lost`` is how a sandbox was lost when it
    was run before. ``usual`` is set where it is run with patience: a boot that takes longer is
    late; ``before`` is what was seen of each step before. ``first`` is the black box of a step that
    missed its usual time, and was then waited for. ``offered`` is asked for the tables that a boot
    had to find, and ``measured`` for what it had to find in PCR 0; None where nobody knows.
    ``limited``: which limit of a sandbox was reached.
    """

    cell: Cell
    hosts: Sequence[Host]
    described: CellRow
    firmware: KnownFirmware
    declared: Sequence[Known]
    run_dir: Path
    name: str
    engine: str
    memory_mib: int | None
    lost: SandboxLost | None = None
    cpus: int | None = None
    machine: str | None = None
    usual: float | None = None
    before: Sequence[Sequence[StepObserved]] = ()
    notes: Notes = field(default_factory=lambda: Notes())
    seconds: float = 0.0
    first: BlackBox | None = None
    limited: str | None = None
    offered: Callable[[Moment], Tables | None] = lambda boot: None
    measured: Callable[[Moment], Measured | None] = lambda boot: None

    def __post_init__(self) -> None:
        self._own_mismatch, mismatch = _mismatches(self.hosts)
        # What a real board has, nobody has given it.
        real = any(host.qemu.board for host in self.hosts)
        self._given = Given(
            mismatch, None if real else self.memory_mib, None if real else self.cpus,
            any(host.firmware.needs_smm for host in self.hosts), real=real,
            tpm=self.cell.tpm is not Tpm.NONE, keys=keys_of(self.cell, self.hosts),
            nvram=self.cell.board.nvram if self.cell.board else Given.nvram,
            bios_listens=self.cell.guest.disk is not None and any(
                host.firmware.name.startswith("seabios") for host in self.hosts),
            machine=None if real else self.machine)

    @property
    def artifacts(self) -> Path:
        """The directory that its logs go to."""
        return self.run_dir / CELLS / self.name

    def judge(self, seen: Sequence[StepObserved]) -> Judgement:
        """Compare what was seen with what the cell's policy promises."""
        judgement = self._judged(seen, self._given)
        if judgement.verdict is not Verdict.PASS:
            return judgement
        # It can take a start of its own, and is asked for where nothing else is wrong.
        offered = _answers(self.offered, judgement.boots)
        measured = _answers(self.measured, judgement.boots)
        return self._judged(seen, replace(self._given, offered=offered, measured=measured))

    def _judged(self, seen: Sequence[StepObserved], given: Given) -> Judgement:
        if self.usual is not None:
            before = dict(enumerate(self.before))
            seen = [replace(step, usual=self.usual)
                    if step.boot and surely_late(self.usual, *before.get(index, ()), step)
                    else step for index, step in enumerate(seen)]
        if given.real:  # nothing kept a board waiting: the bench has worked at it
            seen = [replace(step, wall=step.seconds, boot=step.boot and replace(
                step.boot, wall=step.boot.seconds)) for step in seen]
        return judge(plan_of(self.cell, self.hosts, self.firmware), seen, self.firmware, given)

    def broken(
        self, error: BaseException, seen: Sequence[StepObserved], qemus: Sequence[dict[str, Any]]
    ) -> Record:
        """The record of a cell in which the rig broke; the boots before it were seen."""
        if isinstance(error, HarnessError):
            reason = error.message
            self.notes["error"] = str(error)
        else:
            reason = f"{type(error).__name__}: {error}"
            self.notes["error"] = "".join(traceback.format_exception(error))
        boots = self._judged(seen, self._given).boots
        return self.record(Judgement(Verdict.ERROR, reason, boots), seen, qemus)

    def record(
        self, judgement: Judgement, seen: Sequence[StepObserved], qemus: Sequence[dict[str, Any]]
    ) -> Record:
        """The record of a cell that was judged; of its logs no more is kept than has a bound."""
        artifacts = self.artifacts
        if any(log.stat().st_size >= LOG_LIMIT for log in artifacts.glob("*/console.log")):
            self.notes["console_truncated"] = True
        if shortened := bounds.cut_logs(artifacts):
            self.notes["logs_cut"] = list(shortened)
        # A pass all the same is one of an OVMF that keeps them elsewhere: on the guest's disk.
        if self._own_mismatch is not None and judgement.verdict is not Verdict.ERROR:
            self.notes["layout_mismatch"] = self._own_mismatch
        self._explain(seen)
        reason = judgement.reason
        if self.limited is not None:
            reason += f" ({self.limited})"
        if judgement.failed is not None:
            self.notes["failed_step"] = judgement.failed + 1
        record = rows.record(
            self.described, judgement.verdict, reason, scenario=self.cell.scenario,
            declared=self.declared, boots=map(rows.boot_row, judgement.boots),
            steps=(rows.step_row(step, self.firmware) for step in seen),
            qemus=qemus, engine=self.engine, seconds=self.seconds,
            artifacts=str(artifacts.relative_to(self.run_dir)),
        )
        return bounds.cut(cast(Record, {**record, **self.notes}))

    def _explain(self, seen: Sequence[StepObserved]) -> None:
        """Keep what machines have said of themselves; the record has a line of it.

        That is the last of it, or of what could see something: a machine that answered in the
        usual time may have had no time to answer again.
        """
        found = (self.first, *(step.black_box for step in seen))
        boxes = [box for box in found if box is not None]
        if boxes:
            self.notes["black_box"] = max(boxes[::-1], key=lambda box: not box.blind).line
            self.artifacts.mkdir(parents=True, exist_ok=True)
            (self.artifacts / BLACK_BOX).write_text(
                "\n".join(box.text for box in boxes), errors="replace")


def _answers(
    ask: Callable[[Moment], T | None], boots: Sequence[Moment]
) -> dict[tuple[int, str | None], T]:
    """What somebody knows of the boots on a host with a firmware."""
    asked = ((boot, ask(boot)) for boot in boots)
    return {(boot.boot.host, boot.expected.firmware): answer
            for boot, answer in asked if answer is not None}


def plan_of(
    cell: Cell, hosts: Sequence[Host], firmware: KnownFirmware
) -> tuple[Expected, ...]:
    """What must hold after each step of a cell, on these hosts."""
    board = cell.board
    assert board is not None, "bootmatrix.matrix.unsupported has let this through"
    # By bytes: two names of the same image are one firmware.
    facts = [
        HostFacts(
            host.qemu.version,
            host.qemu.default_machine,
            firmware.by_bytes(host.firmware.sha256),
            host_label(index, host.qemu),
            board.loader(host.firmware),
        )
        for index, host in enumerate(hosts)
    ]
    return plan(cell.policy, facts, machine_type(cell.machine), cell.scenario.steps)


def _mismatches(hosts: Sequence[Host]) -> tuple[str | None, str | None]:
    """What does not fit between code and variables of one host, and of any two of a cell."""
    own: str | None = None
    any_two: str | None = None
    for host in hosts:
        if host.firmware.variables is None:
            continue
        template = host.firmware.variables.read_bytes()
        for other in hosts:
            wrong = edk2.mismatch(other.firmware.size, template)
            any_two = any_two or wrong
            if other is host:
                own = own or wrong
    return own, any_two


def keys_of(cell: Cell, hosts: Sequence[Host]) -> str | None:
    """What a guest that enrols its keys says of them: it is signed for its first host's."""
    signing = hosts[0].firmware.signing
    enrols = any(isinstance(step, EnrolKeys) for step in cell.scenario.steps)
    return secure_boot.enrolled_sum(signing) if enrols and signing is not None else None


def file_name(text: str) -> str:
    """The text; a file system takes 255 bytes, and of a longer one the beginning and a hash."""
    if len(text) <= _LONGEST_NAME:
        return text
    return f"{text[:_LONGEST_NAME - 17]}-{sha256(text.encode())[:16]}"
