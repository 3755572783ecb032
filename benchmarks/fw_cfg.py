"""What reading fw_cfg costs, as ratios; and 100,000 damaged inputs for its parsers."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.diagnose.fw_cfg_survey import opened, survey, survey_all
from bootmatrix.engines import Engine, choose
from bootmatrix.engines.confinement import SHOWN
from bootmatrix.engines.scratch import Scratch
from bootmatrix.fw_cfg.contract import Setup
from bootmatrix.fw_cfg.format import directory
from bootmatrix.fw_cfg.format.decode import decode
from bootmatrix.fw_cfg.format.wire import FormatError
from bootmatrix.machines.qemu.monitor import Monitor
from bootmatrix.machines.qemu.process import Qemu
from bootmatrix.model import QemuBuild

from .meter import Figure, median_ratio

MACHINE = "pc-q35-5.2"
BUILDS = ("debian-bullseye", "debian-bookworm", "debian-trixie", "debian-sid")
SECONDS = 30.0


def fw_cfg(runs: int, inputs: int = 100_000) -> Iterator[tuple[str, Figure]]:
    """The figures of this file, in the form that ``make bench`` shows."""
    store = ImageStore()
    store.build(BUILDS, print)
    with choose("bubblewrap") as engine:
        for name in BUILDS:
            build = store.qemu(name)
            pairs = [(_survey(engine, build), _bare(engine, build)) for _ in range(runs)]
            yield (f"fw_cfg of {name} / its bare start-up",
                   Figure(median_ratio(pairs), 3, "x", runs))
        yield "fw_cfg round trips, ports / DMA", _round_trips(engine, store.qemu(BUILDS[-1]))
        yield from _side_by_side(engine, [store.qemu(name) for name in BUILDS], runs)
        whole = _command(engine, store.qemu(BUILDS[-1]), runs)
        yield "the command fwcfg show / bare start-up", whole
    yield f"fw_cfg parsers upset by {inputs} inputs", Figure(_fuzz(inputs), 0, "", inputs)


def _survey(engine: Engine, build: QemuBuild) -> float:
    begun = time.monotonic()
    for item in survey(engine, build, MACHINE).items:
        item.decoded()
    return time.monotonic() - begun


def _bare(engine: Engine, build: QemuBuild) -> float:
    """From launch to the monitor's greeting, in the same sandbox, with the same machine."""
    with tempfile.TemporaryDirectory() as place:
        begun = time.monotonic()
        argv = (build.binary, "-nodefaults", "-no-user-config", "-display", "none",
                "-vga", "none", "-machine", f"{MACHINE},accel=tcg", "-S", "-m", "128",
                "-chardev", f"socket,id=monitor,path={SHOWN}/qemu/monitor.sock,server=off",
                "-mon", "chardev=monitor,mode=control")  # fmt: skip
        with (
            Scratch(Path(place)) as scratch,
            scratch.sandbox(engine, build) as sandbox,
            Qemu(build.name, sandbox, argv, scratch, "qemu", ["monitor"]) as qemu,
        ):
            deadline = Deadline.after(SECONDS)
            monitor = Monitor(qemu.connection("monitor", deadline), build.name, deadline)
            taken = time.monotonic() - begun
            monitor.close(deadline)
    return taken


def _round_trips(engine: Engine, build: QemuBuild) -> Figure:
    """Requests answered while all files are read, one way and the other."""
    with (
        tempfile.TemporaryDirectory() as place,
        opened(engine, build, MACHINE, Setup(), Path(place), Deadline.after(SECONDS)) as there,
    ):
        wanted = [(entry.key, entry.size) for entry in there.fw_cfg.directory()]
        counts = [there.qtest.requests]
        there.fw_cfg.read_all(wanted)
        counts.append(there.qtest.requests)
        for key, size in wanted:
            there.fw_cfg.read_by_port(key, size)
        counts.append(there.qtest.requests)
    return Figure((counts[2] - counts[1]) / (counts[1] - counts[0]), 20, "x", 1, at_least=True)


def _side_by_side(
    engine: Engine, builds: list[QemuBuild], runs: int
) -> Iterator[tuple[str, Figure]]:
    pairs = []
    for _ in range(runs):
        begun = time.monotonic()
        survey_all(engine, builds, MACHINE)
        together = time.monotonic() - begun
        begun = time.monotonic()
        for build in builds:
            survey(engine, build, MACHINE)
        pairs.append((together, time.monotonic() - begun))
    yield "fw_cfg of 4 QEMUs, side by side / in turn", Figure(median_ratio(pairs), 1, "x", runs)
    yield "fw_cfg of 4 QEMUs, side by side", Figure(
        1000 * statistics.median(together for together, _ in pairs), None, "ms", runs)


def _command(engine: Engine, build: QemuBuild, runs: int) -> Figure:
    """The whole command: most of it is Python's own start and imports, so it has no goal."""
    argv = [str(Path(sys.executable).with_name("bootmatrix")), "fwcfg", "show",
            "--qemu", build.name, "--machine", MACHINE]  # fmt: skip
    pairs = []
    for _ in range(runs):
        begun = time.monotonic()
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        pairs.append((time.monotonic() - begun, _bare(engine, build)))
    return Figure(median_ratio(pairs), None, "x", runs)


_NAMES = ("bootorder", "etc/acpi/rsdp", "etc/acpi/tables", "etc/e820", "etc/smbios/smbios-anchor",
          "etc/smbios/smbios-tables", "etc/system-states", "etc/table-loader", "etc/tpm/config",
          "etc/vmcoreinfo", "etc/vmgenid_guid")  # fmt: skip


def _fuzz(inputs: int) -> int:
    """How many damaged directories and items raised what is not declared. The seed is fixed."""
    chance = random.Random(4)  # noqa: S311
    good = directory.build([directory.Entry(f"etc/{n}", 0x20 + n, n) for n in range(8)])
    starts = (b"", b"RSD PTR ", b"_SM_", b"_SM3_", b"\1\0\0\0", b"APIC\x40\0\0\0",
              b"FACP\x90\0\0\0", b"FACS\x40\0\0\0", b"\1\x1b\0\1")  # fmt: skip
    upset = 0
    for number in range(inputs):
        noise = chance.randbytes(chance.randrange(160))
        try:
            if number % 2:
                raw = bytearray(good)
                for _ in range(chance.randrange(1, 5)):
                    raw[chance.randrange(len(raw))] = chance.randrange(256)
                directory.parse(bytes(raw[: chance.randrange(len(raw) + 1)]) + noise[:4])
            else:
                decode(chance.choice(_NAMES), 0x20, chance.choice(starts) + noise)
        except FormatError:
            continue
        except Exception as error:  # what is looked for
            print(f"input {number}: {error!r}")
            upset += 1
    return upset


if __name__ == "__main__":
    for label, figure in fw_cfg(5):
        print(f"{label:<44} {figure.value:8.2f} {figure.unit:<3} goal {figure.goal} {figure.met}")
