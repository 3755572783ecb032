"""The Linux guest: how it is made, and what it says and does on real QEMUs."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from bootmatrix.boards import known_board
from bootmatrix.builds import catalogue, image_store
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine
from bootmatrix.engines.confinement import CELL, SHOWN
from bootmatrix.engines.scratch import Scratch
from bootmatrix.errors import ImageError, UserError
from bootmatrix.guests import LINUX_SOURCES, linux_disk, linux_kernel
from bootmatrix.guests.linux import COMMAND_LINE, DISK_SIZE
from bootmatrix.lab import Lab
from bootmatrix.machines.qemu.command_line import FlashWindow, Kernel, Launch, qemu_argv
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import Accel, Arch, Disk, ResetBy
from bootmatrix.witnesses.probe_line import ProbeLine

BUILDS = ("debian-bullseye", "debian-sid")
Q35, I440FX = "pc-q35-5.2", "pc-i440fx-5.2"
BIOS, UEFI = "seabios", "ovmf-4m"
SECONDS = 60.0
GUEST_SAYS = {
    b"c": ResetBy.CF9,
    b"k": ResetBy.KEYBOARD,
    b"t": ResetBy.TRIPLE_FAULT,
    b"a": ResetBy.ACPI,
    b"e": ResetBy.EFI_COLD,
    b"w": ResetBy.EFI_WARM,
}
Start = Callable[..., VM]


@pytest.fixture
def start(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Iterator[Start]:
    """Starts a guest; everything it has lies in the test's directory."""
    cache = image_store.cache_home()
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def start(
            build: str, firmware: str, *, machine: str = Q35, by_kernel: bool = False
        ) -> VM:
            qemu, code = store.qemu(build), store.beside(build, firmware)
            files = {"code": code.path, "disk": linux_disk("B", cache)}
            kernel = None
            if code.variables:
                files["vars"] = code.variables
            if by_kernel:
                linux = linux_kernel(cache)
                files |= {"kernel": linux.kernel, "initramfs": linux.initramfs}
                kernel = Kernel(f"{CELL}/kernel", f"{CELL}/initramfs", linux.command_line)
            scratch = stack.enter_context(Scratch(tmp_path / f"scratch-{next(numbers)}"))
            for name, path in files.items():
                scratch.cell.copy_in(path, name)
            flash = tuple(
                FlashWindow(f"{CELL}/{name}", 0, files[name].stat().st_size, name == "code")
                for name in ("code", "vars") if name in files
            )
            argv = qemu_argv(Launch(
                qemu.binary, machine, known_board(machine, Arch.X86_64), Accel.TCG, Disk.VIRTIO,
                f"{CELL}/disk",
                flash if code.variables else f"{CELL}/code", f"{SHOWN}/qemu",
                memory_mib=256, label=f"a host with {build}", kernel=kernel,
            ))  # fmt: skip
            sandbox = stack.enter_context(scratch.sandbox(bubblewrap, qemu))
            vm = stack.enter_context(VM(build, sandbox, argv, scratch, "qemu"))
            vm.connect(Deadline.after(SECONDS))
            return vm

        yield start


def up(vm: VM) -> ProbeLine:
    line = vm.console.wait_for_boot(vm.clock.deadline(SECONDS)).up
    assert line is not None, vm.console.tail()
    return line


def here(vm: VM) -> ProbeLine:
    line = vm.console.ask(vm.clock.deadline(SECONDS))
    assert line is not None, vm.console.tail()
    return line


# ---- on real QEMUs -------------------------------------------------------------------------------


# SeaBIOS 1.14.0 does not come back from a reset of q35 at all.
@pytest.mark.parametrize(
    ("build", "firmware", "machine", "by_kernel", "resets"),
    [
        pytest.param("debian-bullseye", BIOS, I440FX, True, True, marks=pytest.mark.slow),
        ("debian-sid", BIOS, Q35, False, False),
        pytest.param("debian-sid", UEFI, I440FX, False, True, marks=pytest.mark.slow),
    ],
    ids=["bios-by-kernel", "bios-by-disk", "uefi-by-disk"],
)  # fmt: skip
def test_it_says_what_linux_finds_resets_wakes_up_as_what_it_was_and_shuts_down(
    start: Start, store: ImageStore, build: str, firmware: str, machine: str, by_kernel: bool,
    resets: bool,
) -> None:  # fmt: skip
    """Each reset is another kernel, each suspend the same one."""
    vm = start(build, firmware, machine=machine, by_kernel=by_kernel)
    line = up(vm)
    assert line.boot == 1
    assert line.disk == ("" if by_kernel else "B")
    assert (line.fw_cfg, line.features) == ("QEMU", 3)
    assert line.host == f"a host with {build}"
    assert line.acpi not in (None, "00000000")
    assert line.kernel is not None
    assert line.kernel.endswith("cloud-amd64")
    assert line.uptime is not None
    if firmware == BIOS:
        assert line.bios_vendor == "SeaBIOS"
        assert line.bios_version == store.beside(build, BIOS).prints
        assert line.uefi is None
    else:
        assert (line.uefi, line.revision) == ("Debian distribution of EDK II", "00010000")
        # Without Secure Boot in it, this firmware has no variable SetupMode either.
        assert (line.secure_boot, line.setup_mode, line.keys) == ("0", "0", "00000000")
        assert (line.value, line.entry) == ("", "")
    if firmware == BIOS:
        vm.console.send(b"ewvxq")  # commands of UEFI's, which are ignored without it
    later = here(vm)
    assert (later.token, later.acpi, later.boot) == (line.token, line.acpi, 1)
    if resets:
        line = other_kernels(vm, line.token, firmware)
    wakes_up_and_shuts_down(vm, line, firmware, machine)


def wakes_up_and_shuts_down(vm: VM, line: ProbeLine, firmware: str, machine: str) -> None:
    # SeaBIOS up to 1.17.0 does not set up q35's power management again when it wakes up: its
    # registers are gone, and with them a second suspend and the way to shut down.
    woken_well = (firmware, machine) != (BIOS, Q35)
    for _ in range(2 if woken_well else 1):
        mark, deadline = vm.monitor.mark(), vm.clock.deadline(SECONDS)
        vm.console.send(b"z")
        vm.monitor.wait("SUSPEND", since=mark, deadline=deadline)
        vm.monitor.execute("system_wakeup", deadline=deadline)
        vm.monitor.wait("WAKEUP", since=mark, deadline=deadline)
        woken = here(vm)
        assert (woken.token, woken.boot, woken.acpi) == (line.token, line.boot, line.acpi)
        assert not vm.monitor.seen("RESET", since=mark)
    if not woken_well:
        return
    mark, deadline = vm.monitor.mark(), vm.clock.deadline(SECONDS)
    vm.console.send(b"s")
    vm.monitor.wait("SHUTDOWN", since=mark, deadline=deadline, reason="guest-shutdown")
    assert not vm.outlives(deadline)
    vm.close()
    assert "BOOTMATRIX shutdown\r\n" in vm.console.tail()


def other_kernels(vm: VM, token: str | None, firmware: str) -> ProbeLine:
    """Each way to reset it ends this kernel and begins another; the last one's line.

    What it wrote into UEFI's variables lives on.
    """
    # What a CPU or a chipset does is the same under each firmware. Of the kernel's own ways two;
    # cf9 and keyboard are cells of matrices/linux.yaml.
    ways = ({ResetBy.EFI_COLD, ResetBy.EFI_WARM} if firmware == UEFI
            else {ResetBy.ACPI, ResetBy.TRIPLE_FAULT})
    tokens = [token]
    if firmware == UEFI:  # that a store is filled is a cell of matrices/linux.yaml
        written = vm.console.tell(b"v", "written", vm.clock.deadline(SECONDS))
        assert written is not None
        assert (written.value, written.result) == ("boot-1", "ok")
    for key, by in GUEST_SAYS.items():
        if by not in ways:
            continue
        told = vm.console.tell(key, "reset", vm.clock.deadline(SECONDS))
        assert told is not None
        assert told.by is by
        line = up(vm)
        assert line.boot == len(tokens) + 1
        if firmware == UEFI:
            assert (line.value, line.entry) == ("boot-1", "bootmatrix boot-1")
        tokens.append(line.token)
    assert len(set(tokens)) == len(tokens) == len(ways) + 1
    return line


@pytest.mark.parametrize("resets", [
    False, pytest.param(True, marks=pytest.mark.thorough)], ids=["running", "and reset"])
def test_after_a_migration_it_is_the_same_and_finds_the_new_host(lab: Lab, resets: bool) -> None:
    old, new = BUILDS
    guest = lab.guest(
        old, new, machine=I440FX, guest="linux", disk="virtio", seconds=SECONDS, smp=2
    )
    begun = guest.start().observed.boot
    assert begun is not None
    assert begun.up is not None
    moved = guest.migrate(new).observed.answer
    assert moved is not None
    assert (moved.token, moved.boot, moved.acpi) == (begun.up.token, 1, begun.up.acpi)
    assert begun.up.host != moved.host
    assert moved.host is not None
    assert moved.host.endswith(new)
    if not resets:
        return
    again = guest.reset().observed.boot
    assert again is not None
    assert again.up is not None
    assert (again.up.boot, again.up.disk) == (2, "A")
    assert again.up.token != moved.token


# ---- how it is made ------------------------------------------------------------------------------


def test_the_kernel_and_the_disk_hold_what_they_say() -> None:
    cache = image_store.cache_home()
    linux = linux_kernel(cache)
    assert linux.kernel.read_bytes()[0x202:0x206] == b"HdrS"  # the kernel's boot protocol
    assert linux.initramfs.read_bytes()[:6] == b"070701"
    assert "bootmatrix.disk" not in linux.command_line
    disk = linux_disk("B", cache).read_bytes()
    assert len(disk) == DISK_SIZE
    assert disk[510:512] == b"\x55\xaa"
    assert f"append {COMMAND_LINE} bootmatrix.disk=B\n".encode() in disk
    assert f"options {COMMAND_LINE} bootmatrix.disk=B\n".encode() in disk
    assert linux_disk("A", cache) != linux_disk("B", cache)


@pytest.mark.thorough
def test_two_builders_make_the_same(tmp_path: Path) -> None:
    # The packages are unpacked already: what is below differs in nothing but who makes it.
    kernel = linux_kernel(image_store.cache_home()).kernel.parent
    caches = [tmp_path / "one", tmp_path / "other"]
    for cache in caches:
        cache.mkdir()
        (cache / kernel.name).symlink_to(kernel)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(linux_disk, "AAA", [caches[0], caches[0], caches[1]]))
    assert made[0] == made[1]
    assert made[0].read_bytes() == made[2].read_bytes()
    assert not [path for cache in caches for path in cache.glob(".*")]


def test_what_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = image_store.cache_home()
    with pytest.raises(ValueError, match="label"):
        linux_disk("a b", cache)
    with pytest.raises(ValueError, match="riscv64"):
        linux_kernel(cache, Arch.RISCV64)
    sources = tmp_path / "sources"
    shutil.copytree(LINUX_SOURCES, sources)
    (sources / "guest.c").write_text("int main(void) { return nowhere; }\n")
    with pytest.raises(ImageError) as caught:
        linux_kernel(cache, sources=sources)
    assert "nowhere" in caught.value.tail
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="mmdebstrap"):
        linux_kernel(tmp_path / "cache")


def test_the_archive_is_one_to_others_too(tmp_path: Path) -> None:
    linux = linux_kernel(image_store.cache_home())
    busybox = tmp_path / "busybox"
    busybox.write_bytes(linux.kernel.with_name("busybox").read_bytes())
    busybox.chmod(0o755)
    listed = subprocess.run(
        [busybox, "cpio", "-tv"], input=linux.initramfs.read_bytes(),
        capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    assert [row.split()[-1] for row in listed.splitlines()] == [
        "bin", "dev", "lib", "lib/modules", "proc", "sys", "init", "bin/busybox", "bin/guest",
        "lib/modules/efivarfs.ko", "lib/modules/qemu_fw_cfg.ko",
        *(f"lib/modules/{name}.ko" for name in (
            "virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_mmio",
            "virtio_pci_legacy_dev", "virtio_pci", "virtio_balloon", "failover", "net_failover",
            "virtio_net", "virtio_blk", "virtio-rng", "scsi_common", "scsi_mod", "sd_mod",
            "virtio_scsi", "libata", "ata_piix", "virtio_console")),
    ]  # fmt: skip
    assert "-rwxr-xr-x" in listed.splitlines()[6]


def test_a_mistake_in_a_kernels_entry_has_its_place(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.yaml"
    file.write_text("firmware: {}\nqemu: {}\nkernels:\n  debian-cloud:\n    suit: bookworm\n")
    with pytest.raises(UserError) as caught:
        catalogue.load(file)
    assert (caught.value.line, caught.value.column) == (5, 5)
    assert "accepted: suite, packages, architecture" in str(caught.value)
