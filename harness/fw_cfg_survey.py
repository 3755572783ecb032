"""What QEMUs offer to firmware: each launched without a boot, read through qtest, and ended."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.engines import Engine
from harness.engines.confinement import CELL
from harness.errors import QtestError, UserError
from harness.fw_cfg import FwCfg
from harness.fw_cfg_contract import Item, Offer, Setup
from harness.fw_cfg_format import keys, option
from harness.fw_cfg_format.option import FwCfgFile
from harness.model import QemuBuild
from harness.qtest import Qtest
from harness.vm import Qemu

SECONDS = 30.0
"""For one QEMU, from launch to the last byte; it takes a tenth of one."""

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
    """A QEMU launched for its fw_cfg device; ``directory`` takes its socket and its log.

    Raises QemuError, with its last words, if QEMU ends; FwCfgError if there is no device;
    UserError if a file for the guest cannot be read.
    """
    argv = (
        build.binary,
        "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
        "-machine", f"{machine},accel=tcg", "-S",
        "-m", str(setup.memory_mib),
        *(word for device in setup.devices for word in ("-device", device)),
        *option.argv(list(_brought_inside(files, directory))),
        "-chardev", f"socket,id=qtest,path={CELL}/qtest.sock,server=off",
        "-qtest", "chardev:qtest", "-qtest-log", "none",
    )  # fmt: skip
    with (
        engine.sandbox(build, directory) as sandbox,
        Qemu(build.name, sandbox, argv, directory, ["qtest"]) as qemu,
        Qtest(qemu.connection("qtest", deadline), build.name, deadline) as qtest,
    ):
        try:
            fw_cfg = FwCfg(qtest, buffer=(setup.memory_mib << 20) // 2)
        except QtestError as error:
            # It connects before it has made its devices, and most refusals come from those.
            raise qemu.ended() from error
        yield Open(qemu, qtest, fw_cfg)


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
        tempfile.TemporaryDirectory(prefix="bootmatrix-fw_cfg-") as directory,
        opened(engine, build, machine, setup, Path(directory), deadline, files) as there,
    ):
        return Offer(build.name, build.version, machine, setup, read_items(there.fw_cfg))


def survey_all(
    engine: Engine, builds: Sequence[QemuBuild], machine: str, setup: Setup | None = None
) -> list[Offer | None]:
    """``survey`` of several QEMUs side by side; None for those without the machine type."""
    def one(build: QemuBuild) -> Offer | None:
        return survey(engine, build, machine, setup) if machine in build.machines else None

    with ThreadPoolExecutor(max(1, len(builds))) as pool:
        return list(pool.map(one, builds))


def read_items(fw_cfg: FwCfg) -> tuple[Item, ...]:
    """Every item, those at fixed keys first, the files in the directory's order.

    By DMA where there is. A writable item is found by writing its own first byte back, after
    all has been read.
    """
    dma = fw_cfg.has_dma
    files = fw_cfg.directory()
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
        yield FwCfgFile(file.name, file=f"{CELL}/{copy.name}")
