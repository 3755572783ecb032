"""What changes underneath a guest that comes up all the same: planted on real QEMUs, and judged."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine
from bootmatrix.firmware.identity import sha256
from bootmatrix.machines.qemu.command_line import Launch, qemu_argv
from bootmatrix.machines.qemu.machine import QemuMachine
from bootmatrix.machines.qemu.migration import Migration, file
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import Channel, FirmwareBuild, Verdict
from bootmatrix.witnesses.refusal import Refusal
from bootmatrix.witnesses.resets import ENDLESS
from helpers.cells import cell
from helpers.hostile import RunnerWith
from helpers.programs import PROGRAMS


@pytest.fixture
def runner(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[RunnerWith]:
    with RunnerWith(Builds(store), bubblewrap, tmp_path) as runner:
        yield runner


# ---- the CMOS ------------------------------------------------------------------------------------


def test_a_cmos_that_is_cleared_when_the_guest_arrives(
    runner: RunnerWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate = QemuMachine.migrate

    def and_clear(source: QemuMachine, target: QemuMachine, channel: Channel, deadline: Deadline,
                  *more: Any, **further: Any) -> Refusal | None:  # fmt: skip
        refusal = migrate(source, target, channel, deadline, *more, **further)
        for write in ("o/b 0x70 0x70", "o/b 0x71 0", "o/b 0x70 0x0d"):
            target.vm.monitor.execute(
                "human-monitor-command", {"command-line": write}, deadline=deadline)
        return refusal

    monkeypatch.setattr(QemuMachine, "migrate", and_clear)
    record = runner.run(cell("bullseye sid", "stock"))
    assert (record["verdict"], record["reason"]) == (
        Verdict.WRONG_CMOS, "migrate: the CMOS has lost the guest's count of its boots, 1")
    assert record["boots"][1]["cmos"] == "lost"


# ---- its memory ----------------------------------------------------------------------------------


def test_memory_that_changes_on_its_way(
    runner: RunnerWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte of the guest's program that it does not need for what it is asked."""
    restore = file.restore

    def torn(destination: VM, path: Path, *more: Any) -> Migration:
        stream = path.read_bytes()
        assert b"BOOTMATRIX flashing" in stream
        path.write_bytes(stream.replace(b"BOOTMATRIX flashing", b"BOOTMATRIX flashinG"))
        return restore(destination, path, *more)

    monkeypatch.setattr(file, "restore", torn)
    record = runner.run(cell("bullseye sid", "stock", "save-restore-reset"))
    assert record["verdict"] == Verdict.WRONG_MEMORY
    assert re.fullmatch(r"migrate: the guest's program in its memory has changed: [0-9a-f]{8} "
                        r"before, now [0-9a-f]{8}", record["reason"])
    sums = [record["boots"][0]["program_sum"], record["steps"][1]["guest"]["program_sum"]]
    assert record["reason"].endswith("{} before, now {}".format(*sums))


# ---- CPUs and memory -----------------------------------------------------------------------------


@pytest.mark.parametrize(("axes", "change", "told"), [
    ({"smp": 2}, {"smp": 1}, "CPUs: 1 instead of 2"),
    ({}, {"memory_mib": 16}, "memory: 15871 KiB of 32768 KiB"),
])
def test_a_guest_that_sees_less_than_it_was_given(
    runner: RunnerWith, monkeypatch: pytest.MonkeyPatch, axes: dict[str, Any],
    change: dict[str, Any], told: str,
) -> None:
    monkeypatch.setattr("bootmatrix.machines.qemu.machine.qemu_argv",
                        lambda launch: qemu_argv(replace(launch, **change)))
    record = runner.run(replace(cell("sid", "stock", "cold-boot"), **axes))
    assert (record["verdict"], record["reason"]) == (
        Verdict.WRONG_HARDWARE,
        f"boot 1 (start on source): the guest does not see what it was given, {told}")


# ---- the tables after a reset --------------------------------------------------------------------


@pytest.mark.parametrize(("option", "told"), [
    (("-global", "PIIX4_PM.disable_s4=1"), "ACPI"),
    (("-smbios", "type=1,manufacturer=other"), "SMBIOS"),
])
def test_a_machine_that_has_other_tables_for_a_guest_that_came(
    runner: RunnerWith, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str], told: str
) -> None:
    def other(launch: Launch) -> tuple[str, ...]:
        return (*qemu_argv(launch), *option) if launch.incoming else qemu_argv(launch)

    assert runner.run(cell("bullseye sid", "stock"))["verdict"] == Verdict.PASS
    monkeypatch.setattr("bootmatrix.machines.qemu.machine.qemu_argv", other)
    record = runner.run(cell("bullseye sid", "stock"))
    assert record["verdict"] == Verdict.WRONG_TABLES
    assert record["reason"].startswith("boot 2 (reset on destination): the tables are not those of "
                                       f"the host: a start finds {told} ")


# ---- firmware that resets the machine once more ----------------------------------------------


def once_more(
    build: FirmwareBuild, directory: Path, delay: int, times: int = 1
) -> FirmwareBuild:
    """A BIOS that resets the machine so often at each boot, and then does what it always does."""
    code = directory / "once_more.bin"
    subprocess.run(["nasm", "-f", "bin", f"-DDELAY={delay}", f"-DTIMES={times}", "-o", code,
                    PROGRAMS / "once_more.asm"], check=True)  # fmt: skip
    image = bytearray(build.path.read_bytes())
    size, segment = code.stat().st_size, len(image) - 0x10000
    at = image.rindex(bytes(size + 32), segment, segment + 0xE000) + 16  # in padding
    image[at : at + size] = code.read_bytes()
    image[-16:-13] = b"\xea" + (at - segment).to_bytes(2, "little")  # the reset vector's jump
    path = directory / "once-more.bin"
    path.write_bytes(image)
    return FirmwareBuild("once-more", sha256(bytes(image)), len(image), path, prints=build.prints)


@pytest.mark.parametrize("delay", [5_000_000, 0])
def test_firmware_that_resets_the_machine_once_more(
    runner: RunnerWith, store: ImageStore, tmp_path: Path, delay: int
) -> None:
    runner.firmware["sid"] = once_more(store.beside("debian-sid", "seabios"), tmp_path, delay)
    record = runner.run(cell("sid", "stock", "reset"))
    assert record["verdict"] == Verdict.EXTRA_RESET, record["reason"]
    first, second = record["boots"]
    assert second["resets"] == 4  # it, SeaBIOS, and each of them once more
    if delay:  # without, it can be so soon after the launch that no monitor tells of it
        assert first["resets"] == 1
        assert record["reason"] == (
            "boot 1 (start on source): the machine was reset once or more, and nobody had asked "
            "for it")


def test_a_machine_that_is_reset_many_times_is_up_when_it_is_up(
    runner: RunnerWith, store: ImageStore, tmp_path: Path
) -> None:
    """It goes round a hundred times and more, and is no less in time for that."""
    runner.firmware["sid"] = once_more(store.beside("debian-sid", "seabios"), tmp_path, 100_000,
                                       2 * ENDLESS)
    record = runner.run(replace(cell("sid", "stock", "cold-boot"), seconds=20.0))
    assert record["verdict"] == Verdict.EXTRA_RESET, record["reason"]
    boot, = record["boots"]
    assert boot["up"]
    assert (boot["resets"] or 0) > ENDLESS


@pytest.mark.parametrize(("policy", "resets"), [("stock", 2), ("reread", 1)])
def test_seabios_resets_the_machine_once_more_where_it_is_not_swapped(
    runner: RunnerWith, policy: str, resets: int
) -> None:
    record = runner.run(cell("sid", policy, "reset"))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert [(boot["resets"], boot["swapped"]) for boot in record["boots"]] == [
        (0, False), (resets, resets == 1)]
