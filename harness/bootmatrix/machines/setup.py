"""What a guest is made of, and of which disks and kernel, whatever machine it runs on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from bootmatrix import arguments, vault
from bootmatrix.boards import Board, known_board
from bootmatrix.builds import swtpm
from bootmatrix.cell import Cell
from bootmatrix.guests import LinuxKernel, Program, own_disk, program_of, qcow2
from bootmatrix.model import (
    DEFAULT_LIMITS,
    Accel,
    Arch,
    Disk,
    FirmwareBuild,
    Grant,
    GuestKind,
    Host,
    Interface,
    Limits,
    MigrationMode,
    Nic,
    OwnDisk,
    OwnGuest,
    OwnMachine,
    QemuBuild,
    Tpm,
)
from bootmatrix.modes import MODES, Memory
from bootmatrix.policies import Policy
from bootmatrix.policies.base import FIRST_DISK, SECOND_DISK, Mechanism
from bootmatrix.steps.base import Step
from bootmatrix.steps.guest_flash import flashed
from bootmatrix.steps.migrate import leaves_during_post

# SeaBIOS with a boot menu waits so long for a key (QEMU's -boot splash-time): the window in which
# a guest can be migrated while its firmware still runs, and the longest that is tried where a
# busy machine lets it pass.
POST_MS, LONGEST_POST_MS = 500, 8000

# Who has patience waits so many seconds by the clock, and until the guest was able to run in this
# part of them, or twice as long as it has without: what it waits for by its own clock passes for
# all, what it works does not.
_PART, _TIMES = 4, 2

_VERSIONED_PC = re.compile(r"pc-(?:i440fx|q35)-\d+\.\d+")


@dataclass
class GuestSetup:
    """What a guest is made of.

    ``seconds`` bounds each boot, and ``least`` is how long everything else that the guest does is
    waited for, at least; ``hurry`` is the part of either in which the guest is able to run, turned
    over, 0 without patience; ``disks`` are disks A and B. ``post_ms`` makes the firmware
    wait so long for a key, in ms, so that there is time to migrate the guest during it.
    ``flash`` is what the guest finds in fw_cfg to program its flash with, ``kernel`` what
    ``-kernel`` boots.
    ``urgent``: its QEMUs come before all others, as far as they may. ``share``: each has no
    more than this part of a processor, if that can be had; 0 is no bound.
    ``debug_log``: its QEMUs have the port for firmware's debug log, where they can.
    ``memory`` is what -m is given, "" what the guest needs; ``words`` are the user's own for all
    of its QEMUs. ``limits`` are those of its sandboxes. ``tpm`` is the interface of its TPM, and
    ``emulators`` are what is that TPM, one for each host.
    """

    hosts: Sequence[Host]
    machine: str
    policy: Policy
    disks: Sequence[Path]
    disk: Disk = Disk.AHCI
    accel: Accel = Accel.TCG
    seconds: float = 5.0
    least: float = 0.0
    hurry: float = 0.0
    post_ms: int = 0
    flash: FirmwareBuild | None = None
    guest: GuestKind | OwnGuest = GuestKind.PROBE
    cpu: str = ""
    smp: int | str = 1
    nic: Nic = Nic.NONE
    migration: MigrationMode = MigrationMode.PRECOPY
    kernel: LinuxKernel | None = None
    debug_log: bool = True
    urgent: bool = False
    share: float = 0.0
    memory: int | str = ""
    words: tuple[str, ...] = ()
    limits: Limits = DEFAULT_LIMITS
    tpm: Tpm = Tpm.NONE
    emulators: Sequence[QemuBuild] = ()

    def patient(
        self, seconds: float, *, urgent: bool = False, share: float = 0.0
    ) -> GuestSetup:
        """The same guest, waited for at least so long in whatever it does.

        None is ``urgent`` that has a QEMU or firmware of the user's: it could keep all others here
        from running.
        """
        hurry = min(_PART, max(1.0, seconds / (_TIMES * self.seconds)))
        return replace(self, seconds=seconds, least=seconds, hurry=hurry, share=share,
                       urgent=urgent and self.catalogued)

    def longer_post(self) -> GuestSetup | None:
        """The same guest with a longer time to leave during its POST; None: there is no longer."""
        longer = 4 * self.post_ms
        if not 0 < longer <= LONGEST_POST_MS:
            return None
        return replace(self, post_ms=longer,
                       seconds=self.seconds + (longer - self.post_ms) / 1000)

    @property
    def arch(self) -> Arch:
        """What its QEMUs emulate."""
        return self.hosts[0].qemu.arch

    @property
    def board(self) -> Board:
        """The board it runs on. Raises UserError for one that is not known."""
        return known_board(self.machine, self.arch)

    @property
    def mechanism(self) -> Mechanism:
        """How QEMU is made to follow the policy on this board."""
        return self.policy.model.mechanism(self.board.loader(self.hosts[0].firmware))

    @property
    def interface(self) -> Interface:
        """The interface of its firmware, the same on all hosts."""
        return self.hosts[0].firmware.interface

    @property
    def program(self) -> Program:
        """What runs in it once its firmware is done."""
        return program_of(self.guest.kind, self.hosts[0].firmware, self.arch)

    @property
    def own(self) -> OwnMachine | None:
        """Somebody's machine, if that is what it runs in."""
        return self.guest.machine

    @property
    def own_disk(self) -> OwnDisk | None:
        """A disk of the user's, if that is what it boots from."""
        return self.guest.disk

    @property
    def disk_format(self) -> str:
        """The format of ``disks``: one in which a snapshot can be kept, where the guest goes so."""
        return "qcow2" if MODES[self.migration].leaves_first or self.own_disk else "raw"

    @property
    def memory_mib(self) -> int:
        """MiB of memory that it has: as it is told, or its firmware needs, or a kernel."""
        if (given := arguments.mib(self.memory)) is not None:
            return given
        firmware = max(self.board.memory_mib(host.firmware) for host in self.hosts)
        return max(firmware, self.program.mib)

    @property
    def memory_argument(self) -> str:
        """What -m is given, where that is more than MiB; "": it is not."""
        return "" if isinstance(self.memory, int) or self.memory.isdecimal() else self.memory

    def words_on(self, host: int) -> tuple[str, ...]:
        """The words of the user's own that a QEMU has on a host."""
        return (*self.words, *self.hosts[host].arguments)

    def memory_given(self) -> int | None:
        """MiB that its QEMUs are told of; None where they are told different things."""
        values = {arguments.last(self.words_on(host), "m") for host in range(len(self.hosts))}
        if values == {None}:
            return self.memory_mib
        return arguments.mib(found) if len(values) == 1 and (found := values.pop()) else None

    def cpus_given(self) -> int | None:
        """CPUs that its guest begins with, and can count; None where its QEMUs are told others."""
        if self.guest.kind is GuestKind.PROBE and not self.board.tells_cpus:
            return None
        values = {arguments.cpus(arguments.last(self.words_on(host), "smp") or self.smp)
                  for host in range(len(self.hosts))}
        return values.pop() if len(values) == 1 else None

    def machine_given(self) -> str | None:
        """The type of which SMBIOS must tell its guest: a versioned one of a PC, by its name.

        None where that is not sure: of another, and where the user says what SMBIOS has.
        """
        words = (word for host in range(len(self.hosts)) for word in self.words_on(host))
        if any(word.lstrip("-") == "smbios" for word in words):
            return None
        machine = arguments.machine_type(self.machine)
        return machine if _VERSIONED_PC.fullmatch(machine) else None

    def grants(self, host: int) -> frozenset[Grant]:
        """What the sandboxes of its QEMUs on a host must be granted."""
        mode = MODES[self.migration]
        hosts = range(len(self.hosts)) if mode.in_place else (host,)  # all are in one
        kvm = {Grant.KVM} if any(self.accel.on(one) is Accel.KVM for one in hosts) else set()
        return mode.grants.union(kvm, *(granted_for(self.words_on(one)) for one in hosts))

    @property
    def catalogued(self) -> bool:
        """Whether all that it runs on is the catalogue's (see QemuBuild), and what runs is ours."""
        return self.own is None and self.own_disk is None and all(
            host.qemu.catalogued and host.firmware.catalogued for host in self.hosts)


def granted_for(words: Sequence[str]) -> frozenset[Grant]:
    """What a sandbox must be granted for words of the user's own: files in memory, some of them."""
    objects = (value for option, value in pairwise(words) if option.lstrip("-") == "object")
    return frozenset({Grant.MEMFD} if any(Memory.MEMFD.value in one for one in objects) else ())


def post_ms(steps: Sequence[Step]) -> int:
    """How long firmware has to wait for a key, in ms, so that a guest can do these steps."""
    return POST_MS if any(map(leaves_during_post, steps)) else 0


def _disks(cell: Cell, hosts: Sequence[Host], cache: Path) -> Sequence[Path]:
    """Disks A and B; a guest that was saved goes on with its own."""
    if (saved := hosts[0].qemu.saved) is not None:
        return [saved / "disk.img"] * 2
    if (disk := cell.guest.disk) is not None:
        return [own_disk.overlay(disk, cache)] * 2
    program = program_of(cell.guest.kind, hosts[0].firmware, cell.arch)
    disks = [program.disk(label, cache, cell.arch, hosts[0].firmware)
             for label in (FIRST_DISK, SECOND_DISK)]
    return [qcow2.converted(raw, cache) for raw in disks] if MODES[
        cell.migration].leaves_first else disks


def _memory_it_had(source: Host) -> str:
    """MiB of a guest that was saved, which are a part of its stream; "" of any other."""
    saved = source.qemu.saved
    return str(vault.unpacked(saved).memory_mib) if saved is not None else ""


def setup_of(cell: Cell, hosts: Sequence[Host], cache: Path) -> GuestSetup:
    """What the guest of a cell is made of; its disks are built first if ``cache`` lacks them."""
    steps = cell.scenario.steps
    image = flashed(steps)
    firmware = hosts[0].firmware
    program, own = program_of(cell.guest.kind, firmware, cell.arch), cell.own_machine
    return GuestSetup(
        hosts, cell.machine, cell.policy, _disks(cell, hosts, cache),
        cell.disk, cell.accel, cell.seconds,
        post_ms=post_ms(steps),
        flash=hosts[image].firmware if image is not None else None,
        guest=cell.guest, cpu=cell.cpu or (own.cpu if own else ""),
        smp=own.smp if own and cell.smp == 1 else cell.smp, nic=cell.nic,
        migration=cell.migration,
        kernel=program.kernel(cache, cell.arch) if program.kernel else None,
        debug_log=cell.debug_log, words=cell.words,
        memory=cell.memory or (own.memory if own else "") or _memory_it_had(hosts[0]),
        limits=cell.limits, tpm=cell.tpm,
        emulators=() if cell.tpm is Tpm.NONE else tuple(
            swtpm.beside(host.qemu, cache) for host in hosts),
    )  # fmt: skip
