"""One guest's life on real QEMUs: each step of a scenario, done and observed.

``Guest`` makes a stock QEMU follow a policy and says what it saw. What should have been seen
is none of its business: harness.policies knows that, and harness.verdict compares.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Self

from harness.cmdline import Launch, qemu_argv
from harness.deadline import Deadline
from harness.engines import Engine, Process
from harness.engines.confinement import CELL
from harness.errors import (
    DeadlineExceeded,
    HarnessError,
    MonitorError,
    QemuError,
    UserError,
)
from harness.firmware_swap import FirmwareSwap
from harness.guest_files import GuestFiles, GuestSetup
from harness.migration import migrate, restore, save
from harness.model import (
    Accel,
    Arch,
    Channel,
    FirmwareBuild,
    Interface,
    Nic,
    ResetBy,
    ShutdownBy,
    Step,
    StepKind,
    host_label,
    role_name,
)
from harness.nvram import Nvram
from harness.observation import BootObserved, StepObserved
from harness.policies import Swap
from harness.refusals import Refusal, classify
from harness.vm import LAST_WORDS_SECONDS, VM

__all__ = ["Guest", "GuestSetup", "run_steps"]

# Everything but a boot: launching, a monitor command, a migration of a 32 MiB guest. Each
# takes milliseconds; a rig that needs longer than this is broken.
RIG_SECONDS = 60.0
# A guest that survived a migration answers within a tick of its clock, 55 ms.
ANSWER_SECONDS = 5.0
# A guest that ends or suspends stops its devices first, one that fills its variable store erases
# flash block by block.
GUEST_SECONDS = 60.0

_STREAM = "stream"
_HOST_FILES = "host"

_DMA = 2  # fw_cfg's feature bit

# What our guests do when they are sent a character.
_RESET_KEYS = {
    ResetBy.CF9: b"c",
    ResetBy.KEYBOARD: b"k",
    ResetBy.TRIPLE_FAULT: b"t",
    ResetBy.ACPI: b"a",
    ResetBy.EFI_COLD: b"e",
    ResetBy.EFI_WARM: b"w",
}
_SHUTDOWN_KEY, _SUSPEND_KEY, _WRITE_KEY, _FILL_KEY = b"s", b"z", b"v", b"x"

# MiB that a guest needs: Linux, UEFI firmware, one with SMM's own memory, U-Boot, a boot sector.
_LINUX_MIB, _UEFI_MIB, _SMM_MIB, _U_BOOT_MIB, _SECTOR_MIB = 256, 128, 256, 256, 32
# The size of a ROM block has been a property of its device since then (QEMU's hw/pci/pci.c).
_ROMSIZE_SINCE = (6, 0)
# The files of all ipxe-qemu packages so far fit into it, and QEMU rounds them up to it.
_ROM_BLOCK = 256 << 10


@dataclass
class _Running:
    """A QEMU process of this guest and what belongs to it."""

    vm: VM
    host: int
    image: bytes  # image(P): the host's firmware file as this process was launched
    swap: FirmwareSwap | None = None
    nvram: Nvram | None = None


@dataclass
class Guest:
    """A guest on its hosts, in ``directory``, which the sandboxes see as /cell.

    Usable as a context manager; leaving it ends every QEMU. ``processes`` keeps one (role,
    version, argv) row for each QEMU that was launched.
    """

    engine: Engine
    setup: GuestSetup
    directory: Path
    processes: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._mechanism = self.setup.mechanism
        self._stack = contextlib.ExitStack()
        self._running: _Running | None = None
        self._incoming: _Running | None = None
        self._saved: Path | None = None
        self._launched: list[Process] = []
        self._counter: int | None = None
        self._rom_size = 0
        self._banners: tuple[str, ...] = ()
        self._files = GuestFiles(self.setup, self.directory)
        self._stack.callback(self._files.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every QEMU of this guest."""
        self._stack.close()

    def check_engine(self) -> None:
        """Raise EngineError if the engine has lost a QEMU, whose end was then not its own."""
        for process in self._launched:
            process.poll()

    @property
    def vm(self) -> VM:
        """The QEMU process in which the guest runs. Raises UserError if it does not run."""
        return self._process.vm

    @property
    def _process(self) -> _Running:
        if self._running is None:
            raise UserError("the guest does not run", hint="start it first")
        return self._running

    # -- the steps -------------------------------------------------------------------------

    def start(
        self, host: int, *, prepare: int | None = None, banner_only: bool = False
    ) -> StepObserved:
        """Boot in a new process on a host.

        ``prepare`` launches the destination of a migration at the same time. ``banner_only``
        returns as soon as the firmware has said its name, with the guest still in POST.
        """
        step = Step(StepKind.START, host=host)
        if self._running is not None:
            raise UserError("the guest runs already", hint="shut it down first")
        begun = time.monotonic()
        self._banners = ()
        try:
            running = self._launch(host, incoming=False)
            if prepare is not None:
                self._incoming = self._launch(prepare, incoming=True)
            running.vm.connect(Deadline.after(RIG_SECONDS))
        except QemuError as error:
            return self._refused(step, begun, classify(error.tail, error.status))
        self._running = running
        return self._begin_boot(step, begun) if banner_only else self._boot(step, begun)

    def reset(self, by: ResetBy = ResetBy.MONITOR, *, banner_only: bool = False) -> StepObserved:
        """Boot in the same process, asked for by the monitor or by the guest itself."""
        step = Step(StepKind.RESET, by=by)
        process = self._process
        begun = time.monotonic()
        self._banners = ()
        before = process.vm.monitor.mark()
        if by is ResetBy.MONITOR:
            try:
                process.vm.reset(Deadline.after(RIG_SECONDS))
            except MonitorError:
                if process.vm.outlives(Deadline.after(LAST_WORDS_SECONDS)):
                    raise
                # A QEMU that is no longer there is seen by _boot, with its last words.
        else:
            process.vm.console.send(_RESET_KEYS[by])
        watch = self._begin_boot if banner_only else self._boot
        return watch(step, begun, lambda: process.vm.monitor.seen("RESET", before))

    def migrate(
        self, host: int, channel: Channel = Channel.UNIX, *, during_post: bool = False
    ) -> StepObserved:
        """Move the running guest to another host, live. ``during_post``: it is still booting."""
        step = Step(StepKind.MIGRATE, host=host, channel=channel, during_post=during_post)
        source = None if self._saved else self._process
        begun = time.monotonic()
        deadline = Deadline.after(RIG_SECONDS)
        if self._incoming is not None and self._incoming.host == host:
            target, self._incoming = self._incoming, None
        else:
            target = self._launch(host, incoming=True)
        try:
            target.vm.connect(deadline)
        except QemuError as error:
            if target.nvram is not None:
                target.nvram.close()
            return self._refused(step, begun, classify(error.tail, error.status))
        self._arm(target)
        if source is not None:
            migration = migrate(source.vm, target.vm, channel, deadline)
        else:
            assert self._saved is not None
            migration = restore(target.vm, self._saved / _STREAM, deadline)
        if migration.refusal is not None:
            target.vm.close()
            if target.nvram is not None:
                target.nvram.close()
            return self._refused(step, begun, migration.refusal)
        if source is not None:
            source.vm.quit(deadline)
        self._running, self._saved = target, None
        if during_post:
            observed = self._boot(step, begun)
        else:
            here = target.vm.console.ask(Deadline.after(ANSWER_SECONDS))
            rom = self._rom(target.vm)
            observed = StepObserved(step, time.monotonic() - begun, host, rom=rom, here=here)
        nvram = self._files.nvram
        if nvram is None or target.nvram is None:
            return observed
        # QEMU has written the flash that came in to the destination's file when the guest ran.
        equal = target.nvram.same_windows_as(nvram)
        if equal or target.vm.alive:  # else it is lost there, and not here
            target.nvram.received_from(nvram)
            self._files.nvram = target.nvram
        return replace(observed, nvram_equal=equal)

    def save(self, directory: Path) -> StepObserved:
        """Keep the running guest in a new directory, for others to ``resume`` it from."""
        process = self._process
        begun = time.monotonic()
        deadline = Deadline.after(RIG_SECONDS)
        self._files.keep(process.host, directory / _HOST_FILES)
        saved = save(process.vm, directory / _STREAM, deadline)
        process.vm.quit(deadline)
        self._running = None
        return StepObserved(
            Step(StepKind.MIGRATE, channel=Channel.FILE), time.monotonic() - begun, process.host,
            refusal=saved.refusal,
        )  # fmt: skip

    def resume(self, directory: Path, host: int) -> None:
        """Be the guest that was kept in ``directory`` when it ran on ``host``; migrate it next."""
        self._rom_size = self._files.take_up(host, directory / _HOST_FILES)
        self._saved = directory

    def shutdown(self, by: ShutdownBy = ShutdownBy.MONITOR) -> StepObserved:
        """End the guest's process, as a user shuts a guest down, or the guest itself does."""
        step = Step(StepKind.SHUTDOWN, shutdown_by=by)
        process = self._process
        begun = time.monotonic()
        if by is ShutdownBy.GUEST:
            process.vm.console.send(_SHUTDOWN_KEY)
            if process.vm.outlives(Deadline.after(GUEST_SECONDS)):
                return StepObserved(
                    step, time.monotonic() - begun, process.host,
                    failed=f"the machine still runs {GUEST_SECONDS:.0f} s after the guest was "
                    "told to shut down",
                )  # fmt: skip
        process.vm.quit(Deadline.after(RIG_SECONDS))
        self._running = None
        return StepObserved(step, time.monotonic() - begun)

    def suspend(self) -> StepObserved:
        """Let the guest suspend itself to RAM, and wake it up again: no reset, no boot."""
        step = Step(StepKind.SUSPEND)
        process = self._process
        begun = time.monotonic()
        deadline = Deadline.after(GUEST_SECONDS)
        monitor = process.vm.monitor
        before = monitor.mark()
        process.vm.console.send(_SUSPEND_KEY)
        try:
            monitor.wait("SUSPEND", since=before, deadline=deadline)
            monitor.execute("system_wakeup", deadline=deadline)
            monitor.wait("WAKEUP", since=before, deadline=deadline)
        except DeadlineExceeded:
            return StepObserved(
                step, time.monotonic() - begun, process.host,
                failed=f"the guest did not suspend and wake within {GUEST_SECONDS:.0f} s",
            )  # fmt: skip
        here = process.vm.console.ask(Deadline.after(self.setup.seconds))
        if process.swap is not None:
            process.swap.check()
        return StepObserved(
            step, time.monotonic() - begun, process.host, rom=self._rom(process.vm), here=here
        )

    def write_variable(self) -> StepObserved:
        """Let the guest write its variable and its boot entry."""
        return self._told(Step(StepKind.WRITE_VARIABLE), _WRITE_KEY, "written")

    def fill_variables(self) -> StepObserved:
        """Let the guest write variables until the store is full."""
        return self._told(Step(StepKind.FILL_VARIABLES), _FILL_KEY, "filled")

    def _told(self, step: Step, key: bytes, kind: str) -> StepObserved:
        process = self._process
        begun = time.monotonic()
        told = process.vm.console.tell(key, kind, Deadline.after(GUEST_SECONDS))
        here = process.vm.console.ask(Deadline.after(ANSWER_SECONDS)) if told else None
        return StepObserved(
            step, time.monotonic() - begun, process.host, told=told, here=here,
            failed=None if told else "the guest fell silent",
        )  # fmt: skip

    def upgrade_host(self, host: int, firmware: FirmwareBuild) -> StepObserved:
        """Replace the firmware file on a host, as a package upgrade does."""
        begun = time.monotonic()
        self._files.install(host, firmware)
        return StepObserved(
            Step(StepKind.UPGRADE_HOST, host=host), time.monotonic() - begun, self._where()
        )

    def upgrade_nvram(self, firmware: FirmwareBuild) -> StepObserved:
        """Stage a firmware build for this guest: it runs from the next reset or start on."""
        begun = time.monotonic()
        nvram = self._files.nvram
        if nvram is None:
            raise UserError(
                f"policy {self.setup.policy}: this guest has no nvram to upgrade",
                hint="start it once, under guest-owned or guest-owned-versioned",
            )
        step = Step(StepKind.UPGRADE_NVRAM)
        if firmware.size != nvram.size:
            return self._refused(step, begun, Refusal(
                "rom-size",
                f"{firmware.name} has {firmware.size:#x} bytes, the nvram's "
                f"window {nvram.size:#x}",
            ))  # fmt: skip
        nvram.stage(firmware.path.read_bytes(), firmware.name)
        if self._running is not None:
            self._arm(self._running)
        return StepObserved(step, time.monotonic() - begun, self._where())

    def guest_flash(self) -> StepObserved:
        """Let the guest program its own flash with the image that it finds in fw_cfg.

        Where its firmware is no flash, that changes nothing. A guest that is cut off meanwhile
        leaves a half-written flash.
        """
        process, flash = self._process, self.setup.flash
        if flash is None:
            raise UserError("the guest has no image to flash", hint="set it up with one")
        step = Step(StepKind.GUEST_FLASH)
        begun = time.monotonic()
        flashed = 0

        def progress(at: int) -> None:
            nonlocal flashed
            flashed = at

        told = process.vm.console.flash(Deadline.after(RIG_SECONDS), progress)
        if told is None:
            if process.vm.outlives(Deadline.after(LAST_WORDS_SECONDS)):
                words = "the guest fell silent"
            else:
                words = process.vm.log_tail() or "QEMU ended without a word"
            return StepObserved(
                step, time.monotonic() - begun, process.host, flashed=flashed, cut_off=words
            )
        here = process.vm.console.ask(Deadline.after(ANSWER_SECONDS))
        if told.result == "misfit":
            return self._refused(step, begun, Refusal(
                "rom-size",
                f"{flash.name} has {flash.size:#x} bytes, the flash {self._rom_size:#x}",
            ))  # fmt: skip
        if told.result == "no-image":
            if here is not None and not (here.features or 0) & _DMA:
                return self._refused(step, begun, Refusal(
                    "missing-feature", "fw_cfg of this machine type has no DMA"
                ))  # fmt: skip
            raise HarnessError(f"{process.vm.name}: the guest does not find the image in fw_cfg")
        return StepObserved(
            step, time.monotonic() - begun, process.host,
            rom=self._rom(process.vm), here=here, flash=told,
        )  # fmt: skip

    def clear_nvram(self) -> StepObserved:
        """Empty the nvram of this guest, which must not run."""
        if self._running is not None:
            raise UserError("the nvram of a running guest cannot be cleared", hint="shut it down")
        if self._files.nvram is not None:
            self._files.nvram.clear()
        return StepObserved(Step(StepKind.CLEAR_NVRAM), 0.0)

    def replace_disk(self) -> StepObserved:
        """Rename the disk file away and put another in its place."""
        begun = time.monotonic()
        self._files.replace_disk()
        return StepObserved(
            Step(StepKind.REPLACE_DISK), time.monotonic() - begun, self._where()
        )

    # -- how they are done -----------------------------------------------------------------

    def _where(self) -> int | None:
        return self._running.host if self._running else None

    def _launch(self, host: int, *, incoming: bool) -> _Running:
        setup = self.setup
        build = setup.hosts[host].qemu
        role = role_name(host)
        prepared = self._files.prepare(host, incoming=incoming)
        if not incoming:
            self._rom_size = prepared.rom_size
        name = f"{len(self.processes) + 1}-{role}"
        directory = self.directory / name
        directory.mkdir()
        argv = qemu_argv(
            Launch(
                binary=build.binary,
                machine=setup.machine,
                accel=setup.accel,
                disk=setup.disk,
                disk_file=self._files.disk_inside,
                firmware=prepared.firmware,
                directory=f"{CELL}/{name}",
                incoming=incoming,
                long_post=setup.long_post,
                memory_mib=memory_mib(setup),
                arguments=build.arguments,
                label=host_label(host, build),
                flash_file=self._files.flash_inside,
                arch=setup.arch,
                cpu=setup.cpu,
                smp=setup.smp,
                nic=setup.nic,
                rom_size=rom_block_size(setup, host),
                smm=setup.hosts[host].firmware.needs_smm,
                kernel=self._files.kernel(host),
            )
        )
        self.processes.append({"role": role, "version": build.version, "argv": list(argv)})
        sandbox = self._stack.enter_context(
            self.engine.sandbox(build, self.directory, kvm=setup.accel is Accel.KVM)
        )
        vm = self._stack.enter_context(VM(name, sandbox, argv, directory, f"{CELL}/{name}"))
        self._launched.append(vm.process)
        return _Running(vm, host, prepared.image, nvram=prepared.nvram)

    def _arm(self, process: _Running) -> None:
        """Make the policy's firmware run at the resets of a process that is connected."""
        provide = {
            Swap.NOTHING: None,
            # A process that started by itself already runs what it read at its launch.
            Swap.LAUNCHED: lambda: process.image,
            Swap.FILE: lambda: self._files.code(process.host),
            Swap.STAGED: self._files.take_staged,
        }[self._mechanism.swap]
        if provide is None or process.swap is not None:
            return
        if self._mechanism.swap is Swap.STAGED and not self._files.staged:
            return
        process.swap = FirmwareSwap(
            process.vm, self._rom_size, provide, Deadline.after(RIG_SECONDS)
        )
        self._stack.callback(process.swap.close)

    def _begin_boot(
        self, step: Step, begun: float, was_reset: Callable[[], bool] | None = None
    ) -> StepObserved:
        """Watch a boot only until the firmware has said its name."""
        console = self._process.vm.console
        banner = console.wait_for_banner(Deadline.after(self.setup.seconds), was_reset)
        if banner is None:
            return self._boot(step, begun, was_reset)
        self._banners = (banner,)
        return StepObserved(step, time.monotonic() - begun, self._process.host)

    def _boot(
        self, step: Step, begun: float, was_reset: Callable[[], bool] | None = None
    ) -> StepObserved:
        process = self._process
        seen = process.vm.console.wait_for_boot(
            Deadline.after(self.setup.seconds), self._banners, was_reset, self._counter
        )
        self._counter = seen.up.boot if seen.up else None
        seconds = time.monotonic() - begun
        if process.swap is not None:
            process.swap.check()
            if process.swap.misfit:
                return self._refused(step, begun, Refusal("rom-size", process.swap.misfit))
        ended = None
        if seen.ended:
            status = process.vm.process.wait(Deadline.after(RIG_SECONDS))
            ended = process.vm.log_tail().rstrip() or "no last words"
            ended += f" (exit status {status})" if status else ""
        rom = None if seen.ended else self._rom(process.vm)
        if self._mechanism.swap is Swap.FILE:
            self._arm(process)  # its next reset reads the file again
        boot = BootObserved(
            process.host, seen.banners, seen.up, rom, seconds, self.setup.seconds, ended,
            # UEFI firmware has no banner: that it says anything shows that it runs.
            spoke=seen.spoke and self.setup.interface is Interface.UEFI,
        )
        return StepObserved(step, time.monotonic() - begun, process.host, boot=boot)

    def _rom(self, vm: VM) -> str | None:
        address = self.setup.board.rom_address(self._rom_size)
        if address is None:
            return None
        try:
            return vm.rom_digest(address, self._rom_size, Deadline.after(ANSWER_SECONDS))
        except (MonitorError, DeadlineExceeded):
            return None  # a QEMU that hangs or has gone cannot be asked; the console decides

    def _refused(self, step: Step, begun: float, refusal: Refusal) -> StepObserved:
        return StepObserved(step, time.monotonic() - begun, self._where(), refusal=refusal)


def memory_mib(setup: GuestSetup) -> int:
    """MiB of memory for a guest."""
    if setup.guest.is_linux:
        return _LINUX_MIB
    if any(host.firmware.needs_smm for host in setup.hosts):
        return _SMM_MIB
    if setup.arch is Arch.RISCV64:
        return _U_BOOT_MIB
    return _UEFI_MIB if setup.interface is Interface.UEFI else _SECTOR_MIB


def rom_block_size(setup: GuestSetup, host: int) -> int:
    """The size for the network card's ROM block, in bytes; 0 leaves it to QEMU."""
    if setup.nic not in (Nic.VIRTIO_ROMSIZE, Nic.E1000_ROMSIZE):
        return 0
    version = tuple(map(int, setup.hosts[host].qemu.version.split(".")[:2]))
    return _ROM_BLOCK if version >= _ROMSIZE_SINCE else 0


def run_steps(guest: Guest, steps: Sequence[Step], seen: list[StepObserved]) -> None:
    """Do the steps of a scenario, up to the first that is refused or leaves the guest down.

    A guest that no longer answers after a migration is down, too, and one that was cut off while
    it programmed its flash.

    What was seen is appended to ``seen`` as it comes, so that it survives an exception.
    """
    for step, following in zip_longest(steps, steps[1:]):
        observed = _run_step(guest, step, following)
        seen.append(observed)
        if observed.refusal or (observed.boot and observed.boot.up is None):
            return
        if step.kind is StepKind.MIGRATE and observed.boot is None and observed.here is None:
            return
        if observed.cut_off is not None or observed.failed is not None:
            return
        if step.kind is StepKind.SUSPEND and observed.here is None:
            return


def _run_step(guest: Guest, step: Step, following: Step | None) -> StepObserved:
    hosts = guest.setup.hosts
    # What begins with this step's boot and ends on another host is watched there.
    moves_on = following is not None and following.during_post
    if step.kind is StepKind.START:
        assert step.host is not None
        migrates = following is not None and following.kind is StepKind.MIGRATE
        return guest.start(
            step.host,
            prepare=following.host if migrates and following else None,
            banner_only=moves_on,
        )
    if step.kind is StepKind.RESET:
        return guest.reset(step.by, banner_only=moves_on)
    if step.kind is StepKind.MIGRATE:
        assert step.host is not None
        return guest.migrate(step.host, step.channel, during_post=step.during_post)
    if step.kind is StepKind.SHUTDOWN:
        return guest.shutdown(step.shutdown_by)
    if step.kind is StepKind.UPGRADE_HOST:
        assert step.host is not None
        assert step.firmware_of is not None
        return guest.upgrade_host(step.host, hosts[step.firmware_of].firmware)
    if step.kind is StepKind.UPGRADE_NVRAM:
        assert step.firmware_of is not None
        return guest.upgrade_nvram(hosts[step.firmware_of].firmware)
    if step.kind is StepKind.GUEST_FLASH:
        return guest.guest_flash()
    if step.kind is StepKind.CLEAR_NVRAM:
        return guest.clear_nvram()
    if step.kind is StepKind.WRITE_VARIABLE:
        return guest.write_variable()
    if step.kind is StepKind.FILL_VARIABLES:
        return guest.fill_variables()
    if step.kind is StepKind.SUSPEND:
        return guest.suspend()
    return guest.replace_disk()

