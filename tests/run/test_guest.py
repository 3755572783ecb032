"""A guest's life, each step done and observed, on machines that are none: in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.engines.confinement import (
    ADDRESS_SPACE_BYTES,
    FILE_BYTES,
    MEMORY_BYTES,
    PROCESSES,
)
from bootmatrix.errors import DeadlineExceeded, UserError
from bootmatrix.firmware.identity import sha256
from bootmatrix.machines.fake import FakeHosts, FakeMachine, Script, firmware
from bootmatrix.model import Limits
from bootmatrix.policies import Policy
from bootmatrix.run import guest as guest_module
from bootmatrix.run.guest import Guest
from bootmatrix.run.steps import do_step
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from bootmatrix.witnesses.observation import StepObserved
from bootmatrix.witnesses.refusal import Refusal, limit_text
from helpers.fakes import VERSIONS, fake_guest, life, setup

OLD, NEW, _ = VERSIONS
BY_CF9 = {"reset": {"by": "cf9"}}
UPGRADE = {"upgrade-host": {"host": "source", "firmware-of": "destination"}}


def booted(seen: Sequence[StepObserved]) -> list[str | None]:
    """What each boot was: the version that its guest says, None for one that is not up."""
    return [step.boot.up.bios_version if step.boot.up else None for step in seen if step.boot]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come is not waited for."""
    for name in ("GUEST_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(guest_module, name, 0.2)


# ---- the policies, by their mechanisms -----------------------------------------------------------


@pytest.mark.parametrize(("policy", "steps", "versions"), [
    ("stock", ["start", "migrate", "reset"], [OLD, OLD]),
    ("guest-owned", ["start", "migrate", "reset"], [OLD, OLD]),
    ("machine-owned", ["start", "migrate", "reset"], [OLD, NEW]),
    ("machine-owned", ["start", "reset", "migrate", BY_CF9], [OLD, OLD, NEW]),
    ("reread", ["start", UPGRADE, "reset"], [OLD, NEW]),
    ("machine-owned", ["start", UPGRADE, "reset"], [OLD, OLD]),
    ("stock", ["start", UPGRADE, "shutdown", "start"], [OLD, NEW]),
    ("guest-owned", ["start", UPGRADE, "shutdown", "start"], [OLD, OLD]),
    ("guest-owned", ["start", {"upgrade-nvram": {"firmware-of": "destination"}}, "reset"],
     [OLD, NEW]),
    ("guest-owned", ["start", {"upgrade-nvram": {"firmware-of": "destination"}}, "migrate",
                     "reset"], [OLD, NEW]),
    ("guest-owned", ["start", "shutdown", "clear-nvram", {"start": {"on": "destination"}}],
     [OLD, NEW]),
    ("guest-owned", ["start", {"guest-flash": {"firmware-of": "destination"}}, "migrate", "reset"],
     [OLD, NEW]),
    ("stock", ["start", {"guest-flash": {"firmware-of": "destination"}}, "reset"], [OLD, OLD]),
    ("stock", ["start", {"migrate": {"channel": "file"}}, {"migrate": {"to": "source"}}], [OLD]),
])  # fmt: skip
def test_which_firmware_runs(
    tmp_path: Path, policy: str, steps: list[Any], versions: list[str]
) -> None:
    seen = life(fake_guest(tmp_path, policy), steps)
    assert len(seen) == len(steps)
    assert booted(seen) == versions
    assert not any(step.refusal or step.failed for step in seen)


def test_a_migration_is_asked_for_what_needs_no_boot(tmp_path: Path) -> None:
    guest = fake_guest(tmp_path, "guest-owned")
    image = guest.setup.hosts[0].firmware.path.read_bytes()
    start, migrate = life(guest, ["start", "migrate"])
    assert start.boot is not None
    assert start.boot.banners == (OLD,)
    assert migrate.answer is not None
    assert migrate.answer.boot == 1
    assert migrate.rom == start.boot.rom == sha256(image)
    assert migrate.nvram_equal is True
    assert (start.host, migrate.host) == (0, 1)


def test_a_guest_that_moves_while_its_firmware_runs_is_watched_there(tmp_path: Path) -> None:
    guest = fake_guest(tmp_path, post_ms=60_000)
    seen = life(guest, ["start", {"migrate": {"during-post": True}}])
    assert seen[0].boot is None
    assert seen[1].boot is not None
    assert seen[1].boot.banners == (OLD,)
    assert seen[1].boot.up is not None


def test_a_row_for_each_machine(tmp_path: Path) -> None:
    guest = fake_guest(tmp_path)
    life(guest, ["start", "migrate", "shutdown", "start"])
    assert [row["role"] for row in guest.hosts.processes] == [
        "source", "destination", "destination"]


# ---- what goes wrong -----------------------------------------------------------------------------


def test_silence_a_hang_and_an_end_are_told_apart(tmp_path: Path) -> None:
    (silent,) = life(fake_guest(tmp_path / "1", script=Script(silent={1})), ["start", "reset"])
    (hang,) = life(fake_guest(tmp_path / "2", script=Script(hangs={1})), ["start", "reset"])
    _, end = life(fake_guest(tmp_path / "3", script=Script(ends={2})), ["start", "reset"])
    assert silent.boot is not None
    assert (silent.boot.banners, silent.boot.up, silent.boot.ended) == ((), None, None)
    assert hang.boot is not None
    assert (hang.boot.banners, hang.boot.up) == ((OLD,), None)
    assert end.boot is not None
    assert end.boot.ended == "qemu-system-x86_64: aborted (exit status 134)"
    assert end.boot.rom is None


def test_a_console_that_ends_before_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what the machine does, and no fault of the rig's."""
    def never(machine: FakeMachine, deadline: Deadline) -> int:
        raise DeadlineExceeded("not in time")

    monkeypatch.setattr(FakeMachine, "exit_status", never)
    _, end = life(fake_guest(tmp_path, script=Script(ends={2})), ["start", "reset"])
    assert end.boot is not None
    assert end.boot.ended == (
        "qemu-system-x86_64: aborted (its console is closed, and its process goes on)")


def test_nothing_is_done_to_a_guest_that_is_down(tmp_path: Path) -> None:
    steps = ["start", "reset", "migrate", "reset"]
    assert len(life(fake_guest(tmp_path, script=Script(silent={2})), steps)) == 2


@pytest.mark.parametrize(("policy", "steps", "words"), [
    ("stock", ["start", BY_CF9], "the machine was not reset within 0 s after the guest was told "
                                 "to do so by cf9"),
    ("stock", ["start", {"shutdown": {"by": "guest"}}],
     "the machine still runs 0 s after the guest was told to shut down"),
    ("stock", ["start", "suspend"], "the guest did not suspend and wake within 0 s"),
    ("stock", ["start", "write-variable"], "not a word of it from the guest in 0 s"),
])  # fmt: skip
def test_a_deaf_guest(tmp_path: Path, policy: str, steps: list[Any], words: str) -> None:
    seen = life(fake_guest(tmp_path, policy, Script(deaf=True)), [*steps])
    assert seen[-1].failed == words
    assert seen[-1].limit == 0.2


def test_a_reset_that_nobody_asked_for_is_seen(tmp_path: Path) -> None:
    guest = fake_guest(tmp_path, script=Script(resets_itself=True))
    assert life(guest, ["start", "migrate"])[1].went_round


def test_the_resets_of_a_boot_are_counted(tmp_path: Path) -> None:
    """The second boot's firmware resets the machine once more."""
    guest = fake_guest(tmp_path, "machine-owned", Script(resets_again={2}))
    seen = life(guest, ["start", "reset", "migrate", "reset"])
    assert [(step.boot.resets, step.boot.swapped) for step in seen if step.boot] == [
        (0, False), (2, False), (1, True)]


def test_a_boot_that_moves_is_one_with_all_its_resets(tmp_path: Path) -> None:
    guest = fake_guest(tmp_path, script=Script(resets_again={2}), post_ms=300, seconds=60.0)
    seen = life(guest, ["start", "reset", {"migrate": {"during-post": True}}])
    assert [step.boot.resets for step in seen if step.boot] == [0, 2]


def test_firmware_of_another_size_does_not_fit(tmp_path: Path) -> None:
    made = setup(tmp_path / "images", "machine-owned")
    small = firmware("1.0.0-1", tmp_path, size=4096)
    made.hosts[1].__dict__["firmware"] = small
    seen = life(Guest(FakeHosts(made, tmp_path / "scratch")), ["start", "migrate", "reset"])
    assert seen[-1].refusal == Refusal(
        "rom-size", "the image has 0x1000 bytes, the ROM block 0x10000")


@pytest.mark.parametrize(("policy", "step", "words"), [
    ("stock", Reset(), "the guest does not run"),
    ("stock", Migrate(1), "the guest does not run"),
    ("stock", Shutdown(), "the guest does not run"),
    ("stock", UpgradeNvram(1), "this guest has no nvram to upgrade"),
])  # fmt: skip
def test_what_makes_no_sense(tmp_path: Path, policy: str, step: Any, words: str) -> None:
    with fake_guest(tmp_path, policy) as guest, pytest.raises(UserError, match=words):
        do_step(guest, step)


# ---- kept, and taken up --------------------------------------------------------------------------


@pytest.mark.parametrize("policy", list(Policy))
def test_a_guest_that_was_kept_goes_on_elsewhere(tmp_path: Path, policy: Policy) -> None:
    with fake_guest(tmp_path / "one", policy.value) as guest:
        do_step(guest, Start(0))
        assert guest.save(tmp_path / "kept").refusal is None
        assert guest.running is None
    other = fake_guest(tmp_path / "other", policy.value)
    with other:
        other.resume(tmp_path / "kept", 0)
        migrate = do_step(other, Migrate(1))
        reset = do_step(other, Reset())
    assert migrate.answer is not None
    assert migrate.answer.boot == 1
    expected = NEW if policy.value in ("machine-owned", "reread") else OLD
    assert booted([reset]) == [expected]


# ---- the limits of its sandboxes -----------------------------------------------------------------


@pytest.mark.parametrize(("words", "limits", "said"), [
    ("cannot set up guest memory 'pc.ram': Cannot allocate memory", Limits(),
     "its sandbox has 4096 MiB of address space, or 2048 MiB of memory in Docker; limits: "
     "{memory: N}"),
    ("GLib: ../glib/gmem.c: failed to allocate 4096 bytes", Limits(memory=100),
     "its sandbox has 100 MiB of memory; limits: {memory: N}"),
    ("ftruncate: File too large", Limits(file=64), "has 64 MiB for a file; limits: {file: N}"),
    ("qemu_thread_create: Resource temporarily unavailable", Limits(),
     "has 256 processes and threads; limits: {processes: N}"),
    ("Property 'x.y' not found", Limits(), ""),
])
def test_a_limit_of_the_sandbox_is_told_of(
    tmp_path: Path, words: str, limits: Limits, said: str
) -> None:
    script = Script(refuses_start=f"qemu-system-x86_64: {words}")
    (step,) = life(fake_guest(tmp_path, script=script, limits=limits), ["start"])
    assert step.refusal is not None
    assert words[-25:] in step.refusal.message
    assert said in step.refusal.message
    assert ("limits:" in step.refusal.message) is bool(said)
    (step,) = life(fake_guest(tmp_path / "b", script=Script(ends={1}, last_words=words),
                              limits=limits), ["start"])
    assert step.boot is not None
    assert said in (step.boot.ended or "")


def test_the_usual_limits_are_those_of_the_engines() -> None:
    assert limit_text(Limits(), "memory").startswith(f"{ADDRESS_SPACE_BYTES >> 20} MiB of address")
    assert f" {MEMORY_BYTES >> 20} MiB of memory" in limit_text(Limits(), "memory")
    assert limit_text(Limits(), "file").startswith(f"{FILE_BYTES >> 20} MiB")
    assert limit_text(Limits(), "processes").startswith(f"{PROCESSES} ")
