"""One guest's life on real QEMUs: each step of a scenario, done and observed.

``Guest`` makes a stock QEMU follow a policy and says what it saw. What should have been seen
is none of its business: harness.policies knows that, and harness.verdict compares.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Self

from harness.cmdline import FlashWindow, Launch, qemu_argv
from harness.deadline import Deadline
from harness.engines import Engine, Process
from harness.errors import (
    DeadlineExceeded,
    HarnessError,
    MonitorError,
    QemuError,
    UserError,
)
from harness.firmware_swap import FirmwareSwap
from harness.migration import migrate, restore, save
from harness.model import (
    Accel,
    Channel,
    Disk,
    FirmwareBuild,
    Host,
    Policy,
    ResetBy,
    Step,
    StepKind,
    host_label,
    role_name,
)
from harness.nvram import UNSYNCED, ChangedBy, Nvram
from harness.observation import BootObserved, StepObserved
from harness.policies import Swap, mechanism
from harness.refusals import Refusal, classify
from harness.vm import LAST_WORDS_SECONDS, VM

# Everything but a boot: launching, a monitor command, a migration of a 32 MiB guest. Each
# takes milliseconds; a rig that needs longer than this is broken.
RIG_SECONDS = 60.0
# A guest that survived a migration answers within a tick of its clock, 55 ms.
ANSWER_SECONDS = 5.0

_STREAM = "stream"
_HOST_FILES = "host"

_FLASH_FILE = "flash.bin"
_DMA = 2  # fw_cfg's feature bit

_KEYS = {ResetBy.CF9: b"c", ResetBy.KEYBOARD: b"k", ResetBy.TRIPLE_FAULT: b"t"}


@dataclass
class _Running:
    """A QEMU process of this guest and what belongs to it."""

    vm: VM
    host: int
    image: bytes  # image(P): the host's firmware file as this process was launched
    swap: FirmwareSwap | None = None
    nvram: Nvram | None = None


@dataclass
class GuestSetup:
    """What a guest is made of.

    ``seconds`` bounds each boot; ``disks`` are probe disks A and B. ``long_post`` makes the
    firmware wait for a key, so that there is time to migrate the guest during it. ``flash`` is
    what the guest finds in fw_cfg to program its flash with.
    """

    hosts: Sequence[Host]
    machine: str
    policy: Policy
    disks: Sequence[Path]
    disk: Disk = Disk.AHCI
    accel: Accel = Accel.TCG
    seconds: float = 5.0
    long_post: bool = False
    flash: FirmwareBuild | None = None


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
        self._mechanism = mechanism(self.setup.policy)
        self._stack = contextlib.ExitStack()
        self._running: _Running | None = None
        self._incoming: _Running | None = None
        self._saved: Path | None = None
        self._launched: list[Process] = []
        self._counter: int | None = None
        self._nvram: Nvram | None = None
        self._rom_size = 0
        self._banners: tuple[str, ...] = ()
        for index, host in enumerate(self.setup.hosts):
            self._host_dir(index).mkdir()
            self._install(index, host.firmware)
        if self.setup.flash is not None:
            shutil.copyfile(self.setup.flash.path, self.directory / _FLASH_FILE)
        self._disk = self.directory / "disk.img"
        self._install_disk(0)

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
            process.vm.console.send(_KEYS[by])
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
        if self._nvram is None or target.nvram is None:
            return observed
        # QEMU has written the flash that came in to the destination's file when the guest ran.
        equal = target.nvram.same_windows_as(self._nvram)
        if equal or target.vm.alive:  # else it is lost there, and not here
            target.nvram.received_from(self._nvram)
            self._nvram = target.nvram
        return replace(observed, nvram_equal=equal)

    def save(self, directory: Path) -> StepObserved:
        """Keep the running guest in a new directory, for others to ``resume`` it from."""
        process = self._process
        begun = time.monotonic()
        deadline = Deadline.after(RIG_SECONDS)
        shutil.copytree(self._host_dir(process.host), directory / _HOST_FILES)
        saved = save(process.vm, directory / _STREAM, deadline)
        process.vm.quit(deadline)
        self._running = None
        return StepObserved(
            Step(StepKind.MIGRATE, channel=Channel.FILE), time.monotonic() - begun, process.host,
            refusal=saved.refusal,
        )  # fmt: skip

    def resume(self, directory: Path, host: int) -> None:
        """Be the guest that was kept in ``directory`` when it ran on ``host``; migrate it next."""
        shutil.copytree(directory / _HOST_FILES, self._host_dir(host), dirs_exist_ok=True)
        self._saved = directory
        if self._mechanism.nvram:
            self._nvram = self._opened_nvram(host)
            self._rom_size = self._nvram.size
        else:
            self._rom_size = self._firmware_file(host).stat().st_size

    def shutdown(self) -> StepObserved:
        """End the guest's process, as a user shuts a guest down."""
        begun = time.monotonic()
        self._process.vm.quit(Deadline.after(RIG_SECONDS))
        self._running = None
        return StepObserved(Step(StepKind.SHUTDOWN), time.monotonic() - begun)

    def upgrade_host(self, host: int, firmware: FirmwareBuild) -> StepObserved:
        """Replace the firmware file on a host, as a package upgrade does."""
        begun = time.monotonic()
        self._install(host, firmware)
        return StepObserved(
            Step(StepKind.UPGRADE_HOST, host=host), time.monotonic() - begun, self._where()
        )

    def upgrade_nvram(self, firmware: FirmwareBuild) -> StepObserved:
        """Stage a firmware build for this guest: it runs from the next reset or start on."""
        begun = time.monotonic()
        if self._nvram is None:
            raise UserError(
                f"policy {self.setup.policy}: this guest has no nvram to upgrade",
                hint="start it once, under guest-owned or guest-owned-versioned",
            )
        step = Step(StepKind.UPGRADE_NVRAM)
        if firmware.size != self._nvram.size:
            return self._refused(step, begun, Refusal(
                "rom-size",
                f"{firmware.name} has {firmware.size:#x} bytes, the nvram's "
                f"window {self._nvram.size:#x}",
            ))  # fmt: skip
        self._nvram.stage(firmware.path.read_bytes(), firmware.name)
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
        if self._nvram is not None:
            self._nvram.clear()
        return StepObserved(Step(StepKind.CLEAR_NVRAM), 0.0)

    def replace_disk(self) -> StepObserved:
        """Rename the disk file away and put another in its place."""
        begun = time.monotonic()
        self._disk.rename(self.directory / "disk.old.img")
        self._install_disk(1)
        return StepObserved(
            Step(StepKind.REPLACE_DISK), time.monotonic() - begun, self._where()
        )

    # -- how they are done -----------------------------------------------------------------

    def _where(self) -> int | None:
        return self._running.host if self._running else None

    def _host_dir(self, host: int) -> Path:
        return self.directory / role_name(host)

    def _firmware_file(self, host: int) -> Path:
        return self._host_dir(host) / "bios.bin"

    def _install(self, host: int, firmware: FirmwareBuild) -> None:
        # As package managers do: a new file, renamed over the old one.
        target = self._firmware_file(host)
        shutil.copyfile(firmware.path, target.with_suffix(".new"))
        target.with_suffix(".new").replace(target)

    def _install_disk(self, which: int) -> None:
        shutil.copyfile(self.setup.disks[which], self._disk)

    def _launch(self, host: int, *, incoming: bool) -> _Running:
        setup = self.setup
        build = setup.hosts[host].qemu
        role = role_name(host)
        image = self._firmware_file(host).read_bytes()
        nvram = None
        if self._mechanism.nvram:
            nvram = self._nvram_for(host, image, incoming=incoming)
            size = nvram.size
            firmware: str | FlashWindow = FlashWindow(
                f"/cell/{role}/{nvram.path.name}", nvram.window.offset, size
            )
        else:
            size = len(image)
            firmware = f"/cell/{role}/{self._firmware_file(host).name}"
        if not incoming:
            self._rom_size = size
        name = f"{len(self.processes) + 1}-{role}"
        directory = self.directory / name
        directory.mkdir()
        argv = qemu_argv(
            Launch(
                binary=build.binary,
                machine=setup.machine,
                accel=setup.accel,
                disk=setup.disk,
                disk_file=f"/cell/{self._disk.name}",
                firmware=firmware,
                directory=f"/cell/{name}",
                incoming=incoming,
                long_post=setup.long_post,
                arguments=build.arguments,
                label=host_label(host, build),
                flash_file=f"/cell/{_FLASH_FILE}" if setup.flash else "",
            )
        )
        self.processes.append({"role": role, "version": build.version, "argv": list(argv)})
        sandbox = self._stack.enter_context(
            self.engine.sandbox(build, self.directory, kvm=setup.accel is Accel.KVM)
        )
        vm = self._stack.enter_context(VM(name, sandbox, argv, directory, f"/cell/{name}"))
        self._launched.append(vm.process)
        return _Running(vm, host, image, nvram=nvram)

    def _nvram_for(self, host: int, image: bytes, *, incoming: bool) -> Nvram:
        """The nvram that a process on ``host`` maps, made ready for it."""
        version, role = self.setup.hosts[host].qemu.version, role_name(host)
        if incoming:
            assert self._nvram is not None
            nvram = Nvram.expecting(
                self._nvram_file(host), self._nvram, qemu=version, role=role
            )
            self._stack.callback(nvram.close)
        else:
            nvram = self._nvram or self._opened_nvram(host)
            if nvram.path != self._nvram_file(host):
                nvram = nvram.move_to(self._nvram_file(host))
                self._stack.callback(nvram.close)
            moved_without_machine = self.setup.machine == "default" and (
                nvram.initialised and nvram.stamp != version
            )
            if self._mechanism.clears_on_move and moved_without_machine:
                nvram.clear(ChangedBy.HARNESS)
            if not nvram.initialised:
                nvram.initialise(
                    image, qemu=version, machine=self.setup.machine,
                    policy=self.setup.policy.value,
                )
            nvram.take_staged()
            nvram.lend(version, role)
            self._nvram = nvram
        return nvram

    def _nvram_file(self, host: int) -> Path:
        return self._host_dir(host) / "nvram.bin"

    def _opened_nvram(self, host: int) -> Nvram:
        # A cell's files do not outlive a loss of power.
        nvram = Nvram(self._nvram_file(host), system=UNSYNCED)
        self._stack.callback(nvram.close)
        return nvram

    def _arm(self, process: _Running) -> None:
        """Make the policy's firmware run at the resets of a process that is connected."""
        provide = {
            Swap.NOTHING: None,
            # A process that started by itself already runs what it read at its launch.
            Swap.LAUNCHED: lambda: process.image,
            Swap.FILE: lambda: self._firmware_file(process.host).read_bytes(),
            Swap.STAGED: lambda: self._nvram.take_staged() if self._nvram else None,
        }[self._mechanism.swap]
        if provide is None or process.swap is not None:
            return
        if self._mechanism.swap is Swap.STAGED and not (self._nvram and self._nvram.staged):
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
            process.host, seen.banners, seen.up, rom, seconds, self.setup.seconds, ended
        )
        return StepObserved(step, time.monotonic() - begun, process.host, boot=boot)

    def _rom(self, vm: VM) -> str | None:
        try:
            return vm.rom_digest(self._rom_size, Deadline.after(ANSWER_SECONDS))
        except (MonitorError, DeadlineExceeded):
            return None  # a QEMU that hangs or has gone cannot be asked; the console decides

    def _refused(self, step: Step, begun: float, refusal: Refusal) -> StepObserved:
        return StepObserved(step, time.monotonic() - begun, self._where(), refusal=refusal)


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
        if observed.cut_off is not None:
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
        return guest.shutdown()
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
    return guest.replace_disk()

