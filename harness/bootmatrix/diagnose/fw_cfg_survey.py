"""What QEMUs offer to firmware: each launched without a boot, read through qtest, and ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.arguments import machine_type
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine
from bootmatrix.engines.confinement import SHOWN
from bootmatrix.engines.scratch import Scratch
from bootmatrix.errors import FwCfgError, QtestError, UserError
from bootmatrix.files.cell_files import temporary
from bootmatrix.fw_cfg.client import FwCfg
from bootmatrix.fw_cfg.contract import Item, Offer, Setup
from bootmatrix.fw_cfg.format import keys, option
from bootmatrix.fw_cfg.format.option import FwCfgFile
from bootmatrix.machines.qemu.command_line import bare
from bootmatrix.machines.qemu.process import Qemu
from bootmatrix.machines.qemu.qtest import Qtest
from bootmatrix.machines.setup import GuestSetup, granted_for
from bootmatrix.model import QemuBuild
from bootmatrix.vm import CONSOLE, DISK

SECONDS = 30.0
"""For one QEMU, from launch to the last byte; it takes a tenth of one."""

_AT = "1-qemu"
# No instruction is executed, and no item tells of the firmware: one's own QEMU may have none beside
# it, and be run with another. A board wants a multiple of 64 KiB.
_BLANK, _BLANK_BYTES = "blank.bin", 256 << 10
_BELOW_HOLES_MIB = 2048
# What is read of all files together, which is more than any guest has memory for.
_MOST_BYTES = 256 << 20
# Read last: selecting it makes QEMU decide on the features that the guest asked for.
_LAST = "etc/smi/features-ok"


@dataclass(frozen=True)
class Open:
    """A QEMU that waits before its first instruction, and the ways to its fw_cfg device."""

    qemu: Qemu
    qtest: Qtest
    fw_cfg: FwCfg


@contextlib.contextmanager
def opened(
    engine: Engine,
    build: QemuBuild,
    machine: str,
    setup: Setup,
    directory: Path,
    deadline: Deadline,
    files: Sequence[FwCfgFile] = (),
) -> Iterator[Open]:
    """A QEMU launched for its fw_cfg device; ``directory`` is its scratch directory.

    Raises QemuError, with its last words, if QEMU ends; FwCfgError if there is no device;
    UserError if a file for the guest cannot be read.
    """
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(Scratch(directory))
        (scratch.shown(build) / _BLANK).write_bytes(bytes(_BLANK_BYTES))
        (scratch.shown(build) / _BLANK).chmod(0o644)
        argv = (
            *bare(build.binary, build.arguments, machine, ["accel=tcg"], setup.memory_mib,
                  setup.memory), "-S",
            "-bios", f"{SHOWN}/{_BLANK}", *_machine(setup),
            *(word for device in setup.devices for word in ("-device", device)),
            *option.argv(list(_brought_inside(files, scratch.shown(build)))),
            "-chardev", f"socket,id=qtest,path={SHOWN}/{_AT}/qtest.sock,server=off",
            "-qtest", "chardev:qtest", "-qtest-log", "none",
        )  # fmt: skip
        sandbox = stack.enter_context(
            scratch.sandbox(engine, build, grants=granted_for(setup.words)))
        qemu = stack.enter_context(Qemu(build.name, sandbox, argv, scratch, _AT, ["qtest"]))
        connection = qemu.connection("qtest", deadline)
        qtest = stack.enter_context(Qtest(connection, build.name, deadline.by(qemu.clock)))
        try:
            # In the middle of the memory, but not where a PC has a hole in it.
            fw_cfg = FwCfg(qtest, buffer=(min(setup.memory_mib, _BELOW_HOLES_MIB) << 20) // 2)
        except QtestError as error:
            # It connects before it has made its devices, and most refusals come from those.
            raise qemu.ended() from error
        yield Open(qemu, qtest, fw_cfg)


def offered_to(setup: GuestSetup, host: int) -> Setup:
    """What a host's QEMU is given for a guest, as far as what it offers to firmware depends on it.

    A disk that the harness attaches, and not the guest's own machine, is none of it.
    """
    return Setup(setup.memory_mib, (), setup.memory_argument, setup.cpu, setup.smp,
                 setup.words_on(host))


def _machine(setup: Setup) -> Iterator[str]:
    """The rest of a machine; what a guest's disk and console are plugged into leads nowhere."""
    if setup.cpu:
        yield from ("-cpu", setup.cpu)
    if setup.smp != 1:
        yield from ("-smp", str(setup.smp))
    text = ",".join(setup.words)
    if f"drive={DISK}" in text:
        yield from ("-blockdev", f"driver=null-co,node-name={DISK},read-zeroes=on")
    if f"chardev={CONSOLE}" in text:
        yield from ("-chardev", f"null,id={CONSOLE}")
    yield from setup.words


def survey(
    engine: Engine,
    build: QemuBuild,
    machine: str,
    setup: Setup | None = None,
    files: Sequence[FwCfgFile] = (),
    deadline: Deadline | None = None,
) -> Offer:
    """All items of a QEMU for a machine type. Raises as ``opened``, and QtestError."""
    setup = setup or Setup()
    deadline = deadline or Deadline.after(SECONDS)
    with (
        temporary("bootmatrix-fw_cfg-") as directory,
        opened(engine, build, machine, setup, directory, deadline, files) as there,
    ):
        return Offer(build.name, build.version, machine, setup, read_items(there.fw_cfg))


def survey_all(
    engine: Engine, builds: Sequence[QemuBuild], machine: str,
    setup: Setup | Sequence[Setup] | None = None,
) -> list[Offer | None]:
    """``survey`` of several QEMUs side by side; None for those without the machine type.

    ``setup`` is that of all, or one for each.
    """
    def one(build: QemuBuild, setup: Setup | None) -> Offer | None:
        there = machine_type(machine) in build.machines
        return survey(engine, build, machine, setup) if there else None

    each = [setup] * len(builds) if setup is None or isinstance(setup, Setup) else setup
    with ThreadPoolExecutor(max(1, len(builds))) as pool:
        return list(pool.map(one, builds, each))


def read_items(fw_cfg: FwCfg) -> tuple[Item, ...]:
    """Every item, those at fixed keys first, the files in the directory's order.

    By DMA where there is. A writable item is found by writing its own first byte back, after
    all has been read.
    """
    dma = fw_cfg.has_dma
    files = fw_cfg.directory()
    if (total := sum(entry.size for entry in files)) > _MOST_BYTES:
        raise FwCfgError(f"the fw_cfg device offers {total} bytes, more than {_MOST_BYTES}")
    fixed = keys.fixed_keys()
    wanted = [(one.key, one.size or keys.OPEN_BYTES) for one in fixed]
    wanted += [(entry.key, entry.size) for entry in files]
    order = sorted(range(len(wanted)), key=lambda n: n >= len(fixed)
                   and files[n - len(fixed)].name == _LAST)
    asked = [wanted[n] for n in order]
    data = fw_cfg.read_all(asked) if dma else [fw_cfg.read_by_port(*one) for one in asked]
    by_place = dict(zip(order, data, strict=True))
    items = []
    for number, one in enumerate(fixed):
        raw = by_place[number]
        items.append(Item(one.key, one.name, raw if one.size else raw.rstrip(b"\0")))
    for number, entry in enumerate(files, len(fixed)):
        raw = by_place[number]
        items.append(Item(entry.key, entry.name, raw, dma and fw_cfg.writable(entry.key, raw)))
    return tuple(items)


def _brought_inside(files: Sequence[FwCfgFile], directory: Path) -> Iterator[FwCfgFile]:
    """The files with copies that QEMU, in its sandbox, can read."""
    for number, file in enumerate(files):
        if file.file is None:
            yield file
            continue
        copy = directory / f"file-{number}"
        try:
            copy.write_bytes(Path(file.file).read_bytes())
        except OSError as error:
            raise UserError(f"fw_cfg file {file.name}: {error.strerror}", file=file.file) from error
        copy.chmod(0o644)
        yield FwCfgFile(file.name, file=f"{SHOWN}/{copy.name}")
