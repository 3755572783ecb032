"""``bootmatrix preflight``: would this migration be refused? Asked without a boot.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.arguments import machine_options, machine_type
from bootmatrix.cli.options import A_RUN, Commands, add_engine, add_own_builds, tell
from bootmatrix.errors import Status, UserError
from bootmatrix.files import given_file
from bootmatrix.model import DEFAULT_MACHINE, Arch, Disk, Nic, Tpm
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.cell import Cell
    from bootmatrix.diagnose.preflight import MachineFacts, Obstacle
    from bootmatrix.engines import Engine
    from bootmatrix.machines.setup import GuestSetup
    from bootmatrix.run.runner import Runner

MEASURED = Path("matrices/preflight.yaml")
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
  bootmatrix preflight matrices/mine.yaml CELL           the machine of a cell's guest
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
    parser.add_argument("where", metavar="MATRIX", nargs="?", type=Path,
                        help="a matrix file, and the id of a cell of it: its two hosts, and all "
                             "that its guest's machine has")
    parser.add_argument("positional", metavar="CELL", nargs="?", help=argparse.SUPPRESS)
    for role in ("source", "destination"):
        parser.add_argument(f"--{role}", metavar="QEMU[/FIRMWARE]",
                            help="a build of the catalogue, or of your own (--qemu, --firmware)")
    parser.add_argument("--machine", metavar="TYPE", help="such as pc-q35-7.2, or default")
    parser.add_argument("--disk", choices=[disk.value for disk in _DISKS],
                        help="how the disk is attached (default: the board's own controller)")
    parser.add_argument("--arch", choices=[arch.value for arch in Arch],
                        help="what the QEMUs emulate (default: x86_64)")
    parser.add_argument("--nic", choices=("none", "virtio", "e1000"),
                        help="a network card, whose ROM block has the size of its host's file")
    add_own_builds(parser)
    parser.add_argument("--records", metavar="RUN", type=Path,
                        help=f"name the cell of a run that proves a finding: {A_RUN}")
    add_engine(parser, "where QEMUs run (default: bubblewrap where it works)")
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    parser.add_argument("--measure", metavar="PAGE", type=Path,
                        help="do all migrations of a matrix for real, and write how often "
                             f"preflight was right into this page (default: {MEASURED})")


def _preflight(options: argparse.Namespace) -> int:
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.diagnose import preflight
    from bootmatrix.engines import choose_for_a_look
    from bootmatrix.records.jsonl import read_records
    from bootmatrix.run.directory import records_of

    if options.measure is not None:
        return _measure(options)
    said = ("source", "destination", "machine", "disk", "arch", "nic")
    for name in said:
        given = getattr(options, name) is not None
        if options.where and given:
            raise UserError(f"--{name} is said by the cell")
        if not (options.where or given) and name in said[:3]:
            raise UserError(f"--{name} is missing")
    if options.where and options.positional is None:
        raise UserError(f"which cell of {options.where}?",
                        hint=f"`bootmatrix list {options.where}` shows the ids")
    records = list(read_records(records_of(options.records))) if options.records else []
    with Builds(ImageStore()) as builds, choose_for_a_look(options.engine) as engine:
        setup = _of_cell(options, builds) if options.where else _as_said(options, builds)
        hosts, machine = setup.hosts, setup.machine
        found = findings(engine, setup)
        # What is offered to firmware is read through a PC's ports.
        if setup.arch is Arch.X86_64 and not any(
                one.kind in (preflight.Kind.MACHINE, preflight.Kind.START) for one in found):
            found = (*found, *_fw_cfg(engine, setup))
    rows = [{"kind": one.kind, "refuses": one.refuses, "depends": one.depends, "text": one.text,
             "proof": preflight.proof(records, hosts[0], hosts[1], machine, one.refuses)}
            for one in found]
    foretold = any(one.refuses for one in found)
    depends = any(one.depends for one in found)
    unforeseen = None if foretold else preflight.refused_cell(
        records, hosts[0], hosts[1], machine)
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
    asked = (options.positional if options.where else
             f"{options.source} to {options.destination}, {machine}")
    echo(f"{asked}: "
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


def _as_said(options: argparse.Namespace, builds: Builds) -> GuestSetup:
    """A guest of ours on the hosts and the machine that the options name."""
    from bootmatrix.machines.setup import GuestSetup
    from bootmatrix.matrix.sources import parse
    from bootmatrix.policies import Policy

    given = parse(options.qemu, options.firmware, [])
    arch = Arch(options.arch or Arch.X86_64)
    hosts = []
    for text in (options.source, options.destination):
        specs = [replace(spec, arch=arch) for spec in given.host(text)]
        builds.check(specs)
        builds.prepare(specs, tell)
        hosts.append(builds.host(specs[0]))
    given.check_meant()
    return GuestSetup(  # without a disk's image: it does not run
        hosts, options.machine, Policy.STOCK, [],
        Disk(options.disk or own_disk(options.machine, arch)), nic=Nic(options.nic or Nic.NONE))


def _of_cell(options: argparse.Namespace, builds: Builds) -> GuestSetup:
    """The guest of a cell; one that owns its firmware takes the source's along."""
    from bootmatrix.builds.image_store import cache_home
    from bootmatrix.diagnose.lookup import from_matrix
    from bootmatrix.machines.setup import setup_of
    from bootmatrix.matrix.sources import parse

    given = parse(options.qemu, options.firmware, [])
    cell = from_matrix(options.positional, options.where, builds, given)
    if cell.tpm is not Tpm.NONE:
        raise UserError(f"{cell.id} has a TPM, whose state no QEMU has that is asked without a "
                        "guest", file=options.where, hint="run the cell")
    if len(cell.hosts) < 2:
        raise UserError(f"{cell.id} stays where it is: it has one host", file=options.where)
    hosts = [builds.host(spec) for spec in cell.hosts[:2]]
    if cell.policy.keeps_nvram:
        hosts[1] = replace(hosts[1], firmware=hosts[0].firmware)
    return setup_of(cell, hosts, cache_home())


def _fw_cfg(engine: Engine, setup: GuestSetup) -> tuple[Obstacle, ...]:
    from bootmatrix.diagnose.fw_cfg_survey import offered_to, survey
    from bootmatrix.diagnose.preflight import Kind, Obstacle
    from bootmatrix.fw_cfg.contract import Impact, compare

    kind = setup.machine
    if machine_type(kind) == DEFAULT_MACHINE:
        kind = setup.hosts[0].qemu.default_machine + machine_options(kind)
    old, new = (survey(engine, host.qemu, kind, offered_to(setup, number))
                for number, host in enumerate(setup.hosts[:2]))
    return tuple(
        Obstacle(Kind.FW_CFG, False, f"{one.item} {one.change.value}: firmware of the source's "
                                    f"that the guest keeps may not cope {', '.join(one.details)}")
        for one in compare(old, new) if one.impact is Impact.BREAKS
    )


def findings(
    engine: Engine, setup: GuestSetup,
    known: Callable[[GuestSetup, int], MachineFacts] | None = None,
) -> tuple[Obstacle, ...]:
    """What would refuse a migration from a guest's first host to its second, or might.

    ``known`` asks a host, where something is known of it before.
    """
    from bootmatrix.diagnose import preflight

    ask = known or (lambda setup, host: preflight.facts(engine, setup, host))
    found = preflight.machine_findings(setup.hosts[0], setup.hosts[1], setup.machine)
    if found:
        return found
    mine = ask(setup, 0)
    found = preflight.compare(mine, ask(setup, 1))
    if not mine.stream:
        return found
    tried = preflight.loaded(engine, setup, mine)
    if not tried:
        return tuple(map(preflight.taken_all_the_same, found))
    # What is told says more of why than the destination does.
    return found if any(one.refuses for one in found) else (*tried, *found)


# ---- how often is it right? -----------------------------------------------------------------

REFUSED, DEPENDS, GOES = "refused", "depends", "goes"


@dataclass(frozen=True)
class Measured:
    """One migration, foretold and done; ``guest`` is what was in the machine."""

    source: str
    destination: str
    machine: str
    guest: str
    foretold: str  # REFUSED, DEPENDS or GOES
    refused: bool  # by QEMU
    why: str

    @property
    def agrees(self) -> bool:
        """Whether it went as foretold; what depends on the guest's drivers can go either way."""
        return self.foretold == DEPENDS or (self.foretold == REFUSED) == self.refused


class Remembered:
    """What QEMUs told of themselves: each is asked once for each machine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._facts: dict[object, MachineFacts] = {}

    def __call__(self, setup: GuestSetup, host: int) -> MachineFacts:
        """The facts of a host of a guest."""
        from bootmatrix.diagnose import preflight
        from bootmatrix.machines.qemu.machine import rom_block_size

        there = setup.hosts[host]
        key = (there.qemu.digest, there.firmware.sha256, there.arguments,
               rom_block_size(setup, host), setup.memory_mib, repr(replace(setup, hosts=())))
        if key not in self._facts:
            self._facts[key] = preflight.facts(self._engine, setup, host)
        return self._facts[key]


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
    with (
        Builds(ImageStore()) as builds, choose_for_a_look(options.engine) as engine,
        temporary("bootmatrix-") as directory,
        Runner(builds, engine, directory) as runner,
    ):
        rows = _all(options.where or MEASURED, builds, engine, runner)
    before, rest = text.split(MARKS[0])
    given_file.replace(page, f"{before}{MARKS[0]}\n{measured_text(rows)}\n{MARKS[1]}"
                             f"{rest.split(MARKS[1])[1]}".encode())
    echo(f"\n{page}: written")
    return Status.GREEN


def _all(matrix: Path, builds: Builds, engine: Engine, runner: Runner) -> list[Measured]:
    """Every migration of a matrix whose cells migrate last, foretold and done."""
    from bootmatrix.diagnose.lookup import cells_of

    known = Remembered(engine)
    rows: list[Measured] = []
    for cell in cells_of(matrix, builds):
        if len({host.name for host in cell.hosts}) < 2:
            continue  # from a host to itself: nothing could differ
        builds.prepare(cell.hosts)
        setup = runner.setup(cell, [builds.host(spec) for spec in cell.hosts])
        record = runner.run(cell)
        last = record["steps"][-1] if record["steps"] else None
        if last is None or last["step"] != "migrate":
            continue  # it has not come so far, or cannot be run
        found = findings(engine, setup, known)
        foretold = (REFUSED if any(one.refuses for one in found) else
                    DEPENDS if any(one.depends for one in found) else GOES)
        rows.append(Measured(
            cell.hosts[0].name, cell.hosts[1].name, f"{cell.machine} ({cell.disk})",
            _called(cell, setup), foretold, last["outcome"].startswith("refused"),
            "; ".join(one.text for one in found if one.refuses) or last["outcome"]))
        print(f"\r{len(rows)} migrations, "  # noqa: T201  # numbers alone, on one line
              f"{sum(row.agrees for row in rows)} as foretold", end="", flush=True)
    return rows


def _called(cell: Cell, setup: GuestSetup) -> str:
    """What is in the machine of a cell, in words."""
    kind = "Linux" if cell.guest.is_linux else "probe"
    parts = [f"{setup.interface.value.upper()}, {kind}"]
    if cell.disk.value in ("virtio", "floppy"):
        parts.append(f"{cell.disk} disk" if cell.disk.value == "virtio" else "floppy")
    if cell.nic is not Nic.NONE:
        parts.append(f"{cell.nic} card")
    parts += [f"devices {found}" for found in (cell.devices.name, cell.arguments.name) if found]
    return ", ".join(parts)


def measured_text(rows: Sequence[Measured]) -> str:
    """The figure as Markdown, misses included."""
    sure = [row for row in rows if row.foretold != DEPENDS]
    agree = sum(row.agrees for row in sure)
    lines = [
        f"Of {len(rows)} migrations, preflight said of {len(rows) - len(sure)} that it depends on "
        f"the guest's drivers, and foretold **{agree} of the other {len(sure)} "
        f"({100 * agree / max(1, len(sure)):.1f} %)** as they went.", "",
        "| | QEMU refused | QEMU migrated |", "| --- | --- | --- |",
        *(_counted(f"preflight: {foretold}", [row for row in rows if row.foretold == foretold])
          for foretold in (REFUSED, DEPENDS, GOES)),
        "", "| in the machine | migrations | not as foretold | of them refused by QEMU, foretold: "
        "refused, depends, goes |", "| --- | --- | --- | --- |",
    ]
    for guest in dict.fromkeys(row.guest for row in rows):
        mine = [row for row in rows if row.guest == guest]
        refused = [sum(row.refused and row.foretold == foretold for row in mine)
                   for foretold in (REFUSED, DEPENDS, GOES)]
        lines.append(f"| {guest} | {len(mine)} | {sum(not row.agrees for row in mine)} | "
                     f"{', '.join(map(str, refused))} |")
    missed = [row for row in rows if not row.agrees]
    lines += ["", "Misses:" if missed else "Misses: none."]
    grouped: dict[tuple[str, str, str, str, str], list[str]] = {}
    for row in missed:
        key = (row.source, row.destination, row.guest, row.foretold, row.why)
        grouped.setdefault(key, []).append(row.machine)
    if missed:
        lines += ["", "| from | to | in the machine | preflight | machine types | why |",
                  "| --- | --- | --- | --- | --- | --- |"]
    for (source, destination, guest, foretold, why), machines in grouped.items():
        lines.append(f"| {source} | {destination} | {guest} | {foretold} | "
                     f"{', '.join(machines)} | {why.replace('|', '/')} |")
    return "\n".join(lines)


def _counted(text: str, rows: Sequence[Measured]) -> str:
    refused = sum(row.refused for row in rows)
    return f"| {text} | {refused} | {len(rows) - refused} |"
