"""A cell end to end on machines that are none: each verdict, what is recorded, what is shared."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cell import Cell
from bootmatrix.engines import confinement
from bootmatrix.errors import CellError, EngineError, UserError
from bootmatrix.machines.fake import FakeHosts, Script, firmware
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Accel, Disk, GuestKind, HostSpec, Known, OwnDisk, OwnGuest, Verdict
from bootmatrix.policies import Policy
from bootmatrix.records.model import Record
from bootmatrix.run import faults
from bootmatrix.run import guest as guest_module
from bootmatrix.run.patience import Patience, Wait
from bootmatrix.steps.base import Ability
from bootmatrix.steps.library import LIBRARY, parse
from bootmatrix.witnesses.observation import BLACK_BOX, StepObserved
from bootmatrix.witnesses.refusal import Refusal
from helpers.fakes import MACHINE, SECONDS, VERSIONS, FakeRunner, fake_guest, life

OLD, NEW = (f"seabios-{version}" for version in VERSIONS[:2])


def cell(
    policy: str = "stock", scenario: str | list[Any] = "migrate-reset", **changed: Any
) -> Cell:
    steps = LIBRARY[scenario] if isinstance(scenario, str) else parse("own", scenario)
    hosts = tuple(HostSpec(f"h{number}", f"h{number}") for number in range(steps.hosts_needed))
    plain = Cell(hosts, MACHINE, Policy(policy), steps, Disk.IDE, seconds=SECONDS,
                 patience=SECONDS)
    return replace(plain, **changed)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GUEST_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(guest_module, name, SECONDS)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[FakeRunner]:
    with FakeRunner(tmp_path) as runner:
        yield runner


def consoles(record: Record) -> list[str | None]:
    return [boot["console"] for boot in record["boots"]]


# ---- a machine that hardly runs ------------------------------------------------------------------


def test_a_hang_on_a_busy_machine_is_found_by_its_own_clock(runner: FakeRunner) -> None:
    runner.script = Script(silent={2}, share=0.25)
    begun = time.monotonic()
    record = runner.run(cell())
    assert time.monotonic() - begun > 4 * SECONDS
    assert record["verdict"] == Verdict.SILENT
    assert re.fullmatch(
        r"boot 2 \(reset on destination\): not a byte in 0\.2 s \((0\.[89]|[1-3]\.\d) s by the "
        r"clock, in which QEMU was able to run for [0-9.]+ s\)", record["reason"])
    boot, step = record["boots"][1], record["steps"][2]
    for row in (boot, step):
        assert SECONDS <= row["seconds"] < 2 * SECONDS
        assert row["wall_seconds"] > 3 * row["seconds"]
    assert "wall_seconds" not in record["boots"][0], "it took no time to speak of"


def test_a_good_guest_on_a_busy_machine_is_no_finding(runner: FakeRunner) -> None:
    runner.script = Script(waits={1: 2.5 * SECONDS}, share=0.02)
    record = runner.run(cell())
    assert record["verdict"] == Verdict.PASS
    assert record["boots"][0]["seconds"] < SECONDS < record["boots"][0]["wall_seconds"]


def test_an_image_that_has_gone_meanwhile_stops_no_other_cell(
    runner: FakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(cell: Cell, hosts: object) -> GuestSetup:
        raise UserError(f"{tmp_path}/disk.qcow2 is cut off")

    with monkeypatch.context() as patch:
        patch.setattr(runner, "setup", gone)
        own = OwnGuest("mine", GuestKind.DISK, disk=OwnDisk(tmp_path / "disk.qcow2"), up="login")
        record = runner.run(cell(guest=own))
        assert record["verdict"] == Verdict.ERROR
        assert record["reason"].endswith("disk.qcow2 is cut off")
        with pytest.raises(UserError):
            runner.run(cell())
    assert runner.run(cell())["verdict"] == Verdict.PASS


def answered(monkeypatch: pytest.MonkeyPatch, *answers: list[StepObserved]) -> list[int]:
    """Have these seen when a cell is waited for with patience; the numbers of the looks."""
    looks: list[int] = []

    def ask(self: Patience, key: str, watch: object, number: int) -> Wait:
        seen = tuple(answers[len(looks)])
        looks.append(number)
        return Wait(lambda: seen, lambda: True, earlier=False)

    monkeypatch.setattr(Patience, "ask", ask)
    return looks


@pytest.mark.parametrize(("seconds", "wall", "verdict"), [
    (0.01, 2.5 * SECONDS, Verdict.LATE), (0.1, 20 * SECONDS, Verdict.PASS),
    (0.1, SECONDS, Verdict.PASS), (2 * SECONDS, 2.5 * SECONDS, Verdict.LATE),
])  # fmt: skip
@pytest.mark.parametrize("boot", [1, 2])
def test_a_guest_that_may_wait_by_its_own_clock(
    runner: FakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: int, seconds: float,
    wall: float, verdict: Verdict,
) -> None:
    """Up in time by its QEMU's clock alone: another boot, which comes before all else, decides."""
    index = {1: 0, 2: 2}[boot]
    seen = life(fake_guest(tmp_path / "apart"), ["start", "migrate", "reset"])[: index + 1]
    watched = seen[index].boot
    assert watched is not None
    seen[index] = replace(seen[index], boot=replace(watched, seconds=seconds, wall=wall))
    slower = [*seen[:index], replace(seen[index], boot=replace(
        watched, seconds=seconds / 10, wall=wall))]
    looks = answered(monkeypatch, seen, slower)
    runner.script = Script(waits={boot: 2.5 * SECONDS}, share=0.2)
    record = runner.run(cell(patience=60 * SECONDS))
    assert record["verdict"] == verdict, record["reason"]
    # Of what its QEMU's clock calls in time, only one that was slowed down tells that it waits.
    assert looks == ([2, 3] if verdict is Verdict.LATE and seconds < SECONDS else [2])
    assert len(record["boots"]) == (boot if verdict is Verdict.LATE else 2)
    assert ("waited" in record) is (verdict is Verdict.LATE)


@pytest.mark.parametrize(("looks", "again"), [
    ([(0.45, 0.5)], False),
    ([(0.1, 0.5), (0.45, 0.5)], False),
    ([(0.1, 0.5), (0.02, 0.5), (0.01, 0.5)], False),
    ([(0.1, 0.5), (0.11, 0.5), (0.01, 0.6)], False),
    ([(0.1, 0.19)], True),
    ([(0.1, 0.5), (0.1, 0.19)], True),
    ([(0.1, 0.5), (0.11, 0.5), (0.12, 6.0)], True),
    ([(0.1, 0.5), (0.1, 0.6), (0.1, 0.7)], True),
], ids=["late", "at last", "it waits", "slowed it waits", "in time", "in time at last",
        "slowed it works", "never told"])  # fmt: skip
def test_what_a_busy_machine_hides_of_a_missed_boot_is_looked_at_again(
    runner: FakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    looks: list[tuple[float, float]], again: bool,
) -> None:
    first = life(fake_guest(tmp_path / "apart"), ["start"])[0]
    assert first.boot is not None
    numbers = answered(monkeypatch, *(
        [replace(first, boot=replace(first.boot, seconds=seconds, wall=wall))]
        for seconds, wall in looks))
    runner.script = Script(waits={1: 2.5 * SECONDS})
    record = runner.run(cell(patience=60 * SECONDS))
    assert record["verdict"] == Verdict.LATE, "when it is run again, too"
    assert ("run_again" in record, "waited" in record) == (again, not again)
    assert numbers == [1, 2, 3][: len(looks)]


def test_a_boot_in_doubt_before_one_that_is_missed(
    runner: FakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the first was in time is not all: then the other is waited for."""
    steps = ["start", "migrate", "reset"]
    first = life(fake_guest(tmp_path / "apart"), steps[:1])[0]
    silent = life(fake_guest(tmp_path / "silent", script=Script(silent={2})), steps)
    assert first.boot is not None
    looks = answered(
        monkeypatch, [replace(first, boot=replace(first.boot, wall=0.1))], silent)
    runner.script = Script(waits={1: 1.4 * SECONDS}, silent={2}, share=0.2)
    record = runner.run(cell(patience=3 * SECONDS))
    assert looks == [2, 1]
    assert record["verdict"] == Verdict.SILENT
    assert record["waited"]["step"] == 3


def test_two_boots_in_doubt(
    runner: FakeRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first works, and the second waits by its own clock: each is looked at."""
    seen = life(fake_guest(tmp_path / "apart"), ["start", "migrate", "reset"])
    assert seen[0].boot is not None
    assert seen[2].boot is not None
    boot = replace(seen[2].boot, seconds=0.01, wall=2.5 * SECONDS)
    late = replace(seen[2], boot=boot)
    looks = answered(
        monkeypatch, [replace(seen[0], boot=replace(seen[0].boot, wall=0.1))],
        [seen[0], seen[1], late],
        [seen[0], seen[1], replace(late, boot=replace(boot, seconds=0.001))])
    runner.script = Script(waits=dict.fromkeys((1, 2), 2.5 * SECONDS), share=0.2)
    record = runner.run(cell(patience=60 * SECONDS))
    assert looks == [2, 2, 3]
    assert record["verdict"] == Verdict.LATE, record["reason"]
    assert record["waited"]["step"] == 3


# ---- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("scenario", [
    "cold-boot", "reset", "reset-by-cf9", "migrate-reset", "migrate-restart", "ping-pong", "chain",
    "move", "save-restore-reset", "host-upgrade-reset", "host-upgrade-restart",
    "replace-disk-restart", "guest-flash-migrate-reset", "migrate-reset-by-triple-fault",
])  # fmt: skip
def test_a_machine_that_follows_the_policy_passes(
    runner: FakeRunner, policy: Policy, scenario: str
) -> None:
    record = runner.run(cell(policy.value, scenario))
    assert record["verdict"] == Verdict.PASS, record["reason"]


def test_a_swap_that_does_not_happen_is_wrong_firmware(runner: FakeRunner) -> None:
    runner.script.no_swap = True
    record = runner.run(cell("machine-owned"))
    assert record["verdict"] == Verdict.WRONG_FIRMWARE
    assert record["reason"] == f"boot 2 (reset on destination): expected {NEW}, seen {OLD}"


@pytest.mark.parametrize(("script", "verdict", "reason"), [
    (Script(silent={2}), Verdict.SILENT, "boot 2 (reset on destination): "),
    (Script(hangs={2}), Verdict.NO_BOOT, "boot 2 (reset on destination): "),
    (Script(ends={2}), Verdict.SILENT, "boot 2 (reset on destination): "),
    (Script(stops={2}), Verdict.STOPPED,
     "boot 2 (reset on destination): QEMU stopped the guest: internal-error"),
    (Script(deaf=True), Verdict.NO_BOOT, "migrate: the guest no longer answers"),
    (Script(no_reset=True), Verdict.NOT_RESET, "reset: the machine was told to reset, and was not; "
     "the guest goes on, and answers as boot 1"),
    (Script(clears_cmos=True), Verdict.WRONG_CMOS, "migrate: the CMOS has lost "),
    (Script(loses_memory=True), Verdict.WRONG_MEMORY, "migrate: the guest's program in its "),
    (Script(changes_tables=True), Verdict.WRONG_TABLES, "migrate: tables of the running guest "),
    (Script(stale={2}), Verdict.WRONG_TABLES,
     "boot 2 (reset on destination): the tables are not those of the host: a start finds ACPI "),
    (Script(fewer={2}), Verdict.WRONG_HARDWARE,
     "boot 2 (reset on destination): the guest does not see what it was given, memory: 16384 KiB"),
    (Script(resets_again={1}), Verdict.EXTRA_RESET, "boot 1 (start on source): the machine was "),
    (Script(refuses=Refusal("section", "Unknown section")), Verdict.BLOCKED, "migrate: section: "),
    (Script(refuses_start="qemu: unsupported machine type"), Verdict.BLOCKED, "start: "),
])  # fmt: skip
def test_what_a_machine_does_wrong(
    runner: FakeRunner, script: Script, verdict: Verdict, reason: str
) -> None:
    runner.script = script
    record = runner.run(cell())
    assert (record["verdict"], record["reason"][: len(reason)]) == (verdict, reason)


def test_tables_after_a_reset_are_asked_of_one_start_for_all_cells(
    runner: FakeRunner, tmp_path: Path
) -> None:
    for policy in ("stock", "machine-owned"):
        assert runner.run(cell(policy))["verdict"] == Verdict.PASS
    assert [len(fakes.processes) for fakes in runner.made] == [2, 1, 2]
    assert len(list((tmp_path / "cells").glob("offered-*/1-destination/console.log"))) == 1
    runner.script = Script(stale={2})
    assert runner.run(cell("machine-owned"))["verdict"] == Verdict.WRONG_TABLES


@pytest.mark.parametrize("scenario", ["reset", "cold-boot"])
def test_what_has_not_moved_before_its_reset_needs_no_other_start(
    runner: FakeRunner, scenario: str
) -> None:
    assert runner.run(cell(scenario=scenario))["verdict"] == Verdict.PASS
    assert len(runner.made) == 1


def test_a_start_that_cannot_be_made_is_no_cells_fault(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = FakeRunner.machines

    def broken(self: FakeRunner, setup: Any, rows: list[dict[str, Any]]) -> FakeHosts:
        if self.made:
            raise CellError("the scratch directory is gone")
        return machines(self, setup, rows)

    monkeypatch.setattr(FakeRunner, "machines", broken)
    assert runner.run(cell())["verdict"] == Verdict.PASS


def test_a_guest_that_is_down_has_a_black_box(runner: FakeRunner, tmp_path: Path) -> None:
    runner.script = Script(silent={2}, does="loops in 0x10-0x18")
    record = runner.run(cell())
    assert record["black_box"] == "loops in 0x10-0x18"
    box = tmp_path / record["artifacts"] / BLACK_BOX
    assert box.read_text() == "2-destination: loops in 0x10-0x18\n"


@pytest.mark.parametrize("script", [
    Script(), Script(ends={2}), Script(refuses=Refusal("section", "Unknown section")),
], ids=["passes", "has ended", "is refused"])
def test_where_nobody_can_be_asked_or_need_be_there_is_none(
    runner: FakeRunner, tmp_path: Path, script: Script
) -> None:
    runner.script = script
    record = runner.run(cell())
    assert "black_box" not in record
    assert not (tmp_path / record["artifacts"] / BLACK_BOX).exists()


def test_a_machine_without_an_ability_has_the_cell_unsupported(runner: FakeRunner) -> None:
    runner.abilities = frozenset(Ability) - {Ability.MIGRATE}
    record = runner.run(cell())
    assert record["verdict"] == Verdict.UNSUPPORTED
    assert record["reason"] == "migrate needs migration, which these machines do not have"
    assert runner.made == []
    assert runner.run(cell(scenario="reset"))["verdict"] == Verdict.PASS


def test_a_host_without_kvm_has_the_cell_unsupported(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "KVM", "/dev/not-there")
    record = runner.run(cell(accel=Accel.KVM))
    assert record["verdict"] == Verdict.UNSUPPORTED
    assert record["reason"] == "this host has no /dev/not-there"
    assert runner.made == []
    assert runner.run(cell())["verdict"] == Verdict.PASS


@pytest.mark.parametrize(("hurried", "verdict"), [(1, Verdict.PASS), (9, Verdict.ERROR)])
def test_a_guest_that_was_up_before_it_could_leave_has_a_longer_post(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, hurried: int, verdict: Verdict
) -> None:
    """It is nobody's fault but this machine's: no finding, and no third way."""
    posts: list[int] = []

    def machines(setup: GuestSetup, rows: list[dict[str, Any]]) -> FakeHosts:
        posts.append(setup.post_ms)
        runner.script = Script(hurries=len(posts) <= hurried)
        return FakeRunner.machines(runner, setup, rows)

    monkeypatch.setattr(runner, "machines", machines)
    monkeypatch.setattr(faults, "check_engine", lambda error, *_: error)  # it is none
    record = runner.run(cell(scenario=["start", {"migrate": {"during-post": True}}]))
    assert record["verdict"] == verdict
    assert posts == [500, 2000, 8000][: hurried + 1]
    assert len(record["qemus"]) == 2, "of the last attempt only"
    if verdict is Verdict.ERROR:
        assert "the guest was up before it left" in record["reason"]


@pytest.mark.parametrize(("lacks", "policy"), [
    (Ability.SWAP, "machine-owned"), (Ability.SWAP, "reread"), (Ability.NVRAM, "guest-owned"),
])  # fmt: skip
def test_a_policy_needs_them_too(runner: FakeRunner, lacks: Ability, policy: str) -> None:
    runner.abilities = frozenset(Ability) - {lacks}
    assert runner.run(cell(policy))["reason"] == (
        f"{policy} needs {lacks.value}, which these machines do not have")
    assert runner.run(cell("stock"))["verdict"] == Verdict.PASS


@pytest.mark.parametrize(("lacks", "scenario"), [
    (Ability.CONSOLE, "reset-by-cf9"), (Ability.START, "cold-boot"), (Ability.RESET, "reset"),
    (Ability.POWER, "move"), (Ability.REPLACE_FIRMWARE, "host-upgrade-reset"),
    (Ability.REPLACE_DISK, "replace-disk-reset"),
])  # fmt: skip
def test_each_ability_is_needed_by_a_step(
    runner: FakeRunner, lacks: Ability, scenario: str
) -> None:
    runner.abilities = frozenset(Ability) - {lacks}
    record = runner.run(cell(scenario=scenario))
    assert record["verdict"] == Verdict.UNSUPPORTED
    assert lacks.value in record["reason"]


def test_a_fault_of_ours_is_an_error_and_the_boots_before_it_were_seen(
    runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, recovers: bool) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("bootmatrix.machines.fake.FakeMachine.migrate", broken)
    record = runner.run(cell())
    assert record["verdict"] == Verdict.ERROR
    assert record["reason"] == "ZeroDivisionError: planted"
    assert consoles(record) == [OLD]


def test_an_engine_that_lost_its_machines_stops_the_run(runner: FakeRunner) -> None:
    runner.script.lost = True
    with pytest.raises(EngineError, match="lost its machines"):
        runner.run(cell())


def test_a_known_entry_labels_and_decides_nothing(runner: FakeRunner) -> None:
    declared = [Known((("machine", (MACHINE,)),), (Verdict.SILENT,), "said before")]
    runner.script = Script(silent={2})
    silent = runner.run(cell(), declared)
    runner.script = Script()
    fine = runner.run(cell(), declared)
    assert (silent["verdict"], silent["known"]) == (Verdict.SILENT, "said before")
    assert (fine["verdict"], fine["known"]) == (Verdict.PASS, "said before")
    assert (silent["known_state"], fine["known_state"]) == ("known", "fixed")


def test_where_bytes_are_the_same_the_names_are_one_firmware(
    runner: FakeRunner, tmp_path: Path
) -> None:
    same = replace(firmware(VERSIONS[0], tmp_path), name="another-name")
    runner.fakes.hosts[1].__dict__["firmware"] = same
    assert runner.run(cell("machine-owned"))["verdict"] == Verdict.PASS


def test_logs_and_rows_are_kept_and_nothing_else(runner: FakeRunner, tmp_path: Path) -> None:
    record = runner.run(cell())
    assert [row["role"] for row in record["qemus"]] == ["source", "destination"]
    assert record["engine"] == "fake"
    artifacts = tmp_path / record["artifacts"]
    logs = [str(path.relative_to(artifacts)) for path in artifacts.rglob("*.log")]
    assert sorted(logs) == ["1-source/console.log", "2-destination/console.log"]
    assert list((tmp_path / "scratch-main").rglob("*.img")) == []


# ---- cells that begin alike ----------------------------------------------------------------------


def told(record: Record) -> object:
    return (record["verdict"], record["reason"],
            [(boot["console"], boot["rom"], boot["expected"]) for boot in record["boots"]],
            [(step["step"], step["outcome"]) for step in record["steps"]])


def test_shared_and_not_shared_agree_cell_by_cell(tmp_path: Path) -> None:
    cells = [cell(policy.value, scenario) for policy in Policy
             for scenario in ("migrate-reset", "ping-pong", "cold-boot", "host-upgrade-reset")]
    with FakeRunner(tmp_path / "whole") as runner:
        whole = [runner.run(each) for each in cells]
        boots = sum(hosts.boots for hosts in runner.made)
    with FakeRunner(tmp_path / "shared", share=True) as runner:
        shared = [runner.run(each) for each in cells]
        saved = boots - sum(hosts.boots for hosts in runner.made)
    assert list(map(told, whole)) == list(map(told, shared))
    keys = {record["shared"]["key"] for record in shared if "shared" in record}
    assert len(keys) == 2  # the firmware in a file of the host's, or in the nvram
    assert saved == sum("shared" in record for record in shared) - len(keys)
    assert not (tmp_path / "shared" / "shared").exists()


def test_a_silent_beginning_is_the_verdict_of_all_its_cells(tmp_path: Path) -> None:
    with FakeRunner(tmp_path, Script(silent={1}), share=True) as runner:
        records = [runner.run(cell("stock", name)) for name in ("migrate-reset", "ping-pong")]
        boots = sum(hosts.boots for hosts in runner.made)
        assert boots == 1, "the second did not wait for it again"
    assert [record["verdict"] for record in records] == [Verdict.SILENT] * 2
    assert {record["reason"] for record in records} == {records[0]["reason"]}


def test_a_guest_that_cannot_be_saved_would_not_have_migrated(tmp_path: Path) -> None:
    refusal = Refusal("section", "Unknown section")
    with FakeRunner(tmp_path, Script(refuses=refusal), share=True) as runner:
        record = runner.run(cell())
    assert record["verdict"] == Verdict.BLOCKED
    assert record["reason"].startswith("migrate: section: ")
