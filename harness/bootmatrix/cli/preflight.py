"""``bootmatrix preflight``: would this migration be refused? Asked without a boot.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli.options import A_RUN, Commands, add_engine, add_own_builds, tell
from bootmatrix.errors import Status, UserError
from bootmatrix.files import given_file
from bootmatrix.model import Arch, Disk, FirmwareSource, Host, HostSpec, Nic
from bootmatrix.steps.base import Scenario
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.diagnose.preflight import Facts, Obstacle
    from bootmatrix.engines import Engine
    from bootmatrix.run.runner import Runner

EVERY_DISK = ("pc-i440fx-5.2", "pc-q35-5.2")  # as in the quickstart, which all builds have
_DISKS: list[Disk] = [disk for disk in Disk if disk is not Disk.OWN]
_LARGEST_PAGE = 1 << 20
MARKS = ("<!-- measured -->", "<!-- /measured -->")
NOTES = """\
Compared are machine types, RAM blocks and ROM sizes, what -dump-vmstate tells of every device of
the machine, and what is offered to firmware (fw_cfg); the destination is then given the stream of
a guest that has not run. docs/preflight.md says how often the answer is that of a real migration.

examples:
  bootmatrix preflight --source debian-bullseye --destination debian-sid --machine pc-q35-5.2
  bootmatrix preflight --source debian-sid --destination head --qemu head=../qemu/build \\
      --machine pc-q35-10.0 --records records.jsonl
  bootmatrix preflight --measure docs/preflight.md       against real migrations, some minutes

exit status: 0 nothing of what is compared would refuse it; 1 refused, or refused unless the guest's
drivers hide it; 2 a mistake in what was
given; 3 the rig broke
"""


def add(commands: Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "preflight", help="would a migration be refused? Asked without a boot",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=NOTES, allow_abbrev=False)
    parser.set_defaults(command=_preflight)
    for role in ("source", "destination"):
        parser.add_argument(f"--{role}", metavar="QEMU[/FIRMWARE]",
                            help="a build of the catalogue, or of your own (--qemu, --firmware)")
    parser.add_argument("--machine", metavar="TYPE", help="such as pc-q35-7.2, or default")
    parser.add_argument("--disk", choices=[disk.value for disk in _DISKS],
                        help="how the disk is attached (default: the board's own controller)")
    parser.add_argument("--arch", choices=[arch.value for arch in Arch], default="x86_64",
                        help="what the QEMUs emulate (default: x86_64)")
    parser.add_argument("--nic", choices=("none", "virtio", "e1000"), default="none",
                        help="a network card, whose ROM block has the size of its host's file")
    add_own_builds(parser)
    parser.add_argument("--records", metavar="RUN", type=Path,
                        help=f"name the cell of a run that proves a finding: {A_RUN}")
    add_engine(parser, "where QEMUs run (default: bubblewrap where it works)")
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    parser.add_argument("--measure", metavar="PAGE", type=Path,
                        help="migrate for real all that the catalogue's builds share, and write "
                             "how often preflight was right into this page")


def _preflight(options: argparse.Namespace) -> int:
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.diagnose import preflight
    from bootmatrix.engines import choose_for_a_look
    from bootmatrix.matrix.sources import parse
    from bootmatrix.records.jsonl import read_records
    from bootmatrix.run.directory import records_of

    if options.measure is not None:
        return _measure(options)
    for name in ("source", "destination", "machine"):
        if getattr(options, name) is None:
            raise UserError(f"--{name} is missing")
    records = list(read_records(records_of(options.records))) if options.records else []
    given = parse(options.qemu, options.firmware, [])
    arch = Arch(options.arch)
    disk = Disk(options.disk or own_disk(options.machine, arch))
    with Builds(ImageStore()) as builds, choose_for_a_look(options.engine) as engine:
        hosts = []
        for text in (options.source, options.destination):
            specs = [replace(spec, arch=arch) for spec in given.host(text)]
            builds.check(specs)
            builds.prepare(specs, tell)
            hosts.append(builds.host(specs[0]))
        given.check_meant()
        asked = Asked(engine, disk, Nic(options.nic))
        found = asked.findings(hosts[0], hosts[1], options.machine)
        # What is offered to firmware is read through a PC's ports.
        if arch is Arch.X86_64 and (not found or found[0].kind is not preflight.Kind.MACHINE):
            found = (*found, *_fw_cfg(engine, hosts, options.machine))
    rows = [{"kind": one.kind, "refuses": one.refuses, "depends": one.depends, "text": one.text,
             "proof": preflight.proof(records, hosts[0], hosts[1], options.machine,
                                       one.refuses)}
            for one in found]
    foretold = any(one.refuses for one in found)
    depends = any(one.depends for one in found)
    unforeseen = None if foretold else preflight.refused_cell(
        records, hosts[0], hosts[1], options.machine)
    refused = foretold or depends or unforeseen is not None
    if options.json:
        echo(json.dumps({"refused": refused, "findings": rows, "not_foretold": unforeseen},
                        indent=1))
        return Status.RED if refused else Status.GREEN
    for row in rows:
        word = "REFUSED" if row["refuses"] else "DEPENDS" if row["depends"] else "warning"
        echo(f"{word}  {row['kind']}: {row['text']}")
        if records:
            echo(f"         proof: {row['proof'] or 'no cell of the records shows it'}")
    echo(f"{options.source} to {options.destination}, {options.machine}: "
          + ("would be refused" if foretold else
             "would be refused, unless the guest's drivers hide it" if depends else
             "nothing of what is compared would refuse it"))
    if unforeseen is not None:
        echo(f"         but a cell of the records was refused: {unforeseen}")
    return Status.RED if refused else Status.GREEN


def own_disk(machine: str, arch: Arch | None = None) -> str:
    """The disk controller that a board has of itself."""
    from bootmatrix.boards import board_of

    board = board_of(machine, arch or Arch.X86_64)
    return board.own_disk.value if board is not None else "ide"


def _fw_cfg(engine: Engine, hosts: Sequence[Host], machine: str) -> tuple[Obstacle, ...]:
    from bootmatrix.diagnose.fw_cfg_survey import survey
    from bootmatrix.diagnose.preflight import Kind, Obstacle
    from bootmatrix.fw_cfg.contract import Impact, compare

    kind = hosts[0].qemu.default_machine if machine == "default" else machine
    old, new = (survey(engine, host.qemu, kind) for host in hosts)
    return tuple(
        Obstacle(Kind.FW_CFG, False, f"{one.item} {one.change.value}: firmware of the source's "
                                    f"that the guest keeps may not cope {', '.join(one.details)}")
        for one in compare(old, new) if one.impact is Impact.BREAKS
    )


class Asked:
    """Preflights of several pairs; each QEMU is asked once for each machine type."""

    def __init__(self, engine: Engine, disk: Disk, nic: Nic | None = None) -> None:
        self._engine = engine
        self._disk = disk
        self._nic = nic
        self._facts: dict[tuple[str, str], Facts] = {}

    def findings(self, source: Host, destination: Host, machine: str) -> tuple[Obstacle, ...]:
        """What would refuse this migration, or might."""
        from bootmatrix.diagnose import preflight

        found = preflight.machine_findings(source, destination, machine)
        if found:
            return found
        mine = self._of(source, machine)
        found = preflight.compare(mine, self._of(destination, machine))
        if any(one.refuses for one in found):
            return found
        # Nothing that is told speaks against it: it is tried.
        return (*preflight.loaded(self._engine, mine, destination, self._disk,
                                  self._nic or Nic.NONE), *found)

    def _of(self, host: Host, machine: str) -> Facts:
        from bootmatrix.diagnose import preflight

        key = (f"{host.qemu.digest} {host.firmware.sha256}", machine)
        if key not in self._facts:
            self._facts[key] = preflight.facts(
                self._engine, host, machine, self._disk, self._nic or Nic.NONE)
        return self._facts[key]


# ---- how often is it right? -----------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """One migration, foretold and done."""

    source: str
    destination: str
    machine: str
    foretold: bool  # refused, said preflight
    refused: bool  # refused, by QEMU
    why: str


def _measure(options: argparse.Namespace) -> int:
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.engines import choose_for_a_look
    from bootmatrix.files.cell_files import temporary
    from bootmatrix.run.runner import Runner

    page = options.measure
    try:
        text = given_file.read(page, _LARGEST_PAGE).decode()
    except (given_file.Unreadable, UnicodeDecodeError) as error:
        raise UserError(str(error), file=page) from None
    if not all(mark in text for mark in MARKS):
        raise UserError("the page has no place for the figure", file=page,
                        hint=f"between {MARKS[0]} and {MARKS[1]}")
    store = ImageStore()
    with (
        Builds(store) as builds, choose_for_a_look(options.engine) as engine,
        temporary("bootmatrix-") as directory,
        Runner(builds, engine, directory) as runner,
    ):
        rows = _all(store.names(), builds, engine, runner)
    before, rest = text.split(MARKS[0])
    given_file.replace(page, f"{before}{MARKS[0]}\n{measured_text(rows)}\n{MARKS[1]}"
                             f"{rest.split(MARKS[1])[1]}".encode())
    echo(f"\n{page}: written")
    return Status.GREEN


def _all(names: Sequence[str], builds: Builds, engine: Engine, runner: Runner) -> list[Measured]:
    from bootmatrix.cell import Cell
    from bootmatrix.policies import Policy
    from bootmatrix.steps.library import LIBRARY

    specs = [HostSpec(name.removeprefix("debian-"), name) for name in names]
    builds.prepare(specs)
    steps = LIBRARY["migrate-reset"].steps[:2]
    asked: dict[Disk, Asked] = {disk: Asked(engine, disk) for disk in _DISKS}
    rows: list[Measured] = []

    def measure(spec: HostSpec, other: HostSpec, machine: str, disk: Disk) -> None:
        source, destination = builds.host(spec), builds.host(other)
        found = asked[disk].findings(source, destination, machine)
        record = runner.run(Cell((spec, other), machine, Policy.STOCK,
                                 Scenario("migrate", steps), disk))
        outcome = record["steps"][-1]["outcome"] if record["steps"] else record["reason"]
        rows.append(Measured(
            spec.name, other.name, f"{machine} ({disk})", any(one.refuses for one in found),
            outcome.startswith("refused"),
            "; ".join(one.text for one in found if one.refuses) or outcome))
        print(f"\r{len(rows)} migrations, "  # noqa: T201  # numbers alone, on one line
              f"{sum(row.foretold == row.refused for row in rows)} as foretold",
              end="", flush=True)

    for spec, other in permutations(specs, 2):
        types = shared(builds.host(spec), builds.host(other))
        for machine in (*types, "default"):
            measure(spec, other, machine, Disk(own_disk(machine)))
        for machine in EVERY_DISK:
            for disk in _DISKS:
                if machine in types and disk.value != own_disk(machine):
                    measure(spec, other, machine, disk)
        small = _small_firmware(builds.host(other))
        measure(spec, small, EVERY_DISK[0], Disk(own_disk(EVERY_DISK[0])))
    return rows


def _small_firmware(host: Host) -> HostSpec:
    """The host with the half-size SeaBIOS that Debian installs beside the other one."""

    return HostSpec(f"{host.name}-small", host.qemu.name,
                    FirmwareSource(host.qemu.root / "usr/share/seabios/bios.bin"))


def shared(source: Host, destination: Host) -> list[str]:
    """The versioned machine types of the two boards that both have, in the source's order."""
    return [machine for machine in source.qemu.machines
            if re.match(r"pc-(i440fx|q35)-\d", machine) and machine in destination.qemu.machines]


def measured_text(rows: Sequence[Measured]) -> str:
    """The figure as Markdown, misses included."""
    agree = sum(row.foretold == row.refused for row in rows)
    lines = [
        f"Of {len(rows)} migrations, preflight foretold **{agree} "
        f"({100 * agree / max(1, len(rows)):.1f} %)** as they went.", "",
        "| | QEMU refused | QEMU migrated |", "| --- | --- | --- |",
    ]
    for foretold, text in ((True, "preflight: refused"), (False, "preflight: goes")):
        counts = [sum((row.foretold, row.refused) == (foretold, refused) for row in rows)
                  for refused in (True, False)]
        lines.append(f"| {text} | {counts[0]} | {counts[1]} |")
    missed = [row for row in rows if row.foretold != row.refused]
    lines += ["", "Misses:" if missed else "Misses: none."]
    grouped: dict[tuple[str, str, bool, str], list[str]] = {}
    for row in missed:
        key = (row.source, row.destination, row.foretold, row.why)
        grouped.setdefault(key, []).append(row.machine)
    if missed:
        lines += ["", "| from | to | preflight | machine types | why |",
                  "| --- | --- | --- | --- | --- |"]
    for (source, destination, foretold, why), machines in grouped.items():
        lines.append(f"| {source} | {destination} | {'refused' if foretold else 'goes'} | "
                     f"{', '.join(machines)} | {why.replace('|', '/')} |")
    return "\n".join(lines)
