"""Guests under KVM: few boots, as one takes seconds of a processor where KVM is nested."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.builds import image_store
from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.engines import Engine, choose
from bootmatrix.firmware.identity import sha256
from bootmatrix.machines.qemu.machine import QemuHosts
from bootmatrix.machines.setup import setup_of
from bootmatrix.model import Accel, FirmwareBuild, Host, Verdict
from bootmatrix.run.guest import Guest
from bootmatrix.run.runner import Runner
from bootmatrix.run.steps import do_step
from bootmatrix.steps.start import Start
from helpers.cells import cell

pytestmark = pytest.mark.kvm
SECONDS = 60.0


@pytest.mark.slow
def test_firmware_is_replaced_at_a_reset_by_the_guest(runner: Runner) -> None:
    """KVM has to stop the CPU at the reset vector, in ROM: a hardware breakpoint."""
    wanted = cell("bookworm sid", "machine-owned", "migrate-reset-by-keyboard", seconds=SECONDS)
    record = runner.run(replace(wanted, accel=Accel.KVM))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    old, new = (boot["console"] for boot in record["boots"])
    assert old != new
    assert [accelerator(qemu["argv"]) for qemu in record["qemus"]] == ["kvm", "kvm"]


@pytest.mark.docker
def test_a_guest_goes_from_tcg_to_kvm(store: ImageStore, tmp_path: Path) -> None:
    wanted = cell("bullseye trixie", "machine-owned", seconds=SECONDS)
    with choose("docker") as engine, Runner(Builds(store), engine, tmp_path) as runner:
        record = runner.run(replace(wanted, accel=Accel.TCG_TO_KVM))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert [accelerator(qemu["argv"]) for qemu in record["qemus"]] == ["tcg", "kvm"]


def accelerator(argv: list[str]) -> str:
    machine = argv[argv.index("-machine") + 1]
    return machine.partition("accel=")[2].partition(",")[0]


def test_a_guest_that_kvm_cannot_run_is_stopped_and_not_waited_for(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path
) -> None:
    """Firmware that leaves its ROM for memory that holds no program."""
    image = tmp_path / "bios.bin"
    image.write_bytes(bytes((64 << 10) - 16) + b"\xea\0\0\0\xb0" + bytes(11))  # jmp 0xb000:0
    firmware = FirmwareBuild("leaves", sha256(image.read_bytes()), 64 << 10, image)
    host = Host("sid", store.qemu("debian-sid"), firmware)
    started = replace(cell("sid", "stock", "cold-boot", seconds=600), accel=Accel.KVM)
    setup = setup_of(started, [host], image_store.cache_home())
    with Guest(QemuHosts(bubblewrap, setup, tmp_path / "scratch")) as guest:
        seen = do_step(guest, Start(0))
        assert seen.stopped is not None
        assert seen.stopped.startswith("KVM internal error. Suberror: 1, emulation failure at 0x")
        assert seen.seconds < 60
        assert guest.machine.alive
