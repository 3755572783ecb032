"""The nvram on real QEMUs: locks both ways, the guest's own writes, and migrations that fail."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine
from bootmatrix.engines.confinement import CELL, SHOWN
from bootmatrix.engines.scratch import Scratch
from bootmatrix.errors import NvramError, QemuError
from bootmatrix.lab import Lab, LabGuest
from bootmatrix.machines.qemu import migration
from bootmatrix.machines.qemu.machine import QemuMachine
from bootmatrix.machines.qemu.process import VM, Qemu
from bootmatrix.machines.qemu.qtest import Qtest
from bootmatrix.nvram import ChangedBy, Nvram, Part, inspect
from bootmatrix.nvram.store import arrival
from bootmatrix.run.guest import Guest

BUILDS = ("debian-bullseye", "debian-bookworm", "debian-trixie", "debian-sid")
OLD, NEW = "debian-bullseye", "debian-sid"
MACHINE = "pc-i440fx-5.2"
SECONDS = 30.0
VARIABLES = b"\xff" * 0x20000
FOUR_GIB = 1 << 32
numbers = itertools.count(1)


def file_of(guest: LabGuest, role: str) -> Path:
    return guest.vm.scratch.cell.path / role / "nvram.bin"


def firmware_of(store: ImageStore, build: str) -> bytes:
    return store.firmware(store.qemu(build).firmware).path.read_bytes()


@contextmanager
def a_plain_qemu(
    engine: Engine, store: ImageStore, build: str, directory: Path, windows: list[tuple[int, int]]
) -> Iterator[Qtest]:
    """A QEMU that maps both windows of ``directory/nvram`` and waits: as a user may start it."""
    qemu, at = store.qemu(build), f"qemu-{next(numbers)}"
    # QEMU 5.2 does not let two raw nodes share a file node (docs/nvram.md).
    flash = [
        word
        for unit, (offset, size) in enumerate(windows)
        for word in (
            "-blockdev", f"driver=file,node-name=file{unit},filename={CELL}/nvram,"
                         f"locking={'off' if unit else 'auto'}",
            "-blockdev", f"driver=raw,node-name=flash{unit},file=file{unit},"
                         f"offset={offset},size={size}",
        )
    ]  # fmt: skip
    argv = (
        qemu.binary, "-nodefaults", "-no-user-config", "-display", "none", "-S",
        "-machine", f"{MACHINE},accel=tcg,pflash0=flash0,pflash1=flash1",
        *flash,
        "-chardev", f"socket,id=qtest,path={SHOWN}/{at}/qtest.sock,server=off",
        "-qtest", "chardev:qtest", "-qtest-log", "none",
    )  # fmt: skip
    deadline = Deadline.after(SECONDS)
    with (
        Scratch(directory.parent) as scratch,
        scratch.sandbox(engine, qemu) as sandbox,
        Qemu(build, sandbox, argv, scratch, at, ["qtest"]) as process,
        Qtest(process.connection("qtest", deadline), build, deadline) as qtest,
    ):
        try:
            qtest.inb(0x61)()  # it connects before it has opened its flash
        except Exception:
            raise process.ended() from None
        yield qtest


def program(qtest: Qtest, address: int, value: int) -> None:
    """Program one byte of flash as a guest does (CFI primary command set 0001h)."""
    for byte in (0x40, value, 0xFF):  # program, the byte, read again
        qtest.write(address, bytes([byte]))
    assert qtest.read(address, 1)() == bytes([value])


@pytest.fixture
def nvram(store: ImageStore, tmp_path: Path) -> Iterator[Nvram]:
    """An nvram with both windows in a directory that a sandbox can see."""
    (tmp_path / "cell").mkdir()
    with Nvram(tmp_path / "cell" / "nvram", role="the test") as nvram:
        nvram.initialise(firmware_of(store, NEW), qemu=store.qemu(NEW).version, variables=VARIABLES)
        nvram.path.chmod(0o666)
        yield nvram


def windows(nvram: Nvram) -> list[tuple[int, int]]:
    return [(window.offset, window.size) for window in nvram.header.windows]


# ---- one at a time -----------------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDS)
def test_a_qemu_is_refused_while_a_harness_has_it(
    bubblewrap: Engine, store: ImageStore, nvram: Nvram, build: str
) -> None:
    with (
        pytest.raises(QemuError) as caught,
        a_plain_qemu(bubblewrap, store, build, nvram.path.parent, windows(nvram)),
    ):
        pass
    assert 'Failed to get "write" lock' in caught.value.tail


@pytest.mark.parametrize("build", BUILDS)
def test_a_harness_is_refused_while_a_qemu_has_it(
    bubblewrap: Engine, store: ImageStore, nvram: Nvram, build: str
) -> None:
    nvram.close()
    before = nvram.path.read_bytes()
    with a_plain_qemu(bubblewrap, store, build, nvram.path.parent, windows_of(nvram.path)):
        with pytest.raises(NvramError, match=r"in use by .*qemu-system-x86, pid \d+"):
            Nvram(nvram.path)
        assert nvram.path.read_bytes() == before
    Nvram(nvram.path).close()


def windows_of(path: Path) -> list[tuple[int, int]]:
    return [(window.offset, window.size) for window in inspect(path).header.windows]


def test_a_running_guests_nvram_is_its_harnesss(lab: Lab, store: ImageStore) -> None:
    guest = lab.guest(NEW, machine=MACHINE, policy="guest-owned")
    guest.start()
    path = file_of(guest, "source")
    with pytest.raises(NvramError, match=rf"in use by harness, pid {os.getpid()} on "):
        Nvram(path)
    lent = inspect(path).header.lent
    assert lent is not None
    assert (lent.qemu, lent.role) == (store.qemu(NEW).version, "source")


def test_when_the_harness_is_killed_the_next_one_takes_it_up(
    store: ImageStore, tmp_path: Path
) -> None:
    script = tmp_path / "guest.py"
    script.write_text(textwrap.dedent(f"""
        import pathlib, signal, sys
        from bootmatrix.builds.host import Builds
        from bootmatrix.engines import choose
        from bootmatrix.builds.image_store import ImageStore
        from bootmatrix.lab import Lab
        with choose("bubblewrap") as engine, Builds(ImageStore()) as builds:
            with Lab(builds, engine, pathlib.Path({str(tmp_path / "lab")!r})) as lab:
                guest = lab.guest({NEW!r}, machine={MACHINE!r}, policy="guest-owned")
                guest.start()
                print(guest.vm.scratch.cell.path / "source" / "nvram.bin", flush=True)
                signal.pause()
    """))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        path = Path(harness.stdout.readline().strip())
        with pytest.raises(NvramError, match=rf"in use by harness, pid {harness.pid} on "):
            Nvram(path)
        harness.send_signal(signal.SIGKILL)
    deadline = Deadline.after(SECONDS)
    while True:
        try:
            taken_up = Nvram(path)
            break
        except NvramError:  # its QEMU gets the news from the kernel, and ends a moment later
            deadline.check("the end of the killed harness's QEMU")
    with taken_up as nvram:
        assert nvram.read() == firmware_of(store, NEW)
        assert nvram.header.lent is None
        assert nvram.header.changed.by is ChangedBy.HARNESS


# ---- both windows, and the guest's own writes --------------------------------------------------


@pytest.mark.parametrize("build", BUILDS)
def test_what_the_guest_writes_is_the_guests(
    bubblewrap: Engine, store: ImageStore, nvram: Nvram, build: str
) -> None:
    firmware, variables = nvram.contents()[Part.FIRMWARE], nvram.header.windows[1]
    nvram.lend(store.qemu(build).version, "source")
    top = FOUR_GIB - len(firmware)
    with a_plain_qemu(bubblewrap, store, build, nvram.path.parent, windows(nvram)) as qtest:
        assert qtest.read(top, 4096)() == firmware[:4096], "unit 0 is the firmware window"
        with pytest.raises(NvramError, match="in use by"):
            nvram.settle()
        program(qtest, top - variables.size + 3, 0x5A)
        assert nvram.read(Part.VARIABLES)[3] == 0x5A, "unit 1 is the variables window"
    nvram.settle()
    assert nvram.header.changed.by is ChangedBy.HARNESS, "variables are there to be written"
    nvram.lend(store.qemu(build).version, "source")
    with a_plain_qemu(bubblewrap, store, build, nvram.path.parent, windows(nvram)) as qtest:
        # Power is lost in the middle of it: the process is killed when this block is left.
        at = next(at for at in range(len(firmware)) if firmware[at] & 0x0F)
        program(qtest, top + at, firmware[at] & 0xF0)
    nvram.settle()
    assert (nvram.header.changed.by, nvram.header.changed.blocks) == (ChangedBy.GUEST, 1)
    assert nvram.read() != firmware
    nvram.close()
    assert inspect(nvram.path).problems == ()


# ---- migrations that do not end well -----------------------------------------------------------


def no_trace_of_leaving(guest: LabGuest, store: ImageStore) -> None:
    """The guest lives where it was, and nothing is left where it did not get to."""
    source = file_of(guest, "source")
    assert inspect(source).header.moved is None
    assert guest.reset().firmware == store.qemu(OLD).firmware
    destination = source.parent.parent / "destination" / source.name
    assert not arrival(destination).exists()
    assert not destination.exists()
    guest.shutdown()
    assert guest.start(OLD).firmware == store.qemu(OLD).firmware


def test_a_refused_migration_leaves_the_source_unmarked(lab: Lab, store: ImageStore) -> None:
    guest = lab.guest(OLD, NEW, machine="default", policy="guest-owned")
    guest.start()
    assert guest.migrate(NEW).refusal is not None
    no_trace_of_leaving(guest, store)


def begin_migration(guest: Guest) -> tuple[VM, VM, Nvram]:
    """A migration that is under way and will not come to its end by itself."""
    deadline = Deadline.after(SECONDS)
    source = guest.able(QemuMachine).vm
    running = guest.launch(1, incoming=True)
    assert isinstance(running, QemuMachine)
    target = running.vm
    assert running.nvram is not None
    target.connect(deadline)
    events = {"capabilities": [{"capability": "events", "state": True}]}
    source.monitor.execute("migrate-set-capabilities", events, deadline=deadline)
    source.monitor.execute("migrate-set-parameters", {"max-bandwidth": 1000}, deadline=deadline)
    uri = f"unix:{target.inside}/migration.sock"
    target.monitor.execute("migrate-incoming", {"uri": uri}, deadline=deadline)
    source.monitor.execute("migrate", {"uri": uri}, deadline=deadline)
    source.monitor.wait("MIGRATION", deadline=deadline, status="active")
    return source, target, running.nvram


@pytest.mark.parametrize("how", ["the destination is killed", "cancelled"])
def test_a_migration_that_breaks_off(lab: Lab, store: ImageStore, how: str) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy="guest-owned")
    guest.start()
    source, target, room = begin_migration(guest._guest)
    deadline = Deadline.after(SECONDS)
    if how == "cancelled":
        source.monitor.execute("migrate_cancel", deadline=deadline)
        source.monitor.wait("MIGRATION", deadline=deadline, status="cancelled")
    else:
        target.process.kill()
        source.monitor.wait("MIGRATION", deadline=deadline, status="failed")
    target.close()
    room.close()
    no_trace_of_leaving(guest, store)
    assert guest.migrate(NEW).up, "and it can be tried again"


def test_the_destination_dies_before_the_guest_runs_there(
    lab: Lab, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stream has travelled, but QEMU writes the flash to the file only when the guest runs.
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy="guest-owned")
    guest.start()
    migrate = migration.migrate

    def migrate_and_die(source: VM, target: VM, *rest: Any) -> migration.Migration:
        # A destination whose source stood still does not start the guest either.
        source.monitor.execute("stop", deadline=Deadline.after(SECONDS))
        done = migrate(source, target, *rest)
        target.process.kill()
        return done

    with monkeypatch.context() as patched:
        patched.setattr(migration, "migrate", migrate_and_die)
        assert guest.migrate(NEW).observed.nvram_equal is False
    source = file_of(guest, "source")
    assert inspect(source).header.moved is None
    assert inspect(source).contents[Part.FIRMWARE] == firmware_of(store, OLD)
    guest._guest.running = None
    assert guest.start(OLD).firmware == store.qemu(OLD).firmware, "nothing is lost"


def test_the_source_is_killed_after_the_migration(
    lab: Lab, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy="guest-owned")
    guest.start()
    source = file_of(guest, "source")
    mine = inspect(source).contents

    def kill(vm: VM, deadline: Deadline) -> None:
        vm.process.kill()
        vm.close()

    with monkeypatch.context() as patched:
        patched.setattr(VM, "quit", kill)
        moved = guest.migrate(NEW)
    assert moved.observed.nvram_equal is True
    destination = file_of(guest, "destination")
    assert inspect(destination).contents == inspect(source).contents == mine
    with pytest.raises(NvramError, match=r"moved away to .*must not run twice"):
        Nvram(source)
    assert guest.reset().firmware == store.qemu(OLD).firmware
    guest.shutdown()
    assert guest.start(NEW).firmware == store.qemu(OLD).firmware
    assert guest.migrate(OLD).up, "and it can come back"
    with pytest.raises(NvramError, match="moved away"):
        Nvram(destination)


@pytest.mark.parametrize("machine", ["default", MACHINE])
def test_who_cleared_it(lab: Lab, store: ImageStore, machine: str) -> None:
    guest = lab.guest(OLD, NEW, machine=machine, policy="guest-owned-versioned")
    guest.start(OLD)
    number = inspect(file_of(guest, "source")).header.guest
    guest.shutdown()
    guest.start(NEW)
    header = inspect(file_of(guest, "destination")).header
    assert header.origin is not None
    assert header.guest == number
    assert header.origin.qemu == store.qemu(NEW if machine == "default" else OLD).version
    assert header.origin.policy == "guest-owned-versioned"
    assert header.origin.machine == machine
