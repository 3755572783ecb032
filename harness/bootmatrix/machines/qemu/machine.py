"""QEMU as a machine: a process with all that is done to it, and the hosts that launch them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Self

from bootmatrix.boards import host_label
from bootmatrix.builds.data_files import rom_bytes
from bootmatrix.deadline import Deadline, awake
from bootmatrix.engines import Engine, Process
from bootmatrix.engines.confinement import CELL, SHOWN, Priority, reprioritise
from bootmatrix.engines.scratch import Scratch
from bootmatrix.errors import DeadlineExceeded, MonitorError
from bootmatrix.firmware import symbols
from bootmatrix.machines.console import Console
from bootmatrix.machines.qemu import black_box, migration, tpm
from bootmatrix.machines.qemu.able_clock import AbleClock
from bootmatrix.machines.qemu.command_line import Flash, Launch, qemu_argv
from bootmatrix.machines.qemu.files import GuestFiles, Prepared
from bootmatrix.machines.qemu.migration.cpr_transfer import HANDOVER
from bootmatrix.machines.qemu.process import VM
from bootmatrix.machines.qemu.swap import FirmwareSwap
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Channel, FirmwareBuild, MigrationEnd, Nic, role_name
from bootmatrix.modes import MODES, Mode, Way
from bootmatrix.nvram import Nvram
from bootmatrix.policies.base import Swap
from bootmatrix.witnesses import stopped
from bootmatrix.witnesses.observation import BlackBox
from bootmatrix.witnesses.refusal import Refusal

# What is the harness's own to do at a stub, and takes milliseconds.
_STUB_SECONDS = 60.0
# The size of a ROM block has been a property of its device since then (QEMU's hw/pci/pci.c).
_ROMSIZE_SINCE = (6, 0)
# Where no ROM file of a host is found: most ipxe-qemu packages' fit into it.
_ROM_BLOCK = 256 << 10


class QemuMachine:
    """A QEMU process of a guest; ``vm`` is its monitor, its console and its end."""

    def __init__(
        self, vm: VM, host: int, prepared: Prepared, hosts: QemuHosts, *, late: bool = False
    ) -> None:
        self.vm = vm
        self.host = host
        self.nvram = prepared.nvram
        self._image = prepared.image  # image(P): the host's firmware file at the launch
        self._hosts = hosts
        self._late = late  # it connects once a migration to it has begun
        self._swap: FirmwareSwap | None = None
        self._swaps = 0  # the swap's count then
        self._begun: migration.BegunMigration | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """Of the process: its number and its role."""
        return self.vm.name

    @property
    def console(self) -> Console:
        """The serial console. QEMU must have connected."""
        return self.vm.console

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.vm.alive

    @property
    def clock(self) -> AbleClock:
        """The time in which the process was able to run; the wall's, before it is known."""
        return AbleClock(0, awake()) if self._late else self.vm.clock

    def resets(self, deadline: Deadline) -> int:
        """By its events; a QEMU that has gone has sent them all."""
        if not deadline.expired:
            with contextlib.suppress(MonitorError, DeadlineExceeded):
                # An answer comes behind all events before it.
                self.vm.monitor.execute("query-status", deadline=deadline)
        return self.vm.resets

    @property
    def stub_is_free(self) -> bool:
        """Whether nobody holds the one gdb stub."""
        return self._swap is None

    def start(self, deadline: Deadline) -> None:
        """It runs since its launch: take its connections, if it makes any by itself."""
        if not self._late:
            self.vm.connect(deadline)
            self._connected()

    def _connected(self) -> None:
        if self._hosts.setup.urgent:
            reprioritise(self.vm.pid, Priority.HIGH)
        if self._hosts.setup.share:
            self.vm.slow_down(self._hosts.setup.share)

    def outlives(self, deadline: Deadline) -> bool:
        """Whether the process still runs at the deadline."""
        return self.vm.outlives(deadline)

    def last_words(self) -> str:
        """The end of its log."""
        return self.vm.log_tail()

    def stopped(self) -> str | None:
        """By its run state; why is in its log."""
        return stopped.words(self.vm.log_tail()) if self.vm.stopped else None

    def exit_status(self, deadline: Deadline) -> int:
        """Of the process."""
        return self.vm.process.wait(deadline)

    def booted(self) -> Refusal | None:
        """A boot is over, and a swap before it has fitted or not."""
        self.vm.resets_before = self.vm.monitor.resets
        self.check()
        self._swaps = self._swap.swaps if self._swap else 0
        misfit = self._swap.misfit if self._swap else None
        return Refusal("rom-size", misfit) if misfit else None

    def check(self) -> None:
        """Raise HarnessError if a swap has failed."""
        if self._swap is not None:
            self._swap.check()

    def close(self) -> None:
        """End the process, and let go of its nvram."""
        self.vm.close()
        if self.nvram is not None:
            self.nvram.close()

    # -- abilities -------------------------------------------------------------------------------

    def off(self, deadline: Deadline) -> None:
        """End the process."""
        self.vm.quit(deadline)

    def reset(self, deadline: Deadline) -> bool:
        """By the monitor."""
        return self.vm.reset(deadline)

    def reset_by(self, keys: bytes, deadline: Deadline) -> bool:
        """By the guest; the CPU is stopped at the reset vector."""
        swap = self._stopping()
        done = swap.reset_by(lambda: self.console.send(keys), self.console, deadline)
        swap.check()
        return done

    def suspend_by(self, keys: bytes, deadline: Deadline) -> None:
        """By the guest."""
        monitor = self.vm.monitor
        before = monitor.mark()
        self.console.send(keys)
        monitor.wait("SUSPEND", since=before, deadline=deadline)

    def wake(self, deadline: Deadline) -> None:
        """By the monitor."""
        monitor = self.vm.monitor
        before = monitor.mark()
        monitor.execute("system_wakeup", deadline=deadline)
        monitor.wait("WAKEUP", since=before, deadline=deadline)

    def pause(self, deadline: Deadline) -> None:
        """By the monitor."""
        self.vm.monitor.execute("stop", deadline=deadline)

    def go_on(self, deadline: Deadline) -> None:
        """By the monitor."""
        self.vm.monitor.execute("cont", deadline=deadline)

    def migrate(
        self, target: QemuMachine, channel: Channel, deadline: Deadline,
        capabilities: Sequence[str] = (),
        parameters: Mapping[str, str | int] = MappingProxyType({}), *, recovers: bool = False,
    ) -> Refusal | None:
        """Out of this QEMU into another."""
        begun, self._begun = self._begun, None
        if begun is not None:
            return begun.finish(deadline).refusal
        mode = self._mode.with_more(capabilities, parameters, recovers=recovers)
        refusal = migration.migrate(self.vm, target.vm, mode, channel, deadline).refusal
        if target._late and refusal is None:
            target._late = False
            target._connected()
            target.arm()
        return refusal

    def begin_to_migrate(self, target: QemuMachine, deadline: Deadline) -> None:
        """Its stream is held back."""
        self._begun = migration.begin(self.vm, target.vm, self._mode, deadline)

    @property
    def leaves_first(self) -> bool:
        """Where it goes by its disk."""
        return self._mode.leaves_first

    def leave(self, deadline: Deadline) -> Refusal | None:
        """Into its disk."""
        return migration.snapshot.save(self.vm, deadline).refusal

    def arrive(self, deadline: Deadline) -> Refusal | None:
        """Out of its disk."""
        return migration.snapshot.load(self.vm, deadline).refusal

    def fail_to_migrate(
        self, target: QemuMachine, by: MigrationEnd, cut_at: int, deadline: Deadline
    ) -> str:
        """Its stream is held back, cut or changed, or so slow that it cannot have arrived."""
        return migration.fail(self.vm, target.vm, self._mode, by, cut_at, deadline)

    @property
    def _mode(self) -> Mode:
        return MODES[self._hosts.setup.migration]

    def save(self, file: Path, deadline: Deadline) -> Refusal | None:
        """Its migration stream into a file."""
        return migration.save(self.vm, file, deadline).refusal

    def restore(self, file: Path, deadline: Deadline) -> Refusal | None:
        """A migration stream out of a file."""
        return migration.restore(self.vm, file, deadline).refusal

    def rom_digest(self, deadline: Deadline) -> str | None:
        """Of the ROM, as the guest's CPU sees it."""
        size = self._hosts.rom_size
        address = self._hosts.setup.board.rom_address(size)
        return None if address is None else self.vm.rom_digest(address, size, deadline)

    def explain(self, since: float) -> BlackBox:
        """By its monitor, if that answers."""
        setup = self._hosts.setup
        firmware = [host.firmware for host in setup.hosts]
        return black_box.explain(
            self.vm, setup.arch, since, lambda address: symbols.naming(firmware, address))

    def arm(self) -> None:
        """Have the policy's firmware written at its resets, if the policy wants any.

        One that has not connected yet is armed as soon as it has.
        """
        if self._late:
            return
        files, swap = self._hosts.files, self._hosts.setup.mechanism.swap
        provide = {
            Swap.NOTHING: None,
            # A process that started by itself already runs what it read at its launch.
            Swap.LAUNCHED: lambda: self._image,
            Swap.FILE: lambda: files.code(self.host),
            Swap.STAGED: files.take_staged if files.staged else None,
        }[swap]
        if provide is not None:
            self._stopping().provide = provide

    @property
    def swapped(self) -> bool:
        """By the swap's own count."""
        return self._swap is not None and self._swap.swaps > self._swaps

    def _stopping(self) -> FirmwareSwap:
        """Make it stop at its resets. It must be connected."""
        if self._swap is None:
            self._swap = self._hosts.swap_of(self.vm)
        return self._swap


class QemuHosts:
    """The hosts of one guest, in the scratch directory ``directory``; QEMUs run there."""

    machine = QemuMachine

    def __init__(
        self,
        engine: Engine,
        setup: GuestSetup,
        directory: Path,
        processes: list[dict[str, object]] | None = None,
    ) -> None:
        self.setup = setup
        self.processes = [] if processes is None else processes
        self.rom_size = 0
        self._memory = ""
        self._with_tpm = ""  # the name of the QEMU whose TPM is the guest's
        self._engine = engine
        self._stack = contextlib.ExitStack()
        self._launched: list[Process] = []
        self._emulators: list[tpm.Emulator] = []
        self.scratch = self._stack.enter_context(Scratch(directory))
        try:
            self.files = GuestFiles(setup, self.scratch)
        except BaseException:
            self._stack.close()
            raise
        self._stack.callback(self.files.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every QEMU of this guest."""
        self._stack.close()

    def check_engine(self) -> None:
        """Raise EngineError if the engine has lost a QEMU, whose end was then not its own.

        And TpmLost if the TPM beside one has ended before it.
        """
        for process in self._launched:
            process.poll()
        for emulator in self._emulators:
            emulator.check()

    @property
    def nvram(self) -> Nvram | None:
        """The guest's nvram file, where it runs or has run last."""
        return self.files.nvram

    def arrived(self, machine: QemuMachine) -> bool | None:
        """QEMU has written the flash that came in to the destination's file when the guest ran."""
        self._with_tpm = machine.name
        return self.files.arrived(machine.nvram, alive=machine.alive)

    def install(self, host: int, firmware: FirmwareBuild) -> None:
        """As package managers do: a new file, renamed over."""
        self.files.install(host, firmware)

    def replace_disk(self) -> None:
        """Rename its file away, and put another in its place."""
        self.files.replace_disk()

    def keep(self, host: int, directory: Path) -> None:
        """Its variables, its flash, its nvram."""
        self.files.keep(host, directory)

    def take_up(self, host: int, directory: Path) -> None:
        """Those, and the size of its firmware."""
        self.rom_size = self.files.take_up(host, directory)

    def launch(self, host: int, *, incoming: bool) -> QemuMachine:
        """A new QEMU on a host, which has not connected yet. ``incoming``: to receive the guest."""
        setup = self.setup
        build = setup.hosts[host].qemu
        role = role_name(host)
        prepared = self.files.prepare(host, incoming=incoming)
        if not incoming:
            self.rom_size = prepared.rom_size
        name = f"{len(self.processes) + 1}-{role}"
        mode = MODES[setup.migration]
        if not incoming:
            self._memory = f"{CELL}/{name}.memory"  # no QEMU finds what an earlier start has left
        argv = qemu_argv(launch_of(setup, self.files, host, name, prepared.firmware,
                                   incoming=incoming, memory_file=self._memory))
        row: dict[str, object] = {"role": role, "version": build.version, "argv": list(argv)}
        self.processes.append(row)
        sandbox = self._stack.enter_context(
            self.scratch.sandbox(
                self._engine, build, grants=setup.grants(host), keep=setup.catalogued,
                limits=setup.limits,
            )
        )
        emulator = None
        if setup.emulators:
            row["tpm"] = dict(setup.emulators[host].packages)
            emulator = self._start_tpm(host, name, incoming=incoming)
        vm = self._stack.enter_context(VM(
            name, sandbox, argv, self.scratch, name,
            setup.guest, launched=not (incoming and mode.in_place)))
        self._launched.append(vm.process)
        if emulator is not None:
            emulator.goes_on = vm.goes_on
            self._stack.callback(emulator.look)  # before its QEMU is ended
        self._stack.callback(lambda: row.update(vm.notes()))
        return QemuMachine(vm, host, prepared, self, late=incoming and mode.answers_late)

    def _start_tpm(self, host: int, name: str, *, incoming: bool) -> tpm.Emulator:
        """The TPM of a QEMU called so, which is to be launched. One that comes in is none yet."""
        build = self.setup.emulators[host]
        sandbox = self._stack.enter_context(self.scratch.sandbox(
            self._engine, build, keep=self.setup.catalogued, limits=self.setup.limits))
        emulator = tpm.start(build.binary, sandbox, self.scratch, name, role_name(host),
                             "" if incoming else self._with_tpm)
        self._emulators.append(emulator)
        self._stack.callback(emulator.close)
        if not incoming:
            self._with_tpm = name
        return emulator

    def swap_of(self, vm: VM) -> FirmwareSwap:
        """The swap of a QEMU that is connected, as long as these hosts are open."""
        swap = FirmwareSwap(vm, self.rom_size, self.setup.board, vm.clock.deadline(_STUB_SECONDS))
        self._stack.callback(swap.close)
        return swap


def launch_of(
    setup: GuestSetup, files: GuestFiles, host: int, name: str, firmware: str | Flash, *,
    incoming: bool, memory_file: str = "",
) -> Launch:
    """How a QEMU of a guest is started on a host; ``name`` is the process's.

    ``memory_file`` is where the guest's memory lies, if that is a file.
    """
    build, mode = setup.hosts[host].qemu, MODES[setup.migration]
    return Launch(
        binary=build.binary,
        machine=setup.machine,
        board=setup.board,
        accel=setup.accel.on(host),
        disk=setup.disk,
        disk_file=files.disk_inside,
        firmware=firmware,
        directory=f"{SHOWN}/{name}",
        incoming=incoming,
        post_ms=setup.post_ms,
        memory_mib=setup.memory_mib,
        arguments=build.arguments,
        label=host_label(host, build),
        flash_file=files.flash_inside(host),
        cpu=setup.cpu,
        smp=setup.smp,
        nic=setup.nic,
        rom_size=rom_block_size(setup, host),
        smm=setup.hosts[host].firmware.needs_smm,
        kernel=files.kernel(host),
        debug_log=setup.debug_log and setup.board.debug_port and build.debug_port,
        memory=setup.memory_argument,
        words=setup.words_on(host),
        network=setup.guest.is_linux,
        base=files.base(host),
        has_console=setup.own is not None and setup.own.has_console,
        mode=mode,
        memory_file=memory_file or f"{CELL}/{name}.memory",
        handover=f"{CELL}/{name}/{HANDOVER}" if mode.way is Way.CPR_TRANSFER else "",
        disk_format=setup.disk_format,
        credentials=files.credentials_inside(host),
        tpm=setup.tpm,
        tpm_socket=tpm.socket(name),
    )


def rom_block_size(setup: GuestSetup, host: int) -> int:
    """The size for the network card's ROM block, in bytes; 0 leaves it to QEMU.

    It is the same for all hosts: that of the largest ROM file of theirs, rounded up as QEMU does.
    """
    if setup.nic not in (Nic.VIRTIO_ROMSIZE, Nic.E1000_ROMSIZE):
        return 0
    version = tuple(map(int, setup.hosts[host].qemu.version.split(".")[:2]))
    if version < _ROMSIZE_SINCE:
        return 0
    rom = "efi-virtio.rom" if setup.nic is Nic.VIRTIO_ROMSIZE else "efi-e1000.rom"
    largest = max(rom_bytes(each.qemu, rom) for each in setup.hosts) or _ROM_BLOCK
    return 1 << (largest - 1).bit_length()
