"""What this machine has and lacks for running cells: findings, each with how to mend it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from bootmatrix import engines, guests
from bootmatrix.builds import image_store
from bootmatrix.builds.host import Builds, damaged_own
from bootmatrix.builds.image_store import OWN_BUILDS, Damaged, ImageStore
from bootmatrix.cell import Cell
from bootmatrix.engines import Engine
from bootmatrix.engines.confinement import KVM, kvm_complaint
from bootmatrix.errors import DeadlineExceeded, HarnessError, QemuError, UserError, in_a_line
from bootmatrix.files.cell_files import temporary
from bootmatrix.machines.qemu.machine import QemuHosts
from bootmatrix.machines.setup import setup_of
from bootmatrix.model import (
    DEFAULT_MACHINE,
    Accel,
    Disk,
    FirmwareBuild,
    Host,
    HostSpec,
    Interface,
    QemuBuild,
    QemuSource,
)
from bootmatrix.policies import Policy
from bootmatrix.run.guest import Guest
from bootmatrix.run.steps import do_step
from bootmatrix.steps.library import LIBRARY
from bootmatrix.steps.start import Start
from bootmatrix.witnesses.refusal import classify

ROOT_BYTES = 200_000_000
"""About what an image takes in the cache."""
SPARE_BYTES = 500_000_000
"""Room for artifacts and for what is made while an image is built."""
BOOT_SECONDS = 15.0
UEFI_SECONDS = 120.0
UEFI = "ovmf-4m"
"""The firmware that is tried beside the build's own, and how long it may take."""
UNUSABLE = "cannot be used"
SLOW = 3.0
"""How many times longer than under TCG a boot may take under KVM, which should be quicker."""

PACKAGES = {
    "mmdebstrap": "mmdebstrap", "bwrap": "bubblewrap", "nasm": "nasm",
    # What UEFI and Linux guests are built with.
    "clang": "clang", "ld.lld": "lld", "llvm-objcopy": "llvm", "mformat": "mtools",
    "syslinux": "syslinux", "sbsign": "sbsigntool",
}


class Health(StrEnum):
    """``fail``: nothing can be run before it is mended. ``warn``: something cannot be."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and where it is not well, how to mend it."""

    what: str
    state: Health
    found: str
    mend: str = ""


def examine(
    engine: str | None = None, store: ImageStore | None = None,
    qemus: Mapping[str, str | QemuSource] = MappingProxyType({}),
) -> Iterator[Finding]:
    """Look at everything, one finding after the other; ``engine`` forces one.

    ``qemus`` are further QEMUs to look at, by what the user calls them. Nothing that is found wrong
    is raised: what cannot be looked at is a finding as well.
    """
    try:
        store = store or ImageStore()
    except Exception as error:
        yield Finding("catalogue", Health.FAIL, in_a_line(error)[0], "mend that line of the file")
        return
    yield from _seen("tools", _tools(store))
    usable: list[str] = []
    for name in (engine,) if engine else engines.ENGINES:
        for finding in _seen(f"engine {name}", _engine(name)):
            yield finding
            if finding.state is Health.OK:
                usable.append(name)
    if not usable:
        yield Finding("engine", Health.FAIL, "none works, and no QEMU runs without one",
                      "mend one of those above")
    yield from _seen("disk space", _disk(store))
    intact: list[str] = []
    for name in store.names(None):
        for finding in _seen(f"image {name}", _image(store, name)):
            yield finding
            if finding.state is Health.OK and name in store.names():
                intact.append(name)
    yield from _seen("guests' disks", _guests_disks())
    yield from _seen("own builds", _own_builds())
    yield from _seen("accelerator", _accelerators(usable[0] if usable else None, store, intact))
    for name, source in qemus.items():
        yield from _seen(f"QEMU {name}", _qemu(name, source, usable[0] if usable else None, store))


def _seen(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings; what keeps more of them from being found is the last one."""
    try:
        yield from findings
    except Exception as error:  # whatever it is, the rest is to be looked at
        line = _line(error) if isinstance(error, HarnessError) else in_a_line(error)[0]
        yield Finding(what, Health.FAIL, f"cannot be looked at: {line}",
                      "mend that, then ask again")


def _tools(store: ImageStore) -> Iterator[Finding]:
    for program, package in PACKAGES.items():
        path = shutil.which(program)
        if path is not None:
            yield Finding(f"tool {program}", Health.OK, path)
            continue
        # Without bubblewrap there may be docker; without mmdebstrap there may be all images.
        needed = program == "nasm" or (
            program == "mmdebstrap" and not all(map(store.is_built, store.names())))
        yield Finding(f"tool {program}", Health.FAIL if needed else Health.WARN, "not installed",
                      f"apt install {package}")


def _engine(name: str) -> Iterator[Finding]:
    try:
        with engines.choose(name):
            pass
    except HarnessError as error:
        mend = ("start a Docker engine, and let this user reach its socket (group docker)"
                if name == "docker" else
                "apt install bubblewrap, and allow user namespaces (sysctl kernel.*userns*)")
        yield Finding(f"engine {name}", Health.WARN, _line(error), mend)
    else:
        yield Finding(f"engine {name}", Health.OK, "works")


def _disk(store: ImageStore) -> Iterator[Finding]:
    cache = image_store.cache_home()
    there = next(path for path in (cache, *cache.parents) if path.exists() or path.is_symlink())
    elsewhere = f"set XDG_CACHE_HOME (now: {cache.parent})"
    if not there.is_dir():
        yield Finding("disk space", Health.FAIL, f"{there} is no directory",
                      f"move it away, or {elsewhere}")
        return
    free = shutil.disk_usage(there).free
    missing = sum(not store.is_built(name) for name in store.names())
    needed = missing * ROOT_BYTES + SPARE_BYTES
    found = f"{free / 1e9:.1f} GB free for {cache}"
    if not os.access(there, os.W_OK):
        yield Finding("disk space", Health.FAIL, f"{there} cannot be written to",
                      f"chown it to this user, or {elsewhere}")
    elif free >= needed:
        yield Finding("disk space", Health.OK, found)
    else:
        yield Finding("disk space", Health.WARN if free >= SPARE_BYTES else Health.FAIL,
                      f"{found}, {needed / 1e9:.1f} GB are needed to build all images",
                      "make room, or set XDG_CACHE_HOME to a directory that has it")


def _image(store: ImageStore, name: str) -> Iterator[Finding]:
    """What is cached of a build, all of it read."""
    what = f"image {name}"
    if not store.is_built(name):
        yield Finding(what, Health.WARN, "not built; a run that needs it does so",
                      f"bootmatrix images build {name}")
        return
    try:
        store.check(name, whole=True)
        row = store.row(name)
    except Damaged as error:
        yield Finding(what, Health.FAIL, f"damaged: {error.found}", error.again)
        return
    yield Finding(what, Health.OK,
                  f"QEMU {row.version}, {row.first_firmware}, {row.size / 1e6:.0f} MB, intact")


def _guests_disks() -> Iterator[Finding]:
    damaged = guests.damaged(image_store.cache_home())
    yield _made("guests' disks", damaged, "rm -r " + " ".join(map(str, damaged)))


def _own_builds() -> Iterator[Finding]:
    yield _made("own builds", damaged_own(), f"bootmatrix images rm {OWN_BUILDS}")


def _made(what: str, damaged: Sequence[Path], mend: str) -> Finding:
    """What else is cached, all of it read. A run makes anew what is not what was made."""
    if not damaged:
        return Finding(what, Health.OK, "intact")
    names = ", ".join(path.name for path in damaged)
    return Finding(what, Health.WARN, "not what was made, or not known to be, so a run makes "
                                     f"them anew: {names}", mend)


def _accelerators(name: str | None, store: ImageStore, built: list[str]) -> Iterator[Finding]:
    """Decided by booting: /dev/kvm may be there, and a firmware not run all the same."""
    if name is None or not built:
        lacks = "no engine works" if name is None else "no image is built yet"
        yield Finding("accelerator", Health.WARN, f"not tried: {lacks}",
                      "mend that, then ask again" if name is None else "bootmatrix images build")
        return
    build = store.qemu(built[-1])
    bios, uefi = store.firmware(build.firmware), store.beside(build.name, UEFI)
    with ExitStack() as stack:
        try:
            engine = stack.enter_context(engines.choose(name))
            tcg = boot_seconds(engine, build, bios, Accel.TCG)
        except HarnessError as error:
            yield Finding("accelerator tcg", Health.FAIL, f"{build.name}: {_line(error)}",
                          f"bootmatrix images rm {build.name}; bootmatrix images build")
            return
        yield Finding("accelerator tcg", Health.OK, f"{build.name} boots in {tcg:.2f} s")
        finding = _kvm("accelerator kvm", engine, build, bios, tcg)
        yield finding
        if not finding.found.startswith(UNUSABLE):  # the one firmware says nothing of the other
            try:
                tcg = boot_seconds(engine, build, uefi, Accel.TCG)
            except HarnessError as error:
                yield Finding("accelerator kvm, UEFI", Health.WARN,
                              f"not tried: under tcg: {_line(error)}", "mend that, then ask again")
                return
            yield _kvm("accelerator kvm, UEFI", engine, build, uefi, tcg)


def _qemu(
    name: str, source: str | QemuSource, engine: str | None, store: ImageStore
) -> Iterator[Finding]:
    """Whether a QEMU of the user's own runs here, in which root, and boots its firmware."""
    what = f"QEMU {name}"
    with Builds(store) as builds:
        try:
            build, = builds.alone([source])
        except UserError as error:
            yield Finding(what, Health.FAIL, str(error), "name another one, or mend that")
            return
        found = f"{build.version}, in the root {build.root_name or build.name}"
        if not build.firmware:
            yield Finding(what, Health.WARN, f"{found}, without a firmware beside it",
                          f"give it one in a run: --host {name}/FIRMWARE")
            return
        if engine is None:
            yield Finding(what, Health.WARN, f"{found}; not booted: no engine works",
                          "mend that, then ask again")
            return
        firmware = builds.firmware(HostSpec(name, source))
        try:
            with engines.choose(engine) as opened:
                took = boot_seconds(opened, build, firmware, Accel.TCG)
        except HarnessError as error:
            yield Finding(what, Health.FAIL, f"{found}; {firmware.name}: {_line(error)}",
                          f"another firmware: --host {name}/FIRMWARE in a run")
            return
        yield Finding(what, Health.OK, f"{found}, boots {firmware.name} in {took:.2f} s")


def _kvm(
    what: str, engine: Engine, build: QemuBuild, firmware: FirmwareBuild, tcg: float
) -> Finding:
    """Whether KVM boots a firmware that took ``tcg`` seconds under TCG."""
    complaint = kvm_complaint()
    if complaint is not None:
        return Finding(what, Health.WARN, f"{UNUSABLE}: {complaint}", _mend_kvm())
    try:
        kvm = boot_seconds(engine, build, firmware, Accel.KVM)
    except HarnessError as error:
        return Finding(what, Health.WARN, f"{UNUSABLE}: {_line(error)}",
                       "leave accel at tcg, its default; this host's KVM does not run it")
    took = f"{build.name} boots in {kvm:.2f} s"
    if kvm > SLOW * tcg:
        return Finding(what, Health.WARN, f"{took}, {kvm / tcg:.0f} times as long as under tcg",
                       "leave accel at tcg, its default, or give a matrix with kvm a boot-timeout "
                       "that fits; a nested host is like that")
    return Finding(what, Health.OK, took)


def _mend_kvm() -> str:
    if not Path(KVM).exists():
        return "modprobe kvm_intel or kvm_amd; in a virtual machine, its host must allow nesting"
    if os.getuid():
        return ("usermod -aG kvm with this user's name (chgrp kvm, chmod g+rw, if that group has "
                "not got it), then log in again; or leave accel at tcg, its default")
    return "start the container that this is with --device /dev/kvm; or leave accel at tcg"


def boot_seconds(
    engine: Engine, build: QemuBuild, firmware: FirmwareBuild, accel: Accel
) -> float:
    """Boot the probe guest; seconds from launch to its line.

    Raises HarnessError, with the reason in its first line, if it does not come up.
    """
    host = Host("host", build, firmware)
    cell = Cell((), DEFAULT_MACHINE, Policy.STOCK, LIBRARY["cold-boot"], Disk.IDE, accel,
                UEFI_SECONDS if firmware.interface is Interface.UEFI else BOOT_SECONDS)
    with temporary("bootmatrix-doctor-") as directory:
        setup = setup_of(cell, [host], image_store.cache_home())
        with Guest(QemuHosts(engine, setup, directory)) as guest:
            started = do_step(guest, Start(0))
            if started.refusal is not None:
                raise QemuError(str(started.refusal))
            assert started.boot is not None
            if started.boot.ended is not None:
                raise QemuError(str(classify(started.boot.ended)))
            if started.stopped is not None:
                raise QemuError(f"QEMU stopped the guest: {started.stopped}")
            if started.boot.up is None:
                last = guest.machine.console.tail().strip().split("\n")[-1] or "nothing"
                raise DeadlineExceeded(
                    f"no firmware boots within {cell.seconds:.0f} s; the console said {last!r}")
            return started.boot.seconds


def _line(error: HarnessError) -> str:
    """The first line of an error, and the last one of what it cites."""
    words = error.message.splitlines()[0]
    tail = error.tail.strip().splitlines()
    return f"{words}: {tail[-1]}" if tail else words
