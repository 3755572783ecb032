"""The UEFI probe guest on real firmware: what it says, counts, writes, and how it resets."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.boards import known_board
from bootmatrix.builds.image_store import ImageStore, cache_home
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine
from bootmatrix.engines.confinement import SHOWN
from bootmatrix.engines.scratch import Scratch
from bootmatrix.guests import uefi_disk
from bootmatrix.machines.qemu.command_line import Flash, FlashWindow, Kernel, Launch, qemu_argv
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import Accel, Arch, Disk, ResetBy
from bootmatrix.witnesses.probe_line import ProbeLine

SECONDS = 120.0
"""Patience: OVMF boots in 2 to 4 s on an idle machine."""


class Guest:
    """A running guest, and the line of the boot that it is in."""

    def __init__(self, vm: VM) -> None:
        self.vm = vm
        self.up = self._boot()

    def _boot(self) -> ProbeLine:
        seen = self.vm.console.wait_for_boot(self.vm.clock.deadline(SECONDS))
        assert seen.up is not None, self.vm.console.tail()
        return seen.up

    def tell(self, key: bytes, kind: str) -> ProbeLine:
        line = self.vm.console.tell(key, kind, self.vm.clock.deadline(SECONDS))
        assert line is not None, self.vm.console.tail()
        return line

    def here(self) -> ProbeLine:
        return self.tell(b"?", "here")

    def reset(self, key: bytes) -> ProbeLine:
        """Have it reset itself; the line that came before the reset."""
        line = self.tell(key, "reset")
        self.up = self._boot()
        return line


Launched = Callable[..., AbstractContextManager[VM]]
Boot = Callable[..., AbstractContextManager[Guest]]


@pytest.fixture
def launch(store: ImageStore, bubblewrap: Engine, tmp_path: Path) -> Launched:
    """Launch the probe on the firmware of a kind beside a build.

    ``variables`` of a guest before are taken over, ``disk`` is another than the unsigned one.
    """

    numbers = itertools.count(1)

    @contextlib.contextmanager
    def launch(
        beside: str, kind: str = "ovmf-4m", *, arch: Arch = Arch.X86_64,
        variables: Path | None = None, disk: Path | None = None, label: str = "",
    ) -> Iterator[VM]:  # fmt: skip
        build, firmware = store.qemu(beside), store.beside(beside, kind)
        scratch = Scratch(tmp_path / f"scratch-{next(numbers)}")
        cell = scratch.cell
        cell.copy_in(firmware.path, "code.fd")
        loaded: str | Flash = "/cell/code.fd"
        kernel = None
        if firmware.variables is not None:
            cell.copy_in(variables or firmware.variables, "vars.fd")
            loaded = (FlashWindow("/cell/code.fd", 0, firmware.size, read_only=True),
                      FlashWindow("/cell/vars.fd", 0, firmware.variables.stat().st_size))
        if firmware.payload is not None:
            cell.copy_in(firmware.payload, "payload.bin")
            kernel = Kernel("/cell/payload.bin")
        cell.copy_in(disk or uefi_disk("A", cache_home(), arch), "disk.img")
        machine = "q35" if arch is Arch.X86_64 else "virt"
        argv = qemu_argv(Launch(
            build.binary, machine, known_board(machine, arch), Accel.TCG, Disk.VIRTIO,
            "/cell/disk.img", loaded, f"{SHOWN}/qemu", memory_mib=256 if kernel else 128,
            label=label, smm=firmware.needs_smm, kernel=kernel,
        ))  # fmt: skip
        with scratch, scratch.sandbox(bubblewrap, build) as sandbox, VM(
            build.name, sandbox, argv, scratch, "qemu"
        ) as vm:
            vm.connect(Deadline.after(SECONDS))
            yield vm

    return launch


@pytest.fixture
def boot(launch: Launched) -> Boot:
    """``launch``, and the guest came up."""

    @contextlib.contextmanager
    def boot(*arguments: Any, **options: Any) -> Iterator[Guest]:
        with launch(*arguments, **options) as vm:
            yield Guest(vm)

    return boot


def says_what_it_finds(guest: Guest, suite: str) -> None:
    """At its first boot, on a host that is called destination 1."""
    up, here = guest.up, guest.here()
    assert (up.boot, up.disk, up.fw_cfg, up.features) == (1, "A", "QEMU", 3)
    assert up.host == "destination 1"
    assert up.bios_version is not None
    if suite == "bullseye":
        assert (up.bios_vendor, up.bios_version) == ("EFI Development Kit II / OVMF", "0.0.0")
        assert up.uefi == "EDK II"
    else:
        assert up.bios_vendor == up.uefi == "Debian distribution of EDK II"
        assert up.bios_version.startswith("202")
    assert up.revision == "00010000"
    assert (up.secure_boot, up.keys, up.value, up.entry) == ("0", "00000000", "", "")
    assert up.acpi not in (None, "00000000")
    assert here.beat is not None
    told = ("boot", "bios_vendor", "bios_version", "disk", "host", "acpi", "uefi", "revision",
            "keys", "value", "entry")  # fmt: skip
    assert [getattr(here, key) for key in told] == [getattr(up, key) for key in told]


@pytest.mark.thorough
def test_what_it_says_on_the_oldest_ovmf(boot: Boot) -> None:
    with boot("debian-bullseye", label="destination 1") as guest:
        says_what_it_finds(guest, "bullseye")


WAYS = {b"w": ResetBy.EFI_WARM, b"c": ResetBy.CF9, b"k": ResetBy.KEYBOARD,
        b"t": ResetBy.TRIPLE_FAULT, b"e": ResetBy.EFI_COLD}  # fmt: skip


@pytest.mark.parametrize("ways", [
    {b"e": ResetBy.EFI_COLD}, pytest.param(WAYS, marks=pytest.mark.thorough)],
    ids=["in one way", "in every way"])
def test_it_says_what_it_finds_counts_boots_resets_and_keeps_what_it_wrote(
    boot: Boot, tmp_path: Path, ways: dict[bytes, ResetBy]
) -> None:
    """After each reset, and in a new process: a guest with another label, which shuts down."""
    boots = 1 + len(ways)
    with boot("debian-sid", label="destination 1") as guest:
        says_what_it_finds(guest, "sid")
        written = guest.tell(b"v", "written")
        assert (written.value, written.result) == ("boot-1", "ok")
        here = guest.here()
        assert (here.value, here.entry) == ("boot-1", "bootmatrix boot-1")
        for count, (key, by) in enumerate(ways.items(), 2):
            assert guest.reset(key).by is by
            assert guest.up.boot == count
            assert (guest.up.value, guest.up.entry) == ("boot-1", "bootmatrix boot-1")
        assert guest.tell(b"v", "written").value == f"boot-{boots}"
    with boot("debian-sid", variables=tmp_path / "scratch-1" / "cell" / "vars.fd",
              disk=uefi_disk("other-1", cache_home())) as guest:
        assert guest.up.boot == boots + 1
        assert (guest.up.value, guest.up.entry) == (f"boot-{boots}", f"bootmatrix boot-{boots}")
        assert (guest.up.disk, guest.up.host) == ("other-1", "")
        deadline = Deadline.after(SECONDS)
        while (guest.here().beat or 0) < 3:
            deadline.check("the third beat")
        assert guest.vm.console.send(b"s")
        assert guest.vm.process.wait(guest.vm.clock.deadline(SECONDS)) == 0
        log = guest.vm.console.log
    printed = log.read_text(errors="replace")
    assert log.read_bytes().endswith(b"\r\nBOOTMATRIX shutdown\r\n")
    for beat in (1, 2, 3):
        assert printed.count(f"\nBOOTMATRIX beat boot={boots + 1} beat={beat}\n") == 1


@pytest.mark.slow
def test_secure_boot(boot: Boot, store: ImageStore, tmp_path: Path) -> None:
    signing = store.beside("debian-sid", "ovmf-4m-snakeoil").signing
    assert signing is not None
    signed = uefi_disk("A", tmp_path, signing=signing)
    with boot("debian-sid", "ovmf-4m-snakeoil", disk=signed) as guest:
        assert (guest.up.secure_boot, guest.up.setup_mode) == ("1", "0")
        assert guest.up.keys not in (None, "00000000")
        keys = guest.up.keys
        assert guest.tell(b"v", "written").result == "ok"
        guest.reset(b"e")
        assert (guest.up.boot, guest.up.value, guest.up.keys) == (2, "boot-1", keys)


def test_secure_boot_refuses_the_unsigned(launch: Launched) -> None:
    said = b""
    with launch("debian-sid", "ovmf-4m-snakeoil") as vm:
        console = vm.console.handed_over()
        console.settimeout(SECONDS)
        while b"Access Denied" not in said:
            more = console.recv(4096)
            assert more, said
            said += more
    assert b"BOOTMATRIX" not in said


@pytest.mark.thorough
def test_aarch64(boot: Boot) -> None:
    with boot("debian-sid-aarch64", "aavmf", arch=Arch.AARCH64, label="source") as guest:
        up = guest.up
        assert (up.boot, up.disk, up.fw_cfg, up.features, up.host) == (1, "A", "QEMU", 3, "source")
        assert up.uefi
        assert up.acpi not in (None, "00000000")
        assert guest.tell(b"v", "written").result == "ok"
        guest.reset(b"e")
        assert (guest.up.boot, guest.up.value) == (2, "boot-1")


@pytest.mark.parametrize(("suite", "fw_cfg"), [
    pytest.param("bullseye", "", marks=pytest.mark.slow), ("sid", "QEMU")])
@pytest.mark.thorough
def test_riscv64(boot: Boot, suite: str, fw_cfg: str) -> None:
    # QEMU 5.2 has no fw_cfg there; U-Boot keeps no variables.
    with boot(f"debian-{suite}-riscv64", "opensbi", arch=Arch.RISCV64) as guest:
        up = guest.up
        assert (up.boot, up.disk, up.fw_cfg, up.bios_vendor) == (1, "A", fw_cfg, "U-Boot")
        assert up.uefi == "Das U-Boot"
        assert (up.value, up.entry) == ("", "")
        if suite == "sid":
            assert guest.tell(b"v", "written").result == "ok"
            assert guest.here().value == "boot-1"
            guest.reset(b"e")
            assert (guest.up.boot, guest.up.value) == (1, "")
