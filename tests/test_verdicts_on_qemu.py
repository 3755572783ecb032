"""Every verdict, planted on a real QEMU and caught there: the checks can fail."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cells import cell

from harness import cmdline, guest_files, policies, scenario, scenarios
from harness.builds import Builds
from harness.console import Console
from harness.engines import Engine
from harness.images import ImageStore
from harness.model import (
    FirmwareBuild,
    Host,
    HostSpec,
    Known,
    Policy,
    RunRecord,
    Verdict,
)
from harness.policies import Mechanism, Swap
from harness.runner import Runner
from harness.scenario import Guest
from harness.vm import VM


class RunnerWith(Runner):
    """A runner whose hosts have a firmware of the test's own."""

    firmware: dict[str, FirmwareBuild]

    def host(self, spec: HostSpec) -> Host:
        host = super().host(spec)
        return replace(host, firmware=self.firmware.get(spec.name, host.firmware))


def run_with_firmware(
    store: ImageStore, engine: Engine, directory: Path, policy: str = "stock", **images: bytes
) -> RunRecord:
    """Cold boot or migrate and reset, with these bytes as firmware of the hosts so named."""
    with RunnerWith(Builds(store), engine, directory) as runner:
        runner.firmware = {}
        for name, image in images.items():
            path = directory / f"{name}.bin"
            path.write_bytes(image)
            runner.firmware[name] = FirmwareBuild(f"test-{name}", "0" * 64, len(image), path)
        return runner.run(cell("sid sid", policy, "reset", seconds=1.5))


def test_pass(runner: Runner) -> None:
    record = runner.run(cell("bullseye sid", "guest-owned"))
    assert record.verdict is Verdict.PASS, record.reason
    assert [boot.console for boot in record.boots] == ["seabios-1.14.0-2"] * 2
    assert record.reason.count("seabios-1.14.0-2") == 2


@pytest.mark.parametrize("policy", ["machine-owned", "reread"])
def test_wrong_firmware_where_the_swap_does_not_happen(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setitem(
        policies._MECHANISMS, Policy(policy), Mechanism(nvram=False, swap=Swap.NOTHING)
    )
    record = runner.run(cell("bullseye sid", policy))
    assert record.verdict is Verdict.WRONG_FIRMWARE
    assert record.reason == (
        "boot 2 (reset on destination): expected seabios-1.17.0-1, seen seabios-1.14.0-2"
    )


def test_wrong_firmware_where_nvram_is_written_twice(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        policies._MECHANISMS, Policy.GUEST_OWNED, Mechanism(nvram=False, swap=Swap.NOTHING)
    )
    record = runner.run(cell("bullseye sid", "guest-owned", "move"))
    assert record.verdict is Verdict.WRONG_FIRMWARE
    assert "expected seabios-1.14.0-2, seen seabios-1.17.0-1" in record.reason


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
    assert record.verdict is Verdict.WRONG_FIRMWARE
    assert record.reason.startswith("migrate: the ROM of the running guest changed")


def with_disks(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Sequence[Path]], Sequence[Path]]
) -> None:
    setup_of = guest_files.setup_of

    def changed(*args: Any) -> guest_files.GuestSetup:
        setup = setup_of(*args)
        return replace(setup, disks=change(setup.disks))

    monkeypatch.setattr("harness.runner.setup_of", changed)


def test_wrong_disk(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    with_disks(monkeypatch, lambda disks: disks[::-1])
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record.verdict is Verdict.WRONG_DISK
    assert record.reason == "boot 1 (start on source): expected disk A, seen B"


def test_silent_before_the_banner(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> None:
    halt = b"\xf4\xeb\xfd"  # hlt; jmp back to it: at the reset vector, 16 bytes from the end
    image = bytes(256 * 1024 - 16) + halt + bytes(13)
    record = run_with_firmware(store, bubblewrap, tmp_path, sid=image)
    assert record.verdict is Verdict.SILENT
    assert record.reason == "boot 1 (start on source): nothing on the console within 1.5 s"
    assert record.boots[0].console is None
    assert record.boots[0].rom is not None, "the ROM's bytes can be read all the same"


def test_no_boot_after_the_banner(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.img"
    empty.write_bytes(bytes(1474560))
    with_disks(monkeypatch, lambda disks: (empty, empty))
    record = runner.run(cell("sid", "stock", "cold-boot", seconds=1.5))
    assert record.verdict is Verdict.NO_BOOT
    assert record.reason == (
        "boot 1 (start on source): a banner of seabios-1.17.0-1, "
        "but the guest did not come up within 1.5 s"
    )
    assert record.boots[0].rom == "seabios-1.17.0-1"
    assert "No bootable device" in log_of(tmp_path, record)


def test_a_real_one_silent_then_revived_by_the_destinations_firmware(runner: Runner) -> None:
    kept = runner.run(cell("bullseye sid", "stock", machine="pc-q35-5.2", disk="ahci", seconds=3))
    given = runner.run(cell("bullseye sid", "machine-owned", machine="pc-q35-5.2", disk="ahci"))
    assert (kept.verdict, given.verdict) == (Verdict.SILENT, Verdict.PASS)


def test_witness_conflict_firmware_that_prints_anothers_version(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path
) -> None:
    sid = store.firmware("seabios-1.17.0-1")
    assert sid.prints == "1.17.0-debian-1.17.0-1"
    forged = sid.path.read_bytes().replace(
        sid.prints.encode(), b"1.14.0-2".ljust(len(sid.prints), b"\0")
    )
    record = run_with_firmware(store, bubblewrap, tmp_path, sid=forged)
    assert record.verdict is Verdict.WITNESS_CONFLICT
    assert record.reason.startswith(
        "boot 1 (start on source): the console says seabios-1.14.0-2, the ROM's bytes are sha256:"
    )


def test_blocked_with_the_reason_classified(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu_argv = cmdline.qemu_argv

    def more_memory(launch: cmdline.Launch) -> tuple[str, ...]:
        return qemu_argv(replace(launch, memory_mib=64) if launch.incoming else launch)

    monkeypatch.setattr(scenario, "qemu_argv", more_memory)
    record = runner.run(cell("bullseye sid", "stock"))
    assert record.verdict is Verdict.BLOCKED
    assert record.reason.startswith("migrate: ram-block-size: Size mismatch: pc.ram")
    assert record.steps[-1]["outcome"].startswith("refused: ram-block-size")


def test_blocked_where_qemu_refuses_to_start(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu_argv = cmdline.qemu_argv
    monkeypatch.setattr(
        scenario, "qemu_argv", lambda launch: (*qemu_argv(launch), "-device", "no-such-device")
    )
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record.verdict is Verdict.BLOCKED
    assert "no-such-device" in record.reason


def test_the_refusal_that_a_policy_expects_passes(runner: Runner) -> None:
    record = runner.run(cell("bullseye sid", "stock", machine="default"))
    assert record.verdict is Verdict.PASS
    assert record.reason == "QEMU refused the migrate, as it must (machine-type)"


def test_unsupported_is_known_beforehand(runner: Runner) -> None:
    record = runner.run(cell("bullseye sid", "stock", machine="pc-q35-10.0"))
    assert record.verdict is Verdict.UNSUPPORTED
    assert record.reason == "QEMU 5.2.0 (debian-bullseye) has no machine pc-q35-10.0"
    assert record.qemus == ()


def test_error_where_the_rig_breaks(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **more: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(shutil, "copyfile", broken)
    record = runner.run(cell("sid", "stock", "cold-boot"))
    assert record.verdict is Verdict.ERROR
    assert record.reason == "OSError: no space left on device"


def test_a_qemu_that_dies_during_a_boot_is_told(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset = Guest.reset

    def reset_and_kill(self: Guest, *args: object, **more: object) -> object:
        monkeypatch.setattr(VM, "reset", lambda vm, deadline: vm.process.kill())
        return reset(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Guest, "reset", reset_and_kill)
    record = runner.run(cell("sid", "stock", "reset"))
    assert record.verdict is Verdict.SILENT
    assert "before QEMU ended" in record.reason


def test_a_guest_that_dies_with_its_destination_is_told(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate = Guest.migrate

    def migrate_and_kill(self: Guest, *args: object, **more: object) -> object:
        monkeypatch.setattr(Console, "ask", lambda console, deadline: None)
        seen = migrate(self, *args, **more)  # type: ignore[arg-type]
        self.vm.process.kill()
        return seen

    monkeypatch.setattr(Guest, "migrate", migrate_and_kill)
    record = runner.run(cell("bullseye sid", "stock"))
    assert record.verdict is Verdict.NO_BOOT
    assert record.reason == "migrate: the guest no longer answers on the destination"


def test_a_reset_that_ends_on_another_host(runner: Runner) -> None:
    steps = scenarios.parse(
        "own", ["start", "reset", {"migrate": {"during-post": True}}, "reset"]
    )
    record = runner.run(replace(cell("bullseye sid", "machine-owned"), scenario=steps))
    assert record.verdict is Verdict.PASS, record.reason
    assert [(boot.step, boot.host, boot.console) for boot in record.boots] == [
        ("start", "source", "seabios-1.14.0-2"),
        ("reset", "destination", "seabios-1.14.0-2"),
        ("reset", "destination", "seabios-1.17.0-1"),
    ]


def test_a_known_entry_labels_and_decides_nothing(runner: Runner) -> None:
    silent = Known((("machine", ("pc-q35-*",)),), (Verdict.SILENT,), "SeaBIOS 1.14.0 hangs")
    record = runner.run(
        cell("bullseye sid", "stock", machine="pc-q35-5.2", seconds=2), declared=[silent]
    )
    assert (record.verdict, record.known) == (Verdict.SILENT, "SeaBIOS 1.14.0 hangs")
    assert record.details["known_state"] == "known"
    record = runner.run(
        cell("bullseye sid", "machine-owned", machine="pc-q35-5.2"), declared=[silent]
    )
    assert record.verdict is Verdict.PASS
    assert record.details["known_state"] == "fixed"


def log_of(directory: Path, record: RunRecord) -> str:
    logs = sorted((directory / record.artifacts).glob("*/console.log"))
    with contextlib.suppress(IndexError):
        return logs[-1].read_text("utf-8", "replace")
    return ""
