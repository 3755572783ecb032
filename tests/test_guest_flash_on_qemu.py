"""What the probe guest reads from QEMU and does to its flash, on real QEMUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from cells import cell

from harness import guests, images, policies, scenario
from harness.builds import Builds
from harness.console import Console
from harness.deadline import Deadline
from harness.engines import Engine
from harness.errors import HarnessError, UserError
from harness.images import ImageStore
from harness.model import (
    Disk,
    FirmwareBuild,
    Host,
    HostSpec,
    Policy,
    QemuBuild,
    Step,
    Verdict,
    host_label,
)
from harness.nvram import ChangedBy, Nvram, inspect
from harness.observation import StepObserved
from harness.probe_line import ProbeLine
from harness.runner import Runner
from harness.scenario import Guest, GuestSetup, run_steps
from harness.scenarios import LIBRARY, parse

BUILDS = ("bullseye", "bookworm", "trixie", "sid")
MACHINES = ("pc-i440fx-5.2", "pc-q35-5.2")
BLOCK = 4096
ATTEMPTS = 8

MakeGuest = Callable[..., Guest]


@pytest.fixture
def make_guest(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[MakeGuest]:
    """Guests on bullseye and sid that can flash what is given, else sid's firmware."""
    made: list[Guest] = []

    def make(policy: str = "guest-owned", flash: FirmwareBuild | None = None) -> Guest:
        hosts = []
        for name in ("bullseye", "sid"):
            qemu = store.qemu(f"debian-{name}")
            hosts.append(Host(name, qemu, store.firmware(qemu.firmware)))
        disks = [guests.probe_disk(label, images.cache_home())
                 for label in (policies.FIRST_DISK, policies.SECOND_DISK)]
        scratch = tmp_path / f"guest-{len(made)}"
        scratch.mkdir()
        setup = GuestSetup(hosts, MACHINES[0], Policy(policy), disks, Disk.IDE, seconds=20.0,
                           flash=flash or hosts[1].firmware)
        made.append(Guest(bubblewrap, setup, scratch))
        return made[-1]

    yield make
    for guest in made:
        guest.close()


# ---- the flash ------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("route", ["bullseye sid", "bookworm trixie", "trixie bookworm",
                                   "sid bullseye"])
def test_a_guest_owned_guest_flashes_itself(runner: Runner, route: str, machine: str) -> None:
    record = runner.run(cell(route, "guest-owned", "guest-flash-reset", machine)).to_json()
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
    record = runner.run(cell(route, "guest-owned", "guest-flash-migrate-reset")).to_json()
    assert record["verdict"] == "pass", record["reason"]
    migrate = record["steps"][2]
    assert migrate["nvram_equal"] is True
    assert migrate["rom"] == record["cell"]["destination"]["firmware"]


@pytest.mark.parametrize("by", ["cf9", "keyboard", "triple-fault"])
@pytest.mark.parametrize("machine", MACHINES)
def test_whoever_asks_for_the_reset_the_flash_runs(
    runner: Runner, machine: str, by: str
) -> None:
    steps = parse(f"by-{by}", ["start", "guest-flash", {"reset": {"by": by}}])
    record = runner.run(
        replace(cell("bookworm sid", "guest-owned", machine=machine), scenario=steps)
    ).to_json()
    assert record["verdict"] == "pass", record["reason"]


def test_it_flashes_there_and_back(runner: Runner) -> None:
    steps = parse("twice", [
        "start", {"guest-flash": {"firmware-of": "destination"}}, "reset",
        {"upgrade-nvram": {"firmware-of": "source"}}, "reset",
        {"guest-flash": {"firmware-of": "destination"}}, "shutdown",
        {"start": {"on": "destination"}},
    ])
    record = runner.run(
        replace(cell("bullseye sid", "guest-owned-versioned"), scenario=steps)
    ).to_json()
    assert record["verdict"] == "pass", record["reason"]
    assert [boot["rom"] for boot in record["boots"]] == [
        "seabios-1.14.0-2", "seabios-1.17.0-1", "seabios-1.14.0-2", "seabios-1.17.0-1"]


@pytest.mark.parametrize("policy", ["stock", "machine-owned", "reread"])
def test_firmware_that_is_no_flash_is_left_alone(runner: Runner, policy: str) -> None:
    record = runner.run(cell("bookworm sid", policy, "guest-flash-reset")).to_json()
    assert record["verdict"] == "pass", record["reason"]
    assert record["steps"][1]["flash"] == {"size": 262144, "written": 0, "result": "no-flash"}
    assert {boot["rom"] for boot in record["boots"]} == {"seabios-1.16.2-1"}


def test_the_header_notices_that_it_was_the_guest(make_guest: MakeGuest) -> None:
    guest = make_guest()
    guest.start(0)
    file = guest.directory / "source" / "nvram.bin"
    assert inspect(file).header.changed.by is ChangedBy.HARNESS
    guest.guest_flash()
    guest.shutdown()
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
    up = guest.start(0)
    seen = guest.guest_flash()
    assert seen.refusal is not None
    assert (seen.refusal.kind, str(seen.refusal)) == (
        "rom-size", "rom-size: small has 0x20000 bytes, the flash 0x40000")
    assert up.boot is not None
    assert guest.vm.rom_digest((4 << 30) - 262144, 262144, Deadline.after(20)) == up.boot.rom


def test_an_image_that_is_not_in_fw_cfg_is_the_rigs_fault(
    make_guest: MakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cmdline.FLASH_ITEM", "opt/elsewhere")
    guest = make_guest()
    guest.start(0)
    with pytest.raises(HarnessError, match="does not find the image"):
        guest.guest_flash()


def test_without_an_image_nothing_is_asked_of_the_guest(make_guest: MakeGuest) -> None:
    guest = make_guest()
    guest.setup = replace(guest.setup, flash=None)
    guest.start(0)
    with pytest.raises(UserError, match="no image"):
        guest.guest_flash()


# ---- power loss -----------------------------------------------------------------------------


@contextmanager
def killed_at(place: int) -> Iterator[None]:
    """SIGKILL for the QEMU whose guest says that it has programmed ``place`` bytes."""
    flash, vms = Console.flash, []
    launch = Guest._launch

    def note(guest: Guest, host: int, *, incoming: bool) -> object:
        running = launch(guest, host, incoming=incoming)
        vms.append(running.vm)
        return running

    def cut(console: Console, deadline: Deadline, progress: Callable[[int], None]) -> object:
        def kill(at: int) -> None:
            progress(at)
            if at == place:
                vms[-1].process.kill()

        return flash(console, deadline, kill)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guest, "_launch", note)
        patch.setattr(Console, "flash", cut)
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
    with killed_at(place):
        for _ in range(ATTEMPTS):  # a loaded host's signal can come when the flash is written
            guest = make_guest(flash=flash)
            guest.start(0)
            seen = guest.guest_flash()
            guest.close()
            if seen.cut_off is not None:
                break
    assert seen.cut_off is not None
    assert seen.flashed is not None
    assert seen.flashed >= place
    old, new = blocks(before), blocks(after)
    with Nvram(guest.directory / "source" / "nvram.bin") as nvram:
        found = blocks(nvram.read())
        changed = nvram.header.changed
    written = next(at for at, block in enumerate(found) if block != new[at])
    assert written * BLOCK >= place
    if place:  # else the guest may not have come to the first
        assert changed.by is ChangedBy.GUEST
        assert changed.blocks in (written, written + 1)
    assert found[written + 1:] == old[written + 1:]  # one block may be half itself


def test_power_loss_is_a_finding_and_not_a_broken_rig(runner: Runner) -> None:
    with killed_at(65536):
        for _ in range(ATTEMPTS):
            record = runner.run(cell("bullseye sid", "guest-owned", "guest-flash-reset")).to_json()
            if record["verdict"] != "pass":
                break
    assert record["verdict"] == "no-boot", record["reason"]
    assert "the flash is half-written" in record["reason"]
    assert [step["step"] for step in record["steps"]] == ["start", "guest-flash"]
    flash = record["steps"][1]["flash"]
    assert flash["result"] == "cut-off"
    assert flash["written"] >= 65536


# ---- what the guest reads from QEMU -----------------------------------------------------------


def test_fw_cfg_is_the_destinations_at_once_and_acpi_only_after_the_reset(
    runner: Runner,
) -> None:
    record = runner.run(cell("bullseye sid", "guest-owned")).to_json()
    assert record["verdict"] == "pass", record["reason"]
    first, second = record["boots"]
    there = next(step["guest"] for step in record["steps"] if step["step"] == "migrate")
    assert first["fw_cfg"] == {
        "signature": "QEMU", "features": 3, "host": "source 5.2.0 debian-bullseye"}
    assert there["fw_cfg"]["host"] == second["fw_cfg"]["host"]
    assert there["fw_cfg"]["host"].startswith("destination 11.")
    assert there["acpi"] == first["acpi"] != second["acpi"]
    assert "00000000" not in (first["acpi"], second["acpi"])


@pytest.mark.parametrize("machine", MACHINES)
def test_the_acpi_sum_is_qemus_and_not_the_firmwares(
    store: ImageStore, runner: Runner, machine: str
) -> None:
    sums = {}
    for qemu in BUILDS[0], BUILDS[-1]:
        for firmware in "seabios-1.16.3-2", "seabios-1.17.0-1":
            spec = HostSpec("host", f"debian-{qemu}", firmware)
            record = runner.run(
                replace(cell(qemu, "stock", "cold-boot", machine), hosts=(spec,))
            ).to_json()
            sums[qemu, firmware] = record["boots"][0]["acpi"]
    old, old_too, new, new_too = sums.values()
    assert old == old_too != new == new_too


@pytest.mark.parametrize(("name", "cmos"), [
    ("migrate-reset-twice", [None, "survived", "survived"]),
    ("migrate-restart", [None, "lost"]),
])
def test_what_becomes_of_the_cmos(runner: Runner, name: str, cmos: list[str | None]) -> None:
    record = runner.run(cell("bookworm sid", "machine-owned", name)).to_json()
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

    monkeypatch.setattr(scenario, "host_label", lie)
    record = runner.run(cell("bookworm sid", "stock", name)).to_json()
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
        record = runner.run(cell("sid", "stock", "cold-boot")).to_json()
    assert record["verdict"] == "pass", record["reason"]
    told = record["boots"][0]["fw_cfg"]["host"]
    assert len(told) == 63
    assert "my ?own?, xxx" in told


# ---- the words for it ----------------------------------------------------------------------


def test_a_cut_off_guest_ends_the_scenario() -> None:
    class Cut:
        setup = SimpleNamespace(hosts=())

        def start(self, *args: object, **options: object) -> object:
            return StepObserved(steps[0], 0.1, 0)

        def guest_flash(self) -> object:
            return StepObserved(steps[1], 0.1, 0, flashed=0, cut_off="gone")

    steps: tuple[Step, ...] = LIBRARY["guest-flash-reset"].steps
    seen: list[StepObserved] = []
    run_steps(Cut(), steps, seen)  # type: ignore[arg-type]
    assert [each.step.kind.value for each in seen] == ["start", "guest-flash"]


def test_the_verdict_has_a_name() -> None:
    assert Verdict("wrong-fw-cfg") is Verdict.WRONG_FW_CFG
    assert ProbeLine("flash", result="ok").result == "ok"
