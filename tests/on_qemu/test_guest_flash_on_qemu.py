"""What the probe guest reads from QEMU and does to its flash, on real QEMUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix import guests
from bootmatrix.boards import host_label
from bootmatrix.builds import image_store
from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine
from bootmatrix.errors import HarnessError, UserError
from bootmatrix.machines.base import able
from bootmatrix.machines.console import Console
from bootmatrix.machines.qemu.machine import QemuHosts, QemuMachine
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import (
    Disk,
    FirmwareBuild,
    Host,
    HostSpec,
    QemuBuild,
    Verdict,
)
from bootmatrix.nvram import ChangedBy, Nvram, inspect
from bootmatrix.policies import Policy
from bootmatrix.policies.base import FIRST_DISK, SECOND_DISK
from bootmatrix.run.guest import Guest
from bootmatrix.run.runner import Runner
from bootmatrix.run.steps import do_step
from bootmatrix.steps.guest_flash import GuestFlash
from bootmatrix.steps.library import parse
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from bootmatrix.witnesses.probe_line import ProbeLine
from helpers.cells import cell

BUILDS = ("bullseye", "bookworm", "trixie", "sid")
MACHINES = ("pc-i440fx-5.2", "pc-q35-5.2")
BLOCK = 4096
ATTEMPTS = 8

MakeGuest = Callable[..., Guest]


def some(*what: str) -> list[Any]:
    """Each on the first machine, the first one on the other, too; thorough are the others there."""
    return [pytest.param(one, machine, marks=(
                [pytest.mark.thorough] if what.index(one) and machine != MACHINES[0] else []))
            for one in what for machine in MACHINES]


@pytest.fixture
def make_guest(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[MakeGuest]:
    """Guests on bullseye and sid that can flash what is given, else sid's firmware."""
    made: list[Guest] = []

    def make(policy: str = "guest-owned", flash: FirmwareBuild | None = None) -> Guest:
        hosts = []
        for name in ("bullseye", "sid"):
            qemu = store.qemu(f"debian-{name}")
            hosts.append(Host(name, qemu, store.firmware(qemu.firmware)))
        disks = [guests.probe_disk(label, image_store.cache_home())
                 for label in (FIRST_DISK, SECOND_DISK)]
        scratch = tmp_path / f"guest-{len(made)}"
        scratch.mkdir()
        setup = GuestSetup(hosts, MACHINES[0], Policy(policy), disks, Disk.IDE, seconds=20.0,
                           flash=flash or hosts[1].firmware)
        made.append(Guest(QemuHosts(bubblewrap, setup, scratch)))
        return made[-1]

    yield make
    for guest in made:
        guest.close()


# ---- the flash ------------------------------------------------------------------------------


@pytest.mark.parametrize(("route", "machine"), some(
    "bullseye sid", "bookworm trixie", "trixie bookworm", "sid bullseye"))
def test_a_guest_owned_guest_flashes_itself(runner: Runner, route: str, machine: str) -> None:
    record: Any = runner.run(cell(route, "guest-owned", "guest-flash-reset", machine))
    assert record["verdict"] == "pass", record["reason"]
    start, flash, _reset = record["steps"]
    assert start["outcome"] == flash["outcome"] == "ok"
    assert flash["flash"] == {"size": 262144, "written": 262144, "result": "ok"}
    old, new = record["boots"]
    assert flash["rom"] == new["rom"] != old["rom"]  # at once in the ROM ...
    assert flash["guest"]["bios_version"] == old["smbios"][1]  # ... but not yet running
    assert new["console"] == record["cell"]["destination"]["firmware"]


@pytest.mark.parametrize("route", ["bullseye sid", "sid bullseye"])
def test_what_the_guest_flashed_goes_where_the_guest_goes(runner: Runner, route: str) -> None:
    record: Any = runner.run(cell(route, "guest-owned", "guest-flash-migrate-reset"))
    assert record["verdict"] == "pass", record["reason"]
    migrate = record["steps"][2]
    assert migrate["nvram_equal"] is True
    assert migrate["rom"] == record["cell"]["destination"]["firmware"]


@pytest.mark.parametrize(("by", "machine"), some("cf9", "keyboard", "triple-fault"))
def test_whoever_asks_for_the_reset_the_flash_runs(
    runner: Runner, machine: str, by: str
) -> None:
    steps = parse(f"by-{by}", ["start", "guest-flash", {"reset": {"by": by}}])
    record: Any = runner.run(
        replace(cell("bookworm sid", "guest-owned", machine=machine), scenario=steps)
    )
    assert record["verdict"] == "pass", record["reason"]


def test_it_flashes_there_and_back(runner: Runner, seabios: dict[str, FirmwareBuild]) -> None:
    steps = parse("twice", [
        "start", {"guest-flash": {"firmware-of": "destination"}}, "reset",
        {"upgrade-nvram": {"firmware-of": "source"}}, "reset",
        {"guest-flash": {"firmware-of": "destination"}}, "shutdown",
        {"start": {"on": "destination"}},
    ])
    record: Any = runner.run(
        replace(cell("bullseye sid", "guest-owned-versioned"), scenario=steps)
    )
    assert record["verdict"] == "pass", record["reason"]
    old, new = seabios["bullseye"].name, seabios["sid"].name
    assert [boot["rom"] for boot in record["boots"]] == [old, new, old, new]


@pytest.mark.parametrize("policy", ["stock", "machine-owned", "reread"])
def test_firmware_that_is_no_flash_is_left_alone(
    runner: Runner, policy: str, seabios: dict[str, FirmwareBuild]
) -> None:
    record: Any = runner.run(cell("bookworm sid", policy, "guest-flash-reset"))
    assert record["verdict"] == "pass", record["reason"]
    assert record["steps"][1]["flash"] == {"size": 262144, "written": 0, "result": "no-flash"}
    assert {boot["rom"] for boot in record["boots"]} == {seabios["bookworm"].name}


def test_the_header_notices_that_it_was_the_guest(make_guest: MakeGuest) -> None:
    guest = make_guest()
    do_step(guest, Start(0))
    file = able(guest.hosts, QemuHosts).scratch.cell.path / "source" / "nvram.bin"
    assert inspect(file).header.changed.by is ChangedBy.HARNESS
    do_step(guest, GuestFlash(1))
    do_step(guest, Shutdown())
    guest.close()
    with Nvram(file) as nvram:
        assert nvram.header.changed.by is ChangedBy.GUEST
        assert nvram.header.changed.blocks > 0
        assert nvram.read() == guest.setup.hosts[1].firmware.path.read_bytes()
        assert nvram.stamp == guest.setup.hosts[0].qemu.version


def test_an_image_of_another_size_is_refused(make_guest: MakeGuest, tmp_path: Path) -> None:
    small = tmp_path / "small.bin"
    small.write_bytes(bytes(131072))
    guest = make_guest(flash=FirmwareBuild("small", "", 131072, small))
    up = do_step(guest, Start(0))
    seen = do_step(guest, GuestFlash(1))
    assert seen.refusal is not None
    assert (seen.refusal.kind, str(seen.refusal)) == (
        "rom-size", "rom-size: small has 0x20000 bytes, the flash 0x40000")
    assert up.boot is not None
    assert guest.able(QemuMachine).rom_digest(Deadline.after(60)) == up.boot.rom


def test_an_image_that_is_not_in_fw_cfg_is_the_rigs_fault(
    make_guest: MakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootmatrix.machines.qemu.command_line.FLASH_ITEM", "opt/elsewhere")
    guest = make_guest()
    do_step(guest, Start(0))
    with pytest.raises(HarnessError, match="does not find the image"):
        do_step(guest, GuestFlash(1))


def test_without_an_image_nothing_is_asked_of_the_guest(make_guest: MakeGuest) -> None:
    guest = make_guest()
    guest.setup = replace(guest.setup, flash=None)
    do_step(guest, Start(0))
    with pytest.raises(UserError, match="no image"):
        do_step(guest, GuestFlash(1))


# ---- power loss -----------------------------------------------------------------------------


@contextmanager
def killed_at(place: int) -> Iterator[None]:
    """SIGKILL for the QEMU whose guest says that it has programmed ``place`` bytes."""
    tell, vms = Console.tell, []
    launch = QemuHosts.launch

    def note(hosts: QemuHosts, host: int, *, incoming: bool) -> QemuMachine:
        machine = launch(hosts, host, incoming=incoming)
        vms.append(machine.vm)
        return machine

    def cut(
        console: Console, key: bytes, kind: str, deadline: Deadline,
        progress: Callable[[int], None] = lambda at: None,
    ) -> object:
        def kill(at: int) -> None:
            progress(at)
            if at == place:
                vms[-1].process.kill()

        return tell(console, key, kind, deadline, kill)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QemuHosts, "launch", note)
        patch.setattr(Console, "tell", cut)
        yield


def blocks(data: bytes) -> list[bytes]:
    return [data[at:at + BLOCK] for at in range(0, len(data), BLOCK)]


@pytest.mark.parametrize("place", [0, 65536, 131072])
def test_power_loss_leaves_a_half_written_flash(
    make_guest: MakeGuest, tmp_path: Path, place: int
) -> None:
    before = make_guest().setup.hosts[0].firmware.path.read_bytes()
    after = bytes(255 - byte for byte in before)  # in each block another one
    (tmp_path / "after.bin").write_bytes(after)
    flash = FirmwareBuild("after", "", len(after), tmp_path / "after.bin")
    old, new = blocks(before), blocks(after)
    with killed_at(place):
        for _ in range(ATTEMPTS):  # a loaded host's signal can come when the flash is written
            guest = make_guest(flash=flash)
            do_step(guest, Start(0))
            seen = do_step(guest, GuestFlash(1))
            guest.close()
            cell_path = able(guest.hosts, QemuHosts).scratch.cell.path
            with Nvram(cell_path / "source" / "nvram.bin") as nvram:
                found = blocks(nvram.read())
                changed = nvram.header.changed
            if seen.cut_off is not None and found != new:
                break
    assert seen.cut_off is not None
    assert seen.flashed is not None
    assert seen.flashed >= place
    written = next(at for at, block in enumerate(found) if block != new[at])
    assert written * BLOCK >= place
    if place:  # else the guest may not have come to the first
        assert changed.by is ChangedBy.GUEST
        assert changed.blocks in (written, written + 1)
    assert found[written + 1:] == old[written + 1:]  # one block may be half itself


def test_power_loss_is_a_finding_and_not_a_broken_rig(runner: Runner) -> None:
    with killed_at(65536):
        for _ in range(ATTEMPTS):  # a loaded host's signal can come when the flash is written
            record: Any = runner.run(cell("bullseye sid", "guest-owned", "guest-flash-reset"))
            if record["steps"][-1].get("flash", {}).get("result") == "cut-off":
                break
            assert record["verdict"] in ("pass", "no-boot"), record["reason"]
    assert record["verdict"] == "no-boot", record["reason"]
    assert "the flash is half-written" in record["reason"]
    assert [step["step"] for step in record["steps"]] == ["start", "guest-flash"]
    flash = record["steps"][1]["flash"]
    assert flash["result"] == "cut-off"
    assert flash["written"] >= 65536


# ---- what the guest reads from QEMU -----------------------------------------------------------


def test_fw_cfg_is_the_destinations_at_once_and_acpi_only_after_the_reset(
    runner: Runner, store: ImageStore
) -> None:
    old, new = (store.qemu(f"debian-{suite}").version for suite in ("bullseye", "sid"))
    record: Any = runner.run(cell("bullseye sid", "guest-owned"))
    assert record["verdict"] == "pass", record["reason"]
    first, second = record["boots"]
    there = next(step["guest"] for step in record["steps"] if step["step"] == "migrate")
    assert first["fw_cfg"] == {
        "signature": "QEMU", "features": 3, "host": f"source {old} debian-bullseye"}
    assert there["fw_cfg"]["host"] == second["fw_cfg"]["host"]
    assert there["fw_cfg"]["host"].startswith(f"destination {new} ")
    assert there["acpi"] == first["acpi"] != second["acpi"]
    assert "00000000" not in (first["acpi"], second["acpi"])


@pytest.mark.parametrize("machine", MACHINES)
def test_the_acpi_sum_is_qemus_and_not_the_firmwares(
    runner: Runner, machine: str, seabios: dict[str, FirmwareBuild]
) -> None:
    sums = {}
    for qemu in BUILDS[0], BUILDS[-1]:
        for firmware in seabios["trixie"].name, seabios["sid"].name:
            spec = HostSpec("host", f"debian-{qemu}", firmware)
            record: Any = runner.run(
                replace(cell(qemu, "stock", "cold-boot", machine), hosts=(spec,))
            )
            sums[qemu, firmware] = record["boots"][0]["acpi"]
    old, old_too, new, new_too = sums.values()
    assert old == old_too != new == new_too


@pytest.mark.parametrize(("name", "cmos"), [
    ("migrate-reset-twice", [None, "survived", "survived"]),
    ("migrate-restart", [None, "lost"]),
])
def test_what_becomes_of_the_cmos(runner: Runner, name: str, cmos: list[str | None]) -> None:
    record: Any = runner.run(cell("bookworm sid", "machine-owned", name))
    assert record["verdict"] == "pass", record["reason"]
    assert [boot["cmos"] for boot in record["boots"]] == cmos


@pytest.mark.parametrize(("name", "liar", "where"), [
    ("cold-boot", 0, "boot 1 (start on source)"),
    ("migrate-reset", 1, "migrate"),
])
def test_fw_cfg_that_names_another_host_is_found(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, name: str, liar: int, where: str
) -> None:
    def lie(index: int, qemu: QemuBuild) -> str:
        return "somewhere else" if index == liar else host_label(index, qemu)

    monkeypatch.setattr("bootmatrix.machines.qemu.machine.host_label", lie)
    record: Any = runner.run(cell("bookworm sid", "stock", name))
    assert record["verdict"] == "wrong-fw-cfg"
    assert record["reason"].startswith(
        f"{where}: fw_cfg tells the guest that it is on 'somewhere else', it runs on '")


def test_a_label_that_does_not_fit_is_cut_for_guest_and_model_alike(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path
) -> None:
    class Renamed(Builds):
        def host(self, spec: HostSpec) -> Host:
            host = super().host(spec)
            odd = f'my "own", {"x" * 80}'
            return replace(host, qemu=replace(host.qemu, name=odd))

    with Renamed(store) as builds, Runner(builds, bubblewrap, tmp_path) as runner:
        record: Any = runner.run(cell("sid", "stock", "cold-boot"))
    assert record["verdict"] == "pass", record["reason"]
    told = record["boots"][0]["fw_cfg"]["host"]
    assert len(told) == 63
    assert "my ?own?, xxx" in told


# ---- the words for it ----------------------------------------------------------------------


def test_the_verdict_has_a_name() -> None:
    assert Verdict("wrong-fw-cfg") is Verdict.WRONG_FW_CFG
    assert ProbeLine("flash", result="ok").result == "ok"
