"""What this machine has and lacks for running cells: findings, each with how to mend it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness import engines, guests, images
from harness.cmdline import Launch, qemu_argv
from harness.deadline import Deadline
from harness.engines import Engine
from harness.errors import DeadlineExceeded, HarnessError, QemuError, UserError
from harness.images import ImageStore
from harness.model import DEFAULT_MACHINE, Accel, Disk, QemuBuild
from harness.refusals import classify
from harness.vm import VM

ROOT_BYTES = 200_000_000
"""About what an image takes in the cache."""
SPARE_BYTES = 500_000_000
"""Room for artifacts and for what is made while an image is built."""
BOOT_SECONDS = 15.0
SLOW = 3.0
"""How many times longer than under TCG a boot may take under KVM, which should be quicker."""

PACKAGES = {"mmdebstrap": "mmdebstrap", "bwrap": "bubblewrap", "nasm": "nasm"}


class State(StrEnum):
    """``fail``: nothing can be run before it is mended. ``warn``: something cannot be."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and where it is not well, how to mend it."""

    what: str
    state: State
    found: str
    mend: str = ""


def examine(engine: str | None = None, store: ImageStore | None = None) -> Iterator[Finding]:
    """Look at everything, one finding after the other; ``engine`` forces one.

    Nothing that is found wrong is raised.
    """
    try:
        store = store or ImageStore()
    except (UserError, HarnessError) as error:
        yield Finding("catalogue", State.FAIL, str(error), "mend that line of the file")
        return
    built = [name for name in store.names() if store.is_built(name)]
    yield from _tools(all_built=len(built) == len(store.names()))
    chosen: list[str] = []
    for finding in _engines(engine):
        yield finding
        if finding.state is State.OK:
            chosen.append(finding.what.removeprefix("engine "))
    if not chosen:
        yield Finding("engine", State.FAIL, "none works, and no QEMU runs without one",
                      "mend one of those above")
    yield _disk(store)
    yield from _images(store)
    yield from _accelerators(chosen[0] if chosen else None, store, built)


def _tools(*, all_built: bool) -> Iterator[Finding]:
    for program, package in PACKAGES.items():
        path = shutil.which(program)
        if path is not None:
            yield Finding(f"tool {program}", State.OK, path)
            continue
        # Without bubblewrap there may be docker; without mmdebstrap there may be all images.
        needed = program == "nasm" or (program == "mmdebstrap" and not all_built)
        yield Finding(f"tool {program}", State.FAIL if needed else State.WARN, "not installed",
                      f"apt install {package}")


def _engines(forced: str | None) -> Iterator[Finding]:
    for name in (forced,) if forced else engines.ENGINES:
        try:
            with engines.choose(name):
                yield Finding(f"engine {name}", State.OK, "works")
        except HarnessError as error:
            mend = ("start a Docker engine, and let this user reach its socket (group docker)"
                    if name == "docker" else
                    "apt install bubblewrap, and allow user namespaces (sysctl kernel.*userns*)")
            yield Finding(f"engine {name}", State.WARN, _line(error), mend)


def _disk(store: ImageStore) -> Finding:
    cache = images.cache_home()
    there = next(path for path in (cache, *cache.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    missing = sum(not store.is_built(name) for name in store.names())
    needed = missing * ROOT_BYTES + SPARE_BYTES
    found = f"{free / 1e9:.1f} GB free for {cache}"
    if not os.access(there, os.W_OK):
        return Finding("disk space", State.FAIL, f"{there} cannot be written to",
                       f"chown it to this user, or set XDG_CACHE_HOME (now: {cache.parent})")
    if free >= needed:
        return Finding("disk space", State.OK, found)
    return Finding("disk space", State.WARN if free >= SPARE_BYTES else State.FAIL,
                   f"{found}, {needed / 1e9:.1f} GB are needed to build all images",
                   "make room, or set XDG_CACHE_HOME to a directory that has it")


def _images(store: ImageStore) -> Iterator[Finding]:
    for row in store.listing():
        if row.built:
            yield Finding(f"image {row.name}", State.OK,
                          f"QEMU {row.version}, {row.firmware}, {row.size / 1e6:.0f} MB")
        else:
            yield Finding(f"image {row.name}", State.WARN, "not built; a run that needs it does so",
                          f"bootmatrix images build {row.name}")


def _accelerators(name: str | None, store: ImageStore, built: list[str]) -> Iterator[Finding]:
    """Decided by booting: /dev/kvm may be there, and a firmware not run all the same."""
    if name is None or not built:
        lacks = "no engine works" if name is None else "no image is built yet"
        yield Finding("accelerator", State.WARN, f"not tried: {lacks}",
                      "mend that, then ask again" if name is None else "bootmatrix images build")
        return
    build = store.qemu(built[-1])
    with ExitStack() as stack:
        try:
            engine = stack.enter_context(engines.choose(name))
            tcg = boot_seconds(engine, store, build, Accel.TCG)
        except HarnessError as error:
            yield Finding("accelerator tcg", State.FAIL, f"{build.name}: {_line(error)}",
                          f"bootmatrix images rm {build.name}; bootmatrix images build")
            return
        yield Finding("accelerator tcg", State.OK, f"{build.name} boots in {tcg:.2f} s")
        try:
            kvm = boot_seconds(engine, store, build, Accel.KVM)
        except HarnessError as error:
            yield Finding("accelerator kvm", State.WARN, f"cannot be used: {_line(error)}",
                          _mend_kvm())
            return
    if kvm > SLOW * tcg:
        yield Finding("accelerator kvm", State.WARN,
                      f"{build.name} boots in {kvm:.2f} s, {kvm / tcg:.0f} times as long as "
                      "under tcg", "leave accel at tcg, its default; a nested host is like that")
    else:
        yield Finding("accelerator kvm", State.OK, f"{build.name} boots in {kvm:.2f} s")


def _mend_kvm() -> str:
    if not Path("/dev/kvm").exists():
        return "modprobe kvm_intel or kvm_amd; in a virtual machine, its host must allow nesting"
    return "chgrp kvm /dev/kvm && chmod g+rw /dev/kvm; or leave accel at tcg, its default"


def boot_seconds(engine: Engine, store: ImageStore, build: QemuBuild, accel: Accel) -> float:
    """Boot the probe guest with the build's own firmware; seconds from launch to its line.

    Raises HarnessError, with the reason in its first line, if it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="bootmatrix-doctor-") as place:
        directory = Path(place)
        directory.chmod(0o755)
        shutil.copyfile(store.firmware(build.firmware).path, directory / "bios.bin")
        shutil.copyfile(guests.probe_disk("doctor", images.cache_home()), directory / "disk.img")
        argv = qemu_argv(Launch(build.binary, DEFAULT_MACHINE, accel, Disk.IDE, "/cell/disk.img",
                                "/cell/bios.bin", "/cell"))
        with engine.sandbox(build, directory, kvm=accel is Accel.KVM) as sandbox:
            begun = time.monotonic()
            with VM(f"{build.name} under {accel}", sandbox, argv, directory, "/cell") as vm:
                _wait_until_up(vm, Deadline.after(BOOT_SECONDS))
                return time.monotonic() - begun


def _wait_until_up(vm: VM, deadline: Deadline) -> None:
    try:
        vm.connect(deadline)
    except QemuError as error:
        raise QemuError(str(classify(error.tail)), argv=vm.argv) from error
    seen = vm.console.wait_for_boot(deadline)
    if seen.ended:
        raise QemuError(str(classify(vm.log_tail())), argv=vm.argv)
    if seen.up is None:
        last = vm.console.tail().strip().split("\n")[-1] or "nothing"
        raise DeadlineExceeded(
            f"no firmware boots within {BOOT_SECONDS:.0f} s; the console said {last!r}")


def _line(error: HarnessError) -> str:
    """The first line of an error, and the last one of what it cites."""
    words = error.message.splitlines()[0]
    tail = error.tail.strip().splitlines()
    return f"{words}: {tail[-1]}" if tail else words
