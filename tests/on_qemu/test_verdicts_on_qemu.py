"""Every verdict, planted on a real QEMU and caught there: the checks can fail."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.engines import Engine
from bootmatrix.machines import setup as machine_setup
from bootmatrix.machines.console import Console
from bootmatrix.machines.qemu import command_line
from bootmatrix.machines.qemu.machine import QemuMachine
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import FirmwareBuild, Host, HostSpec, Verdict
from bootmatrix.policies import Policy
from bootmatrix.policies.base import Mechanism, Swap
from bootmatrix.records.model import Record
from bootmatrix.run.guest import Guest
from bootmatrix.run.runner import Runner
from bootmatrix.run.steps import DEEDS
from bootmatrix.steps import library
from bootmatrix.steps.base import Step
from bootmatrix.witnesses.moment import repeatable
from bootmatrix.witnesses.observation import StepObserved
from helpers.cells import cell


class RunnerWith(Runner):
    """A runner whose hosts have a firmware of the test's own."""

    firmware: dict[str, FirmwareBuild]

    def host(self, spec: HostSpec) -> Host:
        host = super().host(spec)
        return replace(host, firmware=self.firmware.get(spec.name, host.firmware))


def run_with_firmware(
    store: ImageStore, engine: Engine, directory: Path, policy: str = "stock",
    patience: float = 1.5, **images: bytes,
) -> Record:
    """Cold boot or migrate and reset, with these bytes as firmware of the hosts so named."""
    with RunnerWith(Builds(store), engine, directory, cache=directory / "kept") as runner:
        runner.firmware = {}
        for name, image in images.items():
            path = directory / f"{name}.bin"
            path.write_bytes(image)
            runner.firmware[name] = FirmwareBuild(
                f"test-{name}", sha256(image).hexdigest(), len(image), path)
        return runner.run(cell("sid sid", policy, "reset", seconds=1.5, patience=patience))


def test_pass(runner: Runner, seabios: dict[str, FirmwareBuild]) -> None:
    old = seabios["bullseye"].name
    record = runner.run(cell("bullseye sid", "guest-owned"))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert [boot["console"] for boot in record["boots"]] == [old] * 2
    assert record["reason"].count(old) == 2


@pytest.mark.parametrize("policy", ["machine-owned", "reread"])
def test_wrong_firmware_where_the_swap_does_not_happen(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, policy: str,
    seabios: dict[str, FirmwareBuild],
) -> None:
    monkeypatch.setattr(Policy(policy).model, "how", Mechanism(nvram=False, swap=Swap.NOTHING))
    record = runner.run(cell("bullseye sid", policy))
    assert record["verdict"] == Verdict.WRONG_FIRMWARE
    assert record["reason"] == (
        f"boot 2 (reset on destination): expected {seabios['sid'].name}, "
        f"seen {seabios['bullseye'].name}"
    )


def test_wrong_firmware_where_nvram_is_written_twice(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, seabios: dict[str, FirmwareBuild]
) -> None:
    monkeypatch.setattr(Policy.GUEST_OWNED.model, "how", Mechanism(nvram=False, swap=Swap.NOTHING))
    record = runner.run(cell("bullseye sid", "guest-owned", "move"))
    assert record["verdict"] == Verdict.WRONG_FIRMWARE
    old, new = seabios["bullseye"].name, seabios["sid"].name
    assert f"expected {old}, seen {new}" in record["reason"]


def test_wrong_firmware_under_the_running_guest(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What must not happen between a migration and the next reset, and no boot would show.
    rom_digest = VM.rom_digest

    def changed(self: VM, *args: object) -> str:
        digest = rom_digest(self, *args)  # type: ignore[arg-type]
        return digest if self.name.endswith("source") else "f" * 64

    monkeypatch.setattr(VM, "rom_digest", changed)
    record = runner.run(cell("bullseye sid", "stock"))
    assert record["verdict"] == Verdict.WRONG_FIRMWARE
    assert record["reason"].startswith("migrate: the ROM of the running guest changed")


def with_disks(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Sequence[Path]], Sequence[Path]]
) -> None:
    setup_of = machine_setup.setup_of

    def changed(*args: Any) -> machine_setup.GuestSetup:
        setup = setup_of(*args)
        return replace(setup, disks=change(setup.disks))

    monkeypatch.setattr("bootmatrix.run.runner.setup_of", changed)


def test_wrong_disk(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    with_disks(monkeypatch, lambda disks: disks[::-1])
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record["verdict"] == Verdict.WRONG_DISK
    assert record["reason"] == "boot 1 (start on source): expected disk A, seen B"


def test_silent_before_the_banner(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> None:
    halt = b"\xf4\xeb\xfd"  # hlt; jmp back to it: at the reset vector, 16 bytes from the end
    image = bytes(256 * 1024 - 16) + halt + bytes(13)
    record = run_with_firmware(store, bubblewrap, tmp_path, sid=image)
    assert record["verdict"] == Verdict.SILENT
    assert repeatable(record["reason"]) == "boot 1 (start on source): not a byte in 1.5 s"
    assert record["boots"][0]["console"] is None
    assert record["boots"][0]["rom"] is not None, "the ROM's bytes can be read all the same"


def test_a_hang_is_called_one_after_the_patience_that_its_reason_names(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path
) -> None:
    halt = b"\xf4\xeb\xfd"
    image = bytes(256 * 1024 - 16) + halt + bytes(13)
    record = run_with_firmware(store, bubblewrap, tmp_path, patience=4, sid=image)
    assert record["verdict"] == Verdict.SILENT
    assert repeatable(record["reason"]) == "boot 1 (start on source): not a byte in 4.0 s"
    assert record["waited"]["usual"] == 1.5
    assert record["waited"]["patience"] == 4
    assert record["boots"][0]["usual"] == 1.5
    assert record["seconds"] < 4, "the wait is no time of the cell's own"


def test_no_boot_after_the_banner(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    seabios: dict[str, FirmwareBuild],
) -> None:
    empty = tmp_path / "empty.img"
    empty.write_bytes(bytes(1474560))
    with_disks(monkeypatch, lambda disks: (empty, empty))
    record = runner.run(cell("sid", "stock", "cold-boot", seconds=1.5))
    assert record["verdict"] == Verdict.NO_BOOT
    assert repeatable(record["reason"]) == (
        f"boot 1 (start on source): a banner of {seabios['sid'].name}, "
        "but the guest did not come up in 1.5 s"
    )
    assert record["boots"][0]["rom"] == seabios["sid"].name
    assert "No bootable device" in log_of(tmp_path, record)


def test_a_real_one_silent_then_revived_by_the_destinations_firmware(runner: Runner) -> None:
    kept = runner.run(cell("bullseye sid", "stock", machine="pc-q35-5.2", disk="ahci", seconds=1.5))
    given = runner.run(cell("bullseye sid", "machine-owned", machine="pc-q35-5.2", disk="ahci"))
    assert (kept["verdict"], given["verdict"]) == (Verdict.SILENT, Verdict.PASS)


def test_witness_conflict_firmware_that_prints_anothers_version(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path, seabios: dict[str, FirmwareBuild]
) -> None:
    old, new = seabios["bullseye"], seabios["sid"]
    assert old.prints
    assert new.prints
    forged = new.path.read_bytes().replace(
        new.prints.encode(), old.prints.encode().ljust(len(new.prints), b"\0")
    )
    record = run_with_firmware(store, bubblewrap, tmp_path, sid=forged)
    assert record["verdict"] == Verdict.WITNESS_CONFLICT
    assert record["reason"].startswith(
        f"boot 1 (start on source): the console says {old.name}, the ROM's bytes are test-"
    )


def test_blocked_with_the_reason_classified(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu_argv = command_line.qemu_argv

    def more_memory(launch: command_line.Launch) -> tuple[str, ...]:
        return qemu_argv(replace(launch, memory_mib=64) if launch.incoming else launch)

    monkeypatch.setattr("bootmatrix.machines.qemu.machine.qemu_argv", more_memory)
    record = runner.run(cell("bullseye sid", "stock"))
    assert record["verdict"] == Verdict.BLOCKED
    assert record["reason"].startswith("migrate: ram-block-size: Size mismatch: pc.ram")
    assert record["steps"][-1]["outcome"].startswith("refused: ram-block-size")


def test_blocked_where_qemu_refuses_to_start(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu_argv = command_line.qemu_argv
    monkeypatch.setattr(
        "bootmatrix.machines.qemu.machine.qemu_argv",
        lambda launch: (*qemu_argv(launch), "-device", "no-such-device"),
    )
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record["verdict"] == Verdict.BLOCKED
    assert "no-such-device" in record["reason"]


def test_the_refusal_that_a_policy_expects_passes(runner: Runner) -> None:
    record = runner.run(cell("bullseye sid", "stock", machine="default"))
    assert record["verdict"] == Verdict.PASS
    assert record["reason"] == "QEMU refused the migrate, as it must (machine-type)"


def test_unsupported_is_known_beforehand(runner: Runner, store: ImageStore) -> None:
    record = runner.run(cell("bullseye sid", "stock", machine="pc-q35-10.0"))
    assert record["verdict"] == Verdict.UNSUPPORTED
    version = store.qemu("debian-bullseye").version
    assert record["reason"] == f"QEMU {version} (debian-bullseye) has no machine pc-q35-10.0"
    assert record["qemus"] == []


def test_a_qemu_that_dies_during_a_boot_is_told(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VM, "reset", lambda vm, deadline: vm.process.kill())
    record = runner.run(cell("sid", "stock", "reset"))
    assert record["verdict"] == Verdict.SILENT
    assert "before QEMU ended" in record["reason"]


def test_a_guest_that_dies_with_its_destination_is_told(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate = DEEDS["migrate"]

    def migrate_and_kill(guest: Guest, *args: Any) -> StepObserved:
        monkeypatch.setattr(Console, "ask", lambda console, deadline: None)
        seen = migrate(guest, *args)
        guest.able(QemuMachine).vm.process.kill()
        return seen

    monkeypatch.setitem(DEEDS, "migrate", migrate_and_kill)
    record = runner.run(cell("bullseye sid", "stock"))
    assert record["verdict"] == Verdict.NO_BOOT
    assert repeatable(record["reason"]) == (
        "migrate: the guest no longer answers on the destination (waited 10.0 s)"
    )


def test_a_reset_that_ends_on_another_host(
    runner: Runner, seabios: dict[str, FirmwareBuild]
) -> None:
    old, new = seabios["bullseye"].name, seabios["sid"].name
    steps = library.parse(
        "own", ["start", "reset", {"migrate": {"during-post": True}}, "reset"]
    )
    record = runner.run(replace(cell("bullseye sid", "machine-owned"), scenario=steps))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert [(boot["step"], boot["host"], boot["console"]) for boot in record["boots"]] == [
        ("start", "source", old),
        ("reset", "destination", old),
        ("reset", "destination", new),
    ]


def test_a_guest_that_is_up_before_it_can_leave_has_more_time(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time nobody moves it before it is up, as on a busy machine."""
    migrate = DEEDS["migrate"]

    def tardy(guest: Guest, step: Step, following: Step | None) -> StepObserved:
        if guest.setup.post_ms == 500:
            assert guest.machine.console.wait_for_boot(guest.rig).up
        return migrate(guest, step, following)

    monkeypatch.setitem(DEEDS, "migrate", tardy)
    record = runner.run(cell("trixie sid", "stock", "migrate-during-post"))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert "menu=on,splash-time=2000" in record["qemus"][0]["argv"]


def log_of(directory: Path, record: Record) -> str:
    logs = sorted((directory / record["artifacts"]).glob("*/console.log"))
    with contextlib.suppress(IndexError):
        return logs[-1].read_text("utf-8", "replace")
    return ""
