"""Late is not never: what misses its usual time is waited for, once for all to whom it happens."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.engines import Engine
from bootmatrix.errors import EngineError
from bootmatrix.firmware.identity import sha256
from bootmatrix.machines.console import BootSeen, Console
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import (
    Accel,
    Disk,
    FirmwareBuild,
    GuestKind,
    Host,
    HostSpec,
    Nic,
    QemuBuild,
    Verdict,
)
from bootmatrix.policies import Policy
from bootmatrix.records.model import Record
from bootmatrix.run import answers
from bootmatrix.run.patience import (
    LOOKS,
    Patience,
    doubtful,
    in_time,
    key_of,
    late,
    missed,
    outlasts,
    surely_late,
)
from bootmatrix.run.runner import Runner, Unjudged
from bootmatrix.steps.base import Step
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.start import Start
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine
from bootmatrix.witnesses.refusal import Refusal
from bootmatrix.witnesses.resets import ENDLESS
from helpers.cells import cell

START, RESET = Start(0), Reset()
UP = ProbeLine("up", 1, None, "SeaBIOS", "1.17.0-1", "A")
DOWN = BootObserved(0, ("1.17.0-1",), None, "ab", 5.01, 5.0)
SEEN = (StepObserved(START, 33.0, 0, boot=replace(DOWN, up=UP, seconds=32.6)),)
Ended = Callable[[Callable[[], None]], None]


class Watches:
    """Representatives that see SEEN; ``number`` of them have run."""

    number = 0

    def __call__(self, can_be_ended_by: Ended) -> Sequence[StepObserved]:
        self.number += 1
        return SEEN


# ---- what is waited for -------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "waits"), [
    (StepObserved(START, 5.0, 0, boot=DOWN), True),
    (StepObserved(START, 0.1, 0, boot=replace(DOWN, up=UP)), False),
    (StepObserved(START, 0.1, 0, boot=replace(DOWN, ended="killed")), False),
    (StepObserved(START, 5.0, 0, boot=replace(DOWN, resets=ENDLESS - 1)), True),
    (StepObserved(START, 0.6, 0, boot=replace(DOWN, resets=ENDLESS)), False),
    (StepObserved(Migrate(1), 5.0, 1, limit=5.0), True),
    (StepObserved(Migrate(1), 0.1, 1, answer=UP), False),
    (StepObserved(START, 0.1, refusal=Refusal("other", "no")), False),
])  # fmt: skip
def test_only_what_did_not_come_in_time_is_waited_for(step: StepObserved, waits: bool) -> None:
    assert missed([step]) is waits


def boots(*times: tuple[float, float]) -> list[StepObserved]:
    """Boots that came, with the seconds of their QEMU's clock and of the wall clock."""
    return [StepObserved(RESET, seconds, 0, boot=replace(DOWN, up=UP, seconds=seconds, wall=wall))
            for seconds, wall in times]


@pytest.mark.parametrize(("times", "index"), [
    ([(0.2, 0.2), (6.0, 33.0)], 1),  # it was there when time was up
    ([(0.2, 0.2), (4.9, 4.9)], None),
    ([(0.3, 3.0), (0.4, 4.9)], None),  # a busy machine, and still in time
    ([(0.3, 3.0), (0.4, 9.0)], None),  # in a tenth of the usual time: it waits for nothing
    ([(2.0, 20.0), (3.0, 30.0)], 0),
    ([(0.3, 3.0), (3.0, 33.0)], 1),
    ([(1.5, 4.9), (3.0, 33.0)], 1),  # the boot before may have had more of a processor
])  # fmt: skip
def test_which_boot_is_in_doubt(times: list[tuple[float, float]], index: int | None) -> None:
    seen = boots(*times)
    assert doubtful(seen) == index
    if index is not None:
        assert doubtful(seen, index) == index
        assert doubtful(seen, index + 1) == (1 if times == [(2.0, 20.0), (3.0, 30.0)] else None)


def test_what_did_not_come_is_in_no_doubt() -> None:
    down = StepObserved(RESET, 5.0, 0, boot=replace(DOWN, wall=50.0))
    assert doubtful([down, StepObserved(Migrate(1), 0.1, 1, answer=UP, wall=9.0)]) is None


@pytest.mark.parametrize(("seconds", "wall", "came"), [
    (3.0, 4.5, True),  # by both clocks
    (5.1, 5.2, False),
    (33.0, 33.0, False),
    (4.0, 7.0, True),
    (20.0, 33.0, False),
    (3.0, 33.0, None),  # on a machine that kept QEMU waiting for most of the time
    (5.5, 50.0, None),
])
@pytest.mark.parametrize("boots_it", [True, False])
def test_in_time_by_the_clock_of_a_qemu_that_could_run(
    seconds: float, wall: float, came: bool | None, boots_it: bool
) -> None:
    seen = boots((seconds, wall))[0] if boots_it else StepObserved(
        Migrate(1), seconds, 1, answer=UP, wall=wall)
    assert in_time(seen, usual=5.0) is came


@pytest.mark.parametrize(("times", "is_late"), [
    ([(3.0, 33.0), (3.0, 4.5)], False),  # it came before all others, and was quick
    ([(3.0, 33.0), (32.0, 33.0)], True),
    ([(0.4, 33.5), (3.0, 33.0)], None),  # as long with more of a processor: a clock can be wrong
    ([(0.2, 46.0), (4.8, 32.0)], None),
    ([(0.6, 9.0), (2.08, 8.0)], None),  # a boot that was good, at a load of 44
    ([(3.2, 300.0), (3.0, 33.0)], False),  # the same work, and so it took longer
    ([(0.5, 80.0), (1.5, 12.0)], False),  # a clock that has three times too much
    ([(3.0, 33.0), (3.2, 34.0)], None),  # with as much of a processor as before
    ([(3.0, 33.0), (3.2, 60.0)], None),
    ([(1.0, 5.1), (0.5, 6.0)], None),
    ([(3.0, 33.0)], None),
])
def test_does_it_work_or_wait(times: list[tuple[float, float]], is_late: bool | None) -> None:
    assert late(5.0, *boots(*times)) is is_late


@pytest.mark.parametrize(("times", "is_late"), [
    ([(3.0, 33.0), (3.2, 34.0), (0.3, 33.0)], True),
    ([(0.4, 33.5), (3.0, 33.0), (0.03, 35.0)], True),
    ([(3.0, 33.0), (3.2, 34.0), (3.1, 340.0)], False),
    ([(0.6, 9.0), (2.08, 8.0), (1.2, 60.0)], False),
    ([(3.0, 33.0), (3.2, 34.0), (3.0, 33.0)], None),  # it was not slower
])  # fmt: skip
def test_does_it_work_or_wait_slowed_down(
    times: list[tuple[float, float]], is_late: bool | None
) -> None:
    *seen, last = boots(*times)
    assert late(5.0, *seen, replace(last, slowed=True)) is is_late
    if is_late:
        assert late(5.0, *seen, last) is None, "nobody has seen to it that it was slower"


def test_what_did_not_come_tells_nothing() -> None:
    down = StepObserved(RESET, 5.0, 0, boot=replace(DOWN, wall=50.0))
    waits, with_less = boots((3.0, 33.0), (0.4, 33.5))
    assert late(5.0, down) is None
    assert late(5.0, down, waits) is None
    assert late(5.0, waits, down) is None
    assert late(5.0, waits, replace(with_less, slowed=True), down) is True


@pytest.mark.parametrize(("times", "is_late"), [
    ([(5.5, 33.0)], False),  # by a clock that is not so exact
    ([(5.0, 40.0), (14.9, 100.0)], False),
    ([(15.1, 100.0)], True),
    ([(14.0, 60.0), (15.1, 100.0)], True),
    ([(0.4, 33.5), (3.0, 33.0)], False),
])
def test_what_is_late_for_sure(times: list[tuple[float, float]], is_late: bool) -> None:
    assert surely_late(5.0, *boots(*times)) is is_late


@pytest.mark.parametrize(("seconds", "patience", "longest"), [
    (5.0, None, 120.0), (30.0, None, 120.0), (60.0, None, 180.0), (5.0, 20.0, 20.0),
    (60.0, 20.0, 60.0),
])  # fmt: skip
def test_how_long(seconds: float, patience: float | None, longest: float) -> None:
    assert replace(cell("sid", "stock"), seconds=seconds, patience=patience).longest == longest


def test_all_that_an_answer_depends_on_is_in_its_key(tmp_path: Path) -> None:
    names = ("disk", "other-disk", "bios", "other-bios")
    disk, other_disk, bios, other_bios = files = [tmp_path / name for name in names]
    for file in files:
        file.write_text(file.name)
    qemu = QemuBuild("q", "7.2.0", "digest", tmp_path)
    host = Host("h", qemu, FirmwareBuild("f", "sha", 4, bios))
    plain = GuestSetup([host], "pc-q35-5.2", Policy.STOCK, [disk])

    def key(setup: GuestSetup = plain, steps: Sequence[Step] = (START, RESET),
            argv: Sequence[str] = ("qemu",), engine: str = "docker", patience: float = 120) -> str:
        return key_of(setup, steps, [argv], engine, patience)

    keys = [key(), key(steps=[START]), key(argv=["qemu", "-S"]), key(engine="bubblewrap"),
            key(patience=130.0), *(key(other) for other in (
                replace(plain, machine="pc-i440fx-5.2"), replace(plain, disk=Disk.IDE),
                replace(plain, disks=[other_disk]), replace(plain, accel=Accel.KVM),
                replace(plain, guest=GuestKind.LINUX), replace(plain, cpu="max"),
                replace(plain, smp=2), replace(plain, nic=Nic.E1000),
                replace(plain, policy=Policy.GUEST_OWNED), replace(plain, policy=Policy.REREAD),
                replace(plain, hosts=[replace(host, qemu=replace(qemu, digest="other"))]),
                replace(plain, hosts=[replace(
                    host, firmware=replace(host.firmware, path=other_bios))]),
                replace(plain, hosts=[replace(
                    host, firmware=replace(host.firmware, variables=other_disk))]),
            ))]  # fmt: skip
    assert len(set(keys)) == len(keys)
    # What has no influence does not make another one of it.
    owned = replace(plain, policy=Policy.GUEST_OWNED)
    assert key(owned) == key(replace(plain, policy=Policy.GUEST_OWNED_VERSIONED))
    assert key(plain, [START]) == key(replace(plain, policy=Policy.REREAD), [START])
    assert key(replace(plain, seconds=9)) == key()


# ---- one answer for all -------------------------------------------------------------------------


def test_one_representative_answers_for_all_and_for_later_runs(tmp_path: Path) -> None:
    watches, kept = Watches(), tmp_path / "kept"
    for run in range(2):
        first, second = (Patience(tmp_path / f"run-{run}", kept) for _ in range(2))
        waits = [one.ask("k", watches) for one in (first, second, first)]
        assert [wait.answer() for wait in waits] == [SEEN] * 3
        assert [wait.earlier for wait in waits] == [run == 1] * 3
        assert all(wait.done for wait in waits)
        second.keep("k")
        first.close()
        second.close()
    assert watches.number == 1


def test_what_no_verdict_rests_on_does_not_outlast_the_run(tmp_path: Path) -> None:
    watches = Watches()
    for run in range(2):
        patience = Patience(tmp_path / f"run-{run}", tmp_path / "kept")
        assert patience.ask("k", watches).answer() == SEEN
        patience.close()
    assert watches.number == 2


def test_each_look_is_an_answer_of_its_own_and_kept_with_the_others(tmp_path: Path) -> None:
    watches = Watches()
    for run in range(2):
        patience = Patience(tmp_path / f"run-{run}", tmp_path / "kept")
        for number in LOOKS:
            wait = patience.ask("k", watches, number)
            assert (wait.answer(), wait.earlier) == (SEEN, run == 1)
        patience.keep("k")
        patience.close()
    assert watches.number == 3


def test_what_is_kept_for_later_runs(tmp_path: Path) -> None:
    qemu = QemuBuild("q", "7.2.0", "digest", tmp_path)
    host = Host("h", qemu, FirmwareBuild("f", "sha", 4, tmp_path))
    setup = GuestSetup([host], "pc-q35-5.2", Policy.STOCK, [], seconds=5.0)
    hung = StepObserved(RESET, 120.0, 0, boot=replace(DOWN, seconds=120.0))

    def after(seconds: float) -> Sequence[StepObserved]:
        return StepObserved(START, 1, 0, boot=replace(DOWN, up=UP, seconds=seconds)), hung

    assert outlasts(setup, after(0.2))
    assert not outlasts(setup, after(5.2)), "the machine had no time to spare"
    for accel in (Accel.KVM, Accel.TCG_TO_KVM, Accel.KVM_TO_TCG):
        assert not outlasts(replace(setup, accel=accel), after(0.2))


@pytest.mark.parametrize("damage", [
    lambda whole: whole[:-9], lambda whole: whole.replace(b"32.6", b"31.6"), lambda whole: b"",
    lambda whole: b"x\n[]", lambda whole: b"\xff" * 99,
])  # fmt: skip
def test_a_damaged_answer_is_none(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    answers.write(tmp_path, "k", SEEN)
    assert answers.read(tmp_path, "k") == SEEN
    file = tmp_path / "k.json"
    file.write_bytes(damage(file.read_bytes()))
    assert answers.read(tmp_path, "k") is None
    assert [path.name for path in tmp_path.iterdir()] == ["k.json"], "nothing half-written"


def test_a_cache_that_cannot_be_written_to_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    patience = Patience(tmp_path / "run", tmp_path / "file" / "kept")
    assert patience.ask("k", Watches()).answer() == SEEN
    patience.keep("k")
    patience.close()


def test_another_worker_takes_over_where_one_has_died(tmp_path: Path) -> None:
    held = answers.lock(tmp_path / "run", "k", wait=False)
    assert held is not None
    watches, patience = Watches(), Patience(tmp_path / "run", tmp_path / "kept")
    wait = patience.ask("k", watches)
    assert (wait.done, watches.number) == (False, 0)
    os.close(held)  # as the kernel does with a dead one's
    assert wait.answer() == SEEN
    assert watches.number == 1
    patience.close()


def test_what_is_closed_is_asked_no_more(tmp_path: Path) -> None:
    """As with an engine that another cell has broken: who waits is run again with a new one."""
    patience = Patience(tmp_path / "run", tmp_path / "cache")
    assert patience.ask("key", lambda ended: SEEN).answer() == SEEN
    patience.close()
    assert patience.ask("key", lambda ended: SEEN).answer() == SEEN
    with pytest.raises(EngineError, match="the engine was closed meanwhile"):
        patience.ask("other", lambda ended: SEEN)


def test_an_end_of_the_run_ends_what_waits(tmp_path: Path) -> None:
    begun, end = threading.Event(), threading.Event()

    def endless(can_be_ended_by: Ended) -> Sequence[StepObserved]:
        can_be_ended_by(end.set)
        begun.set()
        assert end.wait(60)
        raise EngineError("the sandbox has ended")

    patience = Patience(tmp_path / "run", tmp_path / "kept")
    wait = patience.ask("k", endless)
    assert begun.wait(60)
    patience.close()
    with pytest.raises(EngineError):
        wait.answer()
    assert not (tmp_path / "kept").exists()


# ---- on real QEMUs ------------------------------------------------------------------------------


def begun(runner: Runner, wanted: Cell) -> Unjudged:
    unjudged = runner.begin(wanted)
    assert isinstance(unjudged, Unjudged), unjudged["reason"]
    return unjudged


class RunnerWith(Runner):
    """A runner whose bookworm has another firmware."""

    firmware: FirmwareBuild

    def host(self, spec: HostSpec) -> Host:
        host = super().host(spec)
        return replace(host, firmware=self.firmware) if spec.name == "bookworm" else host


def hastier(old: FirmwareBuild, directory: Path) -> FirmwareBuild:
    """A SeaBIOS that gives up a command after 6 s, and not 32, in which it spins."""
    image = old.path.read_bytes()
    waits = b"\xb8%s" % (32_000).to_bytes(4, "little")  # mov eax, so many ms
    assert image.count(waits) > 3
    path = directory / "bios.bin"
    path.write_bytes(image.replace(waits, b"\xb8%s" % (6_000).to_bytes(4, "little")))
    return replace(old, name="hastier", path=path, sha256=sha256(path.read_bytes()))


@pytest.mark.thorough
@pytest.mark.usefixtures("ample")
def test_old_seabios_is_late_with_ahci_on_new_qemu_and_the_answer_is_kept(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SeaBIOS up to 1.16.2 gives up an AHCI command in time, and then boots.

    After 32 s, as it is shipped: that is what `make demo` and matrices/quickstart.yaml have.
    """
    wanted = [
        cell("bookworm sid", policy, machine="pc-q35-5.2", disk="ahci", seconds=1, patience=60)
        for policy in ("guest-owned", "guest-owned-versioned")
    ]
    old = store.beside("debian-bookworm", "seabios")
    monkeypatch.setattr(RunnerWith, "firmware", hastier(old, tmp_path), raising=False)
    kept = tmp_path / "kept"
    with RunnerWith(Builds(store), bubblewrap, tmp_path / "first", cache=kept) as runner:
        first = [one.judged() for one in [begun(runner, each) for each in wanted]]
    for record in first:
        assert record["verdict"] == Verdict.LATE, record["reason"]
        assert re.match(
            r"boot 2 \(reset on destination\): not up within 1\.0 s \(up after .*"
            r" when waited for\)", record["reason"])
        boot = record["boots"][1]
        assert (boot["console"], boot["rom"]) == (old.prints, "hastier")
        assert 5 < boot.get("wall_seconds", boot["seconds"]) < 30
        assert boot["usual"] == 1.0
        assert record["waited"]["earlier"] is False
        # What it waited for; on a busy machine its second can be over before it does, or it can
        # have come within it by QEMU's own clock, and then there was nothing to look into.
        assert re.search(r"ahci 0xfebff110 read|runs at", record.get("black_box", "runs at"))
    waited = {log.parts[-3].split("-")[1]  # on a busy machine it was looked at more than once
              for log in (tmp_path / "first/cells").glob("waited-*/2-destination/console.log")}
    assert len(waited) == 1
    assert not list((tmp_path / "first").glob("scratch-*"))

    with RunnerWith(Builds(store), bubblewrap, tmp_path / "second", cache=kept) as runner:
        second = begun(runner, wanted[0])
        assert second.done, "the answer is known already"
        record = second.judged()
    assert (record["verdict"], record["reason"]) == (Verdict.LATE, first[0]["reason"])
    assert record["waited"]["earlier"] is True
    assert not list((tmp_path / "second/cells").glob("waited-*"))


def test_what_its_representative_did_in_time_is_run_again(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the machine stood still: it is neither late nor a hang."""
    wait_for_boot = Console.wait_for_boot
    stalls = [BootSeen((), None, ended=False, spoke=False)]

    def stalled(self: Console, *args: object, **more: object) -> BootSeen:
        return stalls.pop() if stalls else wait_for_boot(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Console, "wait_for_boot", stalled)
    with Runner(Builds(store), bubblewrap, tmp_path, cache=tmp_path / "kept") as runner:
        record: Record = runner.run(cell("sid", "stock", "cold-boot", patience=30))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert record["run_again"] == (
        "step 1 was missed; when waited for: up within the usual time"
    )
