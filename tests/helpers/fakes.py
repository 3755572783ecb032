"""Guests on fake machines: a whole life of one takes milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bootmatrix.cell import Cell
from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.machines.fake import FakeHosts, Script, firmware
from bootmatrix.machines.setup import GuestSetup, post_ms
from bootmatrix.model import FirmwareBuild, Host, HostSpec, QemuBuild
from bootmatrix.policies import Policy
from bootmatrix.run.guest import Guest
from bootmatrix.run.runner import Runner
from bootmatrix.run.steps import run_steps
from bootmatrix.steps.library import parse
from bootmatrix.witnesses.observation import StepObserved

MACHINE = "pc-i440fx-5.2"
VERSIONS = ("1.14.0-2", "1.17.0-1", "1.16.2-1")
QEMUS = ("5.2.0", "11.1.3", "7.2.22")
SECONDS = 0.2
"""How long a boot may take: what does not come is waited for no longer."""


def hosts(directory: Path, versions: Sequence[str] = VERSIONS) -> list[Host]:
    """Hosts with one QEMU and one fake firmware each."""
    directory.mkdir(parents=True, exist_ok=True)
    return [
        Host(f"h{number}", QemuBuild(f"q-{qemu}", qemu, f"digest-{number}", directory,
                                     machines=(MACHINE,), default_machine=MACHINE),
             firmware(version, directory))
        for number, (version, qemu) in enumerate(zip(versions, QEMUS, strict=True))
    ]  # fmt: skip


def setup(
    directory: Path, policy: str = "stock", flash: FirmwareBuild | None = None, **changed: Any
) -> GuestSetup:
    """What a guest on these hosts is made of."""
    disks = [directory / f"disk-{label}" for label in "AB"]
    found = hosts(directory)
    for disk in disks:
        disk.write_bytes(disk.name.encode())
    settings: dict[str, Any] = {"seconds": SECONDS, "flash": flash or found[1].firmware} | changed
    return GuestSetup(found, MACHINE, Policy(policy), disks, **settings)


def fake_guest(
    directory: Path, policy: str = "stock", script: Script | None = None, **changed: Any
) -> Guest:
    """A guest that has not been started."""
    made = setup(directory / "images", policy, **changed)
    return Guest(FakeHosts(made, directory / "scratch", script))


def life(guest: Guest, steps: Sequence[Any]) -> list[StepObserved]:
    """What is seen of a guest that goes through steps, as a matrix file has them; then it ends."""
    seen: list[StepObserved] = []
    with guest:
        run_steps(guest, parse("own", steps).steps, seen)
    return seen


class FakeRunner(Runner):
    """A runner of cells on fake machines; ``script`` is what goes wrong on them."""

    def __init__(self, run_dir: Path, script: Script | None = None, **options: Any) -> None:
        self.script = script or Script()
        self.fakes = setup(run_dir / "images")
        self.made: list[FakeHosts] = []
        builds = SimpleNamespace(known_firmware=lambda hosts, machine: KnownFirmware(
            [host.firmware for host in self.fakes.hosts]))
        engine = SimpleNamespace(name="fake")
        super().__init__(builds, engine, run_dir, cache=run_dir / "kept", **options)  # type: ignore[arg-type]

    def host(self, spec: HostSpec) -> Host:
        """By its number: h0, h1, h2."""
        return next(host for host in self.fakes.hosts if host.name == spec.name)

    def setup(self, cell: Cell, hosts: Sequence[Host]) -> GuestSetup:
        """With the disks of the test's own."""
        return GuestSetup(hosts, cell.machine, cell.policy, self.fakes.disks,
                          seconds=cell.seconds, flash=hosts[-1].firmware,
                          post_ms=post_ms(cell.scenario.steps))

    def machines(self, setup: GuestSetup, rows: list[dict[str, Any]]) -> FakeHosts:
        """Fakes."""
        self.made.append(FakeHosts(setup, self._scratch, self.script, rows))
        return self.made[-1]
