"""Guests for people who write their own tests: by names, and with names in the answers.

The pytest fixture ``bootmatrix`` is a Lab. Nothing here knows pytest; a script can make one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from harness import images
from harness.builds import Builds
from harness.engines import Engine
from harness.errors import UserError
from harness.guest_files import setup_of
from harness.identity import KnownFirmware
from harness.model import (
    Accel,
    Arch,
    Cell,
    Channel,
    Disk,
    FirmwareSource,
    GuestKind,
    HostSpec,
    Nic,
    Policy,
    QemuSource,
    ResetBy,
    Scenario,
)
from harness.observation import StepObserved
from harness.refusals import Refusal
from harness.runner import keep_logs
from harness.scenario import Guest
from harness.vm import VM


@dataclass(frozen=True)
class Seen:
    """What was seen of one step, with firmware builds by name.

    ``console`` is what the serial console said and ``rom`` what the ROM's bytes are: the name
    of a known build, else the printed text or ``sha256:...``; None where nothing was seen.
    ``up``: the guest said that it is there. ``disk`` is the label of the disk it booted from.
    """

    up: bool
    console: str | None
    rom: str | None
    disk: str | None
    refusal: Refusal | None
    seconds: float
    observed: StepObserved

    @property
    def firmware(self) -> str:
        """The firmware that ran. Raises AssertionError where the witnesses do not say it."""
        if self.refusal is not None:
            raise AssertionError(f"QEMU refused it: {self.refusal}")
        if not self.up:
            raise AssertionError(f"the guest is not up; its console said {self.console}")
        if self.rom is not None and self.console not in (None, self.rom):
            raise AssertionError(f"the console says {self.console}, the ROM is {self.rom}")
        name = self.rom or self.console
        if name is None:
            raise AssertionError("no witness named a firmware")
        return name


class LabGuest:
    """One guest and the hosts it can live on; every step says what was seen.

    ``guest.vm`` is the QEMU process in which it runs, with ``vm.monitor`` (QMP) and
    ``vm.console`` for what has no step of its own.
    """

    def __init__(self, guest: Guest, firmware: KnownFirmware, builds: Builds) -> None:
        self._guest = guest
        self._firmware = firmware
        self._builds = builds
        self._hosts = {host.name: index for index, host in enumerate(guest.setup.hosts)}

    @property
    def vm(self) -> VM:
        """The QEMU process in which the guest runs."""
        return self._guest.vm

    def start(self, host: str | None = None) -> Seen:
        """Boot in a new process on a host (default: the first)."""
        return self._seen(self._guest.start(0 if host is None else self._index(host)))

    def reset(self, by: str = "monitor") -> Seen:
        """Boot in the same process; ``by`` monitor, cf9, keyboard or triple-fault."""
        return self._seen(self._guest.reset(ResetBy(by)))

    def migrate(self, host: str, channel: str = "unix") -> Seen:
        """Move the running guest to a host, live, through unix, tcp or file."""
        return self._seen(self._guest.migrate(self._index(host), Channel(channel)))

    def shutdown(self) -> Seen:
        """End the guest's process."""
        return self._seen(self._guest.shutdown())

    def upgrade_host(self, host: str, firmware: str) -> Seen:
        """Replace the firmware file on a host by a known build."""
        build = self._builds.named_firmware(firmware)
        return self._seen(self._guest.upgrade_host(self._index(host), build))

    def upgrade_nvram(self, firmware: str) -> Seen:
        """Stage a known build in the guest's nvram."""
        return self._seen(self._guest.upgrade_nvram(self._builds.named_firmware(firmware)))

    def clear_nvram(self) -> Seen:
        """Empty the guest's nvram; the guest must not run."""
        return self._seen(self._guest.clear_nvram())

    def replace_disk(self) -> Seen:
        """Put another disk file (label B) in the place of the guest's (label A)."""
        return self._seen(self._guest.replace_disk())

    def _index(self, host: str) -> int:
        if host not in self._hosts:
            raise UserError(f"no such host: {host!r}", hint="hosts: " + ", ".join(self._hosts))
        return self._hosts[host]

    def _seen(self, step: StepObserved) -> Seen:
        boot = step.boot
        guest = boot.up if boot else step.here
        printed = boot.banners[-1] if boot and boot.banners else None
        if printed is None and guest is not None:
            printed = guest.bios_version
        digest = boot.rom if boot else step.rom
        rom = self._firmware.by_bytes(digest) if digest else None
        console = None
        if printed:
            named = self._firmware.by_print(printed)
            # Where several builds print the same, the bytes tell which of them it is.
            console = rom if rom in named.candidates else named.name
        return Seen(
            up=guest is not None,
            console=console,
            rom=rom,
            disk=guest.disk if guest else None,
            refusal=step.refusal,
            seconds=step.seconds,
            observed=step,
        )


class Lab:
    """Makes guests. Leaving it ends them; their logs stay below ``directory``."""

    def __init__(self, builds: Builds, engine: Engine, directory: Path) -> None:
        self._builds = builds
        self._engine = engine
        self._directory = directory
        self._opened = ExitStack()
        self._made = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End all guests."""
        self._opened.close()

    def guest(
        self,
        *builds: str | QemuSource,
        machine: str,
        policy: str = "stock",
        firmware: Mapping[str, str | FirmwareSource] | None = None,
        disk: str = "ide",
        accel: str = "tcg",
        seconds: float = 10.0,
        arch: str = "x86_64",
        guest: str = "probe",
        cpu: str = "",
        smp: int = 1,
        nic: str = "none",
    ) -> LabGuest:
        """A guest that can live on hosts with these QEMU builds; a host is named as its build.

        ``firmware`` gives a host another firmware build than the one beside its QEMU.
        ``seconds`` bounds each boot. Images that are missing are built. Raises UserError for
        a name that there is not, or a build of the user's own that is none.
        """
        specs = tuple(
            HostSpec(str(build), build, (firmware or {}).get(str(build)), Arch(arch))
            for build in builds
        )
        cell = Cell(
            specs, machine, Policy(policy), Scenario("by-hand", ()), Disk(disk), Accel(accel),
            seconds, Arch(arch), GuestKind(guest), cpu, smp, Nic(nic),
        )  # fmt: skip
        self._builds.prepare(specs)
        hosts = [self._builds.host(spec) for spec in specs]
        self._made += 1
        scratch = self._directory / f"guest-{self._made}"
        scratch.mkdir(parents=True)
        self._opened.callback(shutil.rmtree, scratch)
        self._opened.callback(keep_logs, scratch, self._directory / f"logs-{self._made}")
        setup = setup_of(cell, hosts, images.cache_home())
        made = self._opened.enter_context(Guest(self._engine, setup, scratch))
        return LabGuest(made, self._builds.known_firmware(hosts, machine), self._builds)
