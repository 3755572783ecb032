"""One cell end to end: cell in, run record out. No pytest, no printing, any process, any host."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from bootmatrix.builds import image_store
from bootmatrix.builds.host import Builds
from bootmatrix.cell import Cell
from bootmatrix.engines import Engine, choose
from bootmatrix.engines.confinement import Priority, complaint
from bootmatrix.engines.scratch import Scratch
from bootmatrix.errors import (
    CellError,
    EngineError,
    HarnessError,
    LeftTooLate,
    SandboxLost,
    TpmLost,
    UserError,
)
from bootmatrix.files.cell_files import remove_tree
from bootmatrix.machines.base import Hosts, abilities
from bootmatrix.machines.qemu.machine import QemuHosts, QemuMachine
from bootmatrix.machines.setup import GuestSetup, setup_of
from bootmatrix.matrix import unsupported
from bootmatrix.model import (
    Grant,
    Host,
    HostSpec,
    Known,
    Verdict,
)
from bootmatrix.modes import MODES
from bootmatrix.records import rows
from bootmatrix.records.model import Record
from bootmatrix.run import bounds, faults, saved
from bootmatrix.run.cell_run import CellRun, file_name
from bootmatrix.run.directory import CELLS
from bootmatrix.run.guest import Guest
from bootmatrix.run.looks import Looks
from bootmatrix.run.offers import Offers
from bootmatrix.run.patience import (
    Patience,
    Watch,
    doubtful,
    key_of,
    missed,
    outlasts,
    usual_of,
)
from bootmatrix.run.rounds import Round
from bootmatrix.run.sharing import Snapshot, Snapshots, take
from bootmatrix.run.steps import run_steps
from bootmatrix.steps.base import Step
from bootmatrix.steps.start import Start
from bootmatrix.verdict import Judgement
from bootmatrix.witnesses.observation import StepObserved


class Runner:
    """Runs cells, one after the other, and keeps engine and images open between them.

    Each cell's artifacts go to ``run_dir``/cells/<matrix>/<id>; the cell itself happens in a
    scratch directory of this ``worker``'s own, the only place its QEMUs can write to. ``cache`` is
    where the answers outlast a run that were waited for.
    """

    matrix = ""
    """The name, within the run, of the matrix that the next cell is of; empty: of none."""

    hasty = False
    """Whether a boot that goes round is given up at once: for who compares, and judges nothing."""

    abilities = abilities(QemuHosts, QemuMachine)
    """What its machines can do."""

    def __init__(
        self,
        builds: Builds,
        engine: Engine,
        run_dir: Path,
        worker: str = "main",
        share: bool = False,
        cache: Path | None = None,
    ) -> None:
        self._builds = builds
        self._worker = worker
        self._engine = engine
        self._run_dir = run_dir.resolve()
        self._scratch = self._run_dir / f"scratch-{worker}"
        self._scratch.mkdir(parents=True, exist_ok=True)
        # Held as long as this process lives: what is not held, a killed one has left.
        self._held = os.open(self._scratch, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._held, fcntl.LOCK_SH)
        self._snapshots = Snapshots(self._run_dir / "shared") if share else None
        self._offers = Offers(self._run_dir / "offered")
        self._answers = self._run_dir / "waited", cache or image_store.cache_home() / "waited"
        self._patience = Patience(*self._answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the scratch directory; the engine is its owner's."""
        try:
            self._patience.close()
            if self._snapshots is not None:
                self._snapshots.close()
            remove_tree(self._scratch)
        finally:
            os.close(self._held)

    def host(self, spec: HostSpec) -> Host:
        """The builds that a host stands for. Raises UserError or ImageError."""
        return self._builds.host(spec)

    def setup(self, cell: Cell, hosts: Sequence[Host]) -> GuestSetup:
        """What the guest of a cell is made of. Raises ImageError where its disks cannot be."""
        return setup_of(cell, hosts, image_store.cache_home())

    def machines(self, setup: GuestSetup, rows: list[dict[str, Any]]) -> Hosts:
        """Where the machines of a guest come from; a row in ``rows`` for each."""
        return QemuHosts(self._engine, setup, self._scratch, rows)

    def run(
        self,
        cell: Cell,
        declared: Sequence[Known] = (),
        repeat: int = 1,
        lost: SandboxLost | None = None,
    ) -> Record:
        """Run a cell, the ``repeat``-th time, and wait for its verdict. It is in the record.

        A broken rig is verdict ``error`` there. ``lost`` is how a sandbox was lost when this
        cell was run before: where that happens again it is the cell's own doing, and its verdict.

        Raises HarnessError where the next cell would fail alike: EngineError when the engine
        has failed, whatever the cell seemed to do meanwhile, and on a full disk.
        """
        begun = self.begin(cell, declared, repeat, lost)
        return begun.judged() if isinstance(begun, Unjudged) else begun

    def begin(
        self,
        cell: Cell,
        declared: Sequence[Known] = (),
        repeat: int = 1,
        lost: SandboxLost | None = None,
    ) -> Record | Unjudged:
        """Run a cell as ``run`` does, but do not wait for a step that missed its usual time.

        That is waited for beside other cells, and the verdict comes later.
        """
        begun = time.monotonic()
        hosts = [self.host(spec) for spec in cell.hosts]
        described = rows.cell_row(cell, hosts)
        cannot = self._cannot(cell, hosts)
        if cannot is not None:
            return rows.record(
                described, Verdict.UNSUPPORTED, cannot, scenario=cell.scenario,
                engine=self._engine.name, seconds=time.monotonic() - begun,
            )  # fmt: skip
        name = cell.id if repeat == 1 else f"{cell.id},repeat-{repeat}"
        try:
            setup = self.setup(cell, hosts)
        except UserError as error:
            if cell.guest.disk is None:
                raise
            # Its image was in order when the matrix was read; other cells have others.
            return rows.record(
                described, Verdict.ERROR, str(error), scenario=cell.scenario,
                declared=tuple(declared), engine=self._engine.name,
                seconds=time.monotonic() - begun)
        run = CellRun(
            cell, hosts, described, self._builds.known_firmware(hosts, cell.machine),
            tuple(declared), self._run_dir, str(Path(self.matrix, file_name(name))),
            self._engine.name, setup.memory_given(), lost,
            cpus=setup.cpus_given(), machine=setup.machine_given(),
        )
        run.offered = lambda boot: self._offers.asked(boot, setup, run.firmware, self._start_apart)
        run.measured = lambda boot: self._offers.measured(
            boot, setup, run.firmware, self._start_apart)
        return self._attempt(run, setup)

    def _cannot(self, cell: Cell, hosts: Sequence[Host]) -> str | None:
        """Why a cell cannot be run here; None if it can."""
        cannot = unsupported.reason(cell, hosts, self.abilities) or saved.reason(cell, hosts)
        kvm = {Grant.KVM} if cell.accel.with_kvm else set()
        return cannot or complaint(MODES[cell.migration].grants | kvm)

    def _behind(
        self, error: HarnessError, guest: Guest | None, run: CellRun
    ) -> HarnessError:
        """What is behind an error. Raises EngineError if it is the engine."""
        return faults.check_engine(error, guest, run.lost, self._engine, self._scratch,
                                   run.hosts[0].qemu)

    def _attempt(self, run: CellRun, setup: GuestSetup) -> Record | Unjudged:
        """Do the steps of a cell and judge them, if they can be judged yet."""
        begun = time.monotonic()
        guest: Guest | None = None
        seen: list[StepObserved] = []
        qemus: list[dict[str, Any]] = []
        launched: list[int] = []
        steps = run.cell.scenario.steps
        rounds = Round(setup, steps, seen, qemus, self._engine.name, self._answers)
        failed: BaseException | None = None
        try:
            snapshot = self._snapshot(run.cell, run.hosts, setup)
            if snapshot is not None:
                seen += snapshot.seen
                qemus += snapshot.qemus
                launched += [len(qemus)] * len(seen)
                run.notes["shared"] = {"key": snapshot.key, "steps": len(snapshot.seen)}
                steps = steps[len(snapshot.seen) :] if snapshot.saved else ()
            with self._guest(setup, run.artifacts, qemus) as guest:
                if snapshot is not None and snapshot.saved is not None:
                    guest.resume(snapshot.saved, 0)
                guest.never_comes = (lambda: True) if self.hasty else rounds.known
                run_steps(guest, steps, seen)
                if isinstance(guest.hosts, QemuHosts):
                    run.limited = guest.hosts.files.disk_full()
            launched += guest.launched
            rounds.keep()
            if rounds.earlier is not None:
                run.notes["went_round"] = rounds.earlier
            run.seconds = time.monotonic() - begun  # without what is done for other cells, too
            judgement = run.judge(seen)
        except Exception as error:  # a fault of ours must not take the other cells with it
            longer = setup.longer_post() if isinstance(error, LeftTooLate) else None
            if longer is not None:
                return self._attempt(run, longer)
            run.seconds = time.monotonic() - begun
            failed = faults.check_disk(error, self._run_dir, run.hosts) or error
            if isinstance(failed, HarnessError):
                failed = self._behind(failed, guest, run)
        if failed is not None:
            return run.broken(failed, seen, qemus)
        # What a saved guest did before, nobody can watch once more.
        begin = len(snapshot.seen) if snapshot and setup.hosts[0].qemu.saved else 0
        return self._judged(run, setup, seen, qemus, launched, judgement, begin)

    def _judged(
        self, run: CellRun, setup: GuestSetup, seen: list[StepObserved],
        qemus: list[dict[str, Any]], launched: list[int], judgement: Judgement, begin: int = 0,
    ) -> Record | Unjudged:
        """The record of a cell, unless one of its steps, from ``begin`` on, is to be waited for."""
        unsure = doubtful(seen, begin)
        if unsure is None and missed(seen[begin:]) and judgement.verdict in (
                Verdict.NO_BOOT, Verdict.SILENT, Verdict.NOT_RESET):
            unsure = len(seen) - 1
        if unsure is None or usual_of(seen[unsure]) >= run.cell.longest:
            return run.record(judgement, seen, qemus)
        steps = run.cell.scenario.steps[: unsure + 1]
        key = key_of(
            setup, steps, [qemu["argv"] for qemu in qemus[: launched[unsure]]],
            self._engine.name, run.cell.longest,
        )
        looks = Looks(
            self._patience, partial(self._watch_with, steps), setup, len(steps), key,
            seen[unsure], usual_of(seen[unsure]), run.cell.longest,
        )
        return Unjudged(self, run, setup, seen, qemus, launched, judgement, unsure, looks)

    def _watch_with(
        self, steps: Sequence[Step], name: str, setup: GuestSetup, priority: Priority
    ) -> Watch:
        """How steps are watched, in an engine of their own with a priority."""

        def watch(can_be_ended_by: Callable[[Callable[[], None]], None]) -> list[StepObserved]:
            with choose(self._engine.name) as engine:
                engine.priority = priority
                can_be_ended_by(engine.close)
                with Runner(self._builds, engine, self._run_dir, f"{self._worker}-{name}") as apart:
                    return apart._watch_apart(f"waited-{name}", setup, steps)

        return watch

    def judge_waited(self, unjudged: Unjudged) -> Record:
        """The record of a cell that was waited for; waits until that is over."""
        run, own = unjudged.run, unjudged.seen[unjudged.unsure]
        seen = unjudged.seen[: unjudged.unsure + 1]
        is_late = False
        looked: Sequence[StepObserved] = (own,)
        try:
            answer = unjudged.looks.first.answer()
            same = len(answer) == len(seen)
            came = same and not missed(answer)
            if came:
                is_late, looked = unjudged.looks.late(answer)
        except EngineError as error:
            if run.lost is None or not isinstance(error, SandboxLost):
                raise
            return run.broken(error, unjudged.seen, unjudged.qemus)
        except Exception as error:  # as in the cell itself
            faults.check_disk(error, self._run_dir, run.hosts)
            return run.broken(error, unjudged.seen, unjudged.qemus)
        if came and not is_late and not missed([own]):
            rest = self._judged(
                run, unjudged.setup, unjudged.seen, unjudged.qemus, unjudged.launched,
                unjudged.judgement, unjudged.unsure + 1)
            return rest.judged() if isinstance(rest, Unjudged) else rest
        if not is_late and (came or not same or not missed([own])):
            return self._once_more(unjudged, looked, same)
        last = answer[-1]
        usual, key = unjudged.looks.usual, unjudged.looks.key
        if outlasts(unjudged.setup, answer):
            self._patience.keep(key)
        run.notes["waited"] = {
            "step": len(seen), "usual": usual, "patience": run.cell.longest,
            "seconds": round(last.seconds, 4), "key": key,
            "earlier": unjudged.looks.first.earlier,
        }
        run.first = own.black_box
        marked = [*answer[:-1], replace(last, usual=usual)]
        judgement, boots = run.judge(marked), run.judge(seen).boots
        if own.boot is not None:
            boots = (*boots[:-1], *judgement.boots[len(boots) - 1 :])
        return run.record(
            replace(judgement, boots=boots), [*seen[:-1], marked[-1]], unjudged.qemus
        )

    def _once_more(
        self, unjudged: Unjudged, looked: Sequence[StepObserved], same: bool
    ) -> Record:
        """Run a cell again, with patience: what it missed did not happen to its representative."""
        self._patience.check()
        run = unjudged.run
        why = "up within the usual time" if same else "its steps went otherwise"
        run.notes["run_again"] = f"step {unjudged.unsure + 1} was missed; when waited for: {why}"
        patient = replace(run.cell, seconds=run.cell.longest, patience=run.cell.longest)
        before = [[step] for step in unjudged.seen]
        before[unjudged.unsure] = list(looked)
        again = replace(run, cell=patient, usual=run.cell.seconds, before=before)
        record = self._attempt(again, unjudged.setup.patient(run.cell.longest, urgent=True))
        assert not isinstance(record, Unjudged), "there is no more patience"
        return record

    def _watch_apart(
        self, name: str, setup: GuestSetup, steps: Sequence[Step]
    ) -> list[StepObserved]:
        """Steps of a guest that is no cell's; its logs are kept as those of a cell of this name.

        Raises HarnessError where not all of them could be done.
        """
        seen: list[StepObserved] = []
        logs = self._run_dir / CELLS / name
        begun = self._saved(setup, steps)
        try:
            with self._guest(setup, logs, []) as guest:
                if begun is not None:
                    seen += begun.seen
                    assert begun.saved is not None
                    guest.resume(begun.saved, 0)
                run_steps(guest, steps[len(seen):], seen)
        except (EngineError, TpmLost):
            raise
        except LeftTooLate:
            longer = setup.longer_post()
            if longer is None:
                raise
            return self._watch_apart(name, longer, steps)
        except HarnessError:  # a QEMU whose guest spins is slow to end
            if len(seen) < len(steps):
                raise
        bounds.cut_logs(logs)
        return seen

    def _start_apart(self, key: str, setup: GuestSetup, start: Start) -> list[StepObserved]:
        """Start a guest for what it finds. Nothing is seen where that cannot be done: no cell is to
        blame for it.
        """
        try:
            return self._watch_apart(f"offered-{key}", setup, [start])
        except EngineError:
            raise
        except HarnessError:
            return []

    @contextmanager
    def _guest(
        self, setup: GuestSetup, artifacts: Path, qemus: list[dict[str, Any]]
    ) -> Iterator[Guest]:
        """A guest in the scratch directory; its logs go to ``artifacts``, its QEMUs' rows, too."""
        wrong = None
        try:
            hosts = self.machines(setup, qemus)
            with Guest(hosts) as guest:
                yield guest
            hosts.check_engine()
        finally:
            wrong = keep_logs(self._scratch, artifacts)
        if wrong is not None:
            raise wrong

    def beginning(self, cell: Cell, place: Path) -> Snapshot | str:
        """Do all steps of a cell, and save its guest in ``place``, a new directory; or why not.

        It is judged by nobody. Raises HarnessError.
        """
        hosts = [self.host(spec) for spec in cell.hosts]
        if (cannot := self._cannot(cell, hosts)) is not None:
            return cannot
        setup, logs = self.setup(cell, hosts), self._run_dir / CELLS / place.name
        place.mkdir(parents=True)
        found = take(place.name, cell.scenario.steps, place,
                     lambda key: self._guest(setup, logs, []))
        if found.saved is not None:
            return found
        refusal = found.seen[-1].refusal
        return f"refused: {refusal}" if refusal else "the guest did not come up"

    @staticmethod
    def _saved(setup: GuestSetup, steps: Sequence[Step]) -> Snapshot | None:
        """How a guest has begun that does these steps, if another run has saved it."""
        begins = setup.hosts[0].qemu.saved is not None and steps[0] == Start(0)
        return saved.beginning(setup.hosts[0]) if begins else None

    def _snapshot(
        self, cell: Cell, hosts: Sequence[Host], setup: GuestSetup
    ) -> Snapshot | None:
        """The snapshot that this cell shares with others, if any is to be shared."""
        if (begun := self._saved(setup, cell.scenario.steps)) is not None:
            return begun
        if self._snapshots is None:
            return None

        def make_guest(key: str) -> AbstractContextManager[Guest]:
            return self._guest(setup, self._run_dir / CELLS / f"shared-{key}", [])

        return self._snapshots.run(cell, hosts, make_guest)

@dataclass(frozen=True)
class Unjudged:
    """A cell of which a step is still waited for: it can be a hang, or late.

    ``unsure`` is the index of that step, ``launched`` how many QEMUs there were after each, and
    ``judgement`` what is to be said if none is late.
    """

    runner: Runner
    run: CellRun
    setup: GuestSetup
    seen: list[StepObserved]
    qemus: list[dict[str, Any]]
    launched: list[int]
    judgement: Judgement
    unsure: int
    looks: Looks

    @property
    def done(self) -> bool:
        """Whether its verdict can be had without waiting."""
        return self.looks.first.done

    def judged(self) -> Record:
        """Its record; waits for it. Raises HarnessError as ``Runner.run`` does."""
        return self.runner.judge_waited(self)


def keep_logs(scratch: Path, artifacts: Path) -> CellError | None:
    """Move what a person may want to read out of a scratch directory, and empty it.

    Returns what is wrong with a log.
    """
    if artifacts.exists():
        remove_tree(artifacts)
    with Scratch(scratch) as opened:
        return opened.keep_logs(artifacts)
