"""What other boards and architectures do with firmware, on real QEMUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix import boards
from bootmatrix.boards import Loader
from bootmatrix.boards.x86_64 import X86_64
from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.matrix.expansion import load
from bootmatrix.model import Arch, Disk, GuestKind, HostSpec, Nic, Verdict
from bootmatrix.records.model import Record
from bootmatrix.run.runner import Runner
from bootmatrix.steps.library import parse
from helpers.cells import cell

# The newest QEMU, with firmware of two ages: a migration that no board refuses.
FIRMWARE = {
    "isapc": ("ide", "seabios-128k-1.16.2", "seabios-128k"),
    "microvm": ("virtio", "seabios-microvm-1.16.2", "seabios-microvm"),
}
VIRT = {Arch.AARCH64: "virt-11.1", Arch.RISCV64: "virt"}
HALF_MIB = 512 << 10


@pytest.fixture(scope="module", autouse=True)
def _images(store: ImageStore) -> None:
    others = (Arch.PPC64, Arch.SPARC64, Arch.LOONGARCH64, Arch.S390X)
    store.build([f"debian-sid-{arch}" for arch in (*VIRT, *others)], lambda line: None)


def moving(machine: str, policy: str = "stock") -> Cell:
    """A cell that migrates and resets on ``machine``, to newer firmware."""
    disk, *firmware = FIRMWARE[machine]
    hosts = tuple(HostSpec(name, "debian-sid", name) for name in firmware)
    return replace(cell("sid sid", policy, machine=machine, disk=disk), hosts=hosts)


def staying(arch: Arch, policy: str) -> Cell:
    """A cell that starts and resets on the virt of sid's QEMU for ``arch``."""
    host = HostSpec("sid", "debian-sid", arch=arch)
    wanted = cell("sid", policy, "reset", VIRT[arch], "virtio", seconds=60)
    return replace(wanted, hosts=(host,), arch=arch)


def names(runner: Runner, wanted: Cell) -> list[str]:
    """What the firmware of a cell's hosts is called."""
    return [runner.host(host).firmware.name for host in wanted.hosts]


def consoles(record: Record) -> list[str | None]:
    return [boot["console"] for boot in record["boots"]]


@pytest.mark.parametrize("machine", FIRMWARE)
def test_memory_is_filled_with_the_destinations_firmware(runner: Runner, machine: str) -> None:
    wanted = moving(machine)
    record = runner.run(wanted)
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert consoles(record) == names(runner, wanted)


def test_judged_as_if_it_were_a_rom_it_fails(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = "isapc"
    wrong = tuple(replace(board, bios=Loader.ROM) if board.name == machine else board
                  for board in X86_64.boards)
    monkeypatch.setattr(boards, "ARCHITECTURES", {Arch.X86_64: replace(X86_64, boards=wrong)})
    wanted = moving(machine)
    record = runner.run(wanted)
    old, new = names(runner, wanted)
    assert record["verdict"] == Verdict.WRONG_FIRMWARE
    assert record["reason"] == f"boot 2 (reset on destination): expected {old}, seen {new}"


def test_a_rom_block_of_another_size_is_refused(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = replace(cell("bookworm sid", "stock"), nic=Nic.E1000)

    def larger_on_the_source(setup: GuestSetup, host: int) -> int:
        return 0 if host else HALF_MIB

    with monkeypatch.context() as patch:
        patch.setattr("bootmatrix.machines.qemu.machine.rom_block_size", larger_on_the_source)
        record = runner.run(wanted)
    assert record["verdict"] == Verdict.BLOCKED
    assert record["reason"].startswith("migrate: ram-block-size: Size mismatch: ")
    assert "/e1000.rom: 0x80000 != 0x40000" in record["reason"]
    healed = runner.run(replace(wanted, nic=Nic.E1000_ROMSIZE))
    assert healed["verdict"] == Verdict.PASS, healed["reason"]
    sizes = [[word for word in qemu["argv"] if "romsize=" in word] for qemu in healed["qemus"]]
    assert sizes == [["e1000,romsize=262144"]] * 2


@pytest.mark.parametrize(
    ("arch", "policy"),
    [(Arch.AARCH64, "guest-owned"),
     pytest.param(Arch.RISCV64, "stock", marks=pytest.mark.slow)],
)
def test_a_reset_of_virt(runner: Runner, arch: Arch, policy: str) -> None:
    wanted = staying(arch, policy)
    record = runner.run(wanted)
    assert record["verdict"] == Verdict.PASS, record["reason"]
    ran, = names(runner, wanted)
    assert record["reason"] == f"{ran} (start on source), then {ran} (reset on source)"
    assert all(boot["up"] for boot in record["boots"])


@pytest.mark.parametrize(
    ("arch", "policy", "why"),
    [
        (Arch.RISCV64, "guest-owned",
         "guest-owned needs flash, which virt (riscv64) does not have"),
        (Arch.AARCH64, "machine-owned",
         "machine-owned replaces firmware at the reset vector, which is not done on "
         "virt (aarch64)"),
    ],
)  # fmt: skip
def test_what_virt_cannot_have_is_not_started(
    runner: Runner, arch: Arch, policy: str, why: str
) -> None:
    record = runner.run(staying(arch, policy))
    assert (record["verdict"], record["reason"]) == (Verdict.UNSUPPORTED, why)
    assert not record["qemus"]


@pytest.mark.slow
def test_a_guest_of_slof_resets_itself_and_finds_its_nvram(runner: Runner) -> None:
    scenario = parse("own", ["start", {"reset": {"by": "rtas"}}])
    wanted = replace(
        cell("sid", "stock", "reset", "pseries-11.1", "virtio", seconds=60), scenario=scenario,
        hosts=(HostSpec("sid", "debian-sid", arch=Arch.PPC64),), arch=Arch.PPC64)
    record = runner.run(wanted)
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert consoles(record) == names(runner, wanted) * 2
    assert [(boot["counter"], boot["cmos"]) for boot in record["boots"]] == [
        (1, None), (2, "survived")]
    assert [(boot["memory"], boot["cpus"]) for boot in record["boots"]] == [(256 << 10, 1)] * 2


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "machine", "disk"), [
    (Arch.SPARC64, "sun4u", Disk.IDE), (Arch.S390X, "s390-ccw-virtio-5.2", Disk.VIRTIO),
])
def test_a_firmware_goes_on_at_its_prompt(
    runner: Runner, arch: Arch, machine: str, disk: Disk
) -> None:
    host = HostSpec("sid", "debian-sid", arch=arch)
    wanted = replace(
        cell("sid sid", "stock", machine=machine, seconds=60), disk=disk,
        guest=GuestKind.PROMPT, hosts=(host, host), arch=arch)
    record = runner.run(wanted)
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert consoles(record) == names(runner, wanted)
    prints = runner.host(host).firmware.prints
    assert [boot["banners"] for boot in record["boots"]] == [[prints]] * 2


@pytest.mark.slow
def test_the_probe_on_loongarch_needs_no_timer_that_migrates(runner: Runner) -> None:
    host = HostSpec("sid", "debian-sid", arch=Arch.LOONGARCH64)
    wanted = replace(
        cell("sid sid", "stock", machine="virt-11.1", disk="virtio", seconds=60),
        hosts=(host, host), arch=Arch.LOONGARCH64)
    record = runner.run(wanted)
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert [boot["rom"] for boot in record["boots"]] == names(runner, wanted)
    assert [boot["counter"] for boot in record["boots"]] == [1, 2]


def test_newest_common_on_aarch64_is_a_version_of_virt(store: ImageStore, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "schema: 1\nhosts: {a: {qemu: debian-sid}, b: {qemu: debian-sid}}\n"
        "axes: {source: a, destination: b, arch: aarch64, machine: newest-common, "
        "policy: stock, scenario: migrate-reset, disk: virtio}\n"
    )
    with Builds(store) as builds:
        (found,) = load(path).cells(builds.machines)
    assert (found.machine, found.arch) == (VIRT[Arch.AARCH64], Arch.AARCH64)
