"""``bootmatrix repro``: a cell in your own hands, as a shell script or with its guest's console.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.builds import Builds
    from harness.model import Cell

QUICKSTART = Path("matrices/quickstart.yaml")
NOTES = """\
The script needs no harness: bash, socat, the QEMUs (those in the cache, or your own), and gdb
where the policy replaces firmware at a reset. With --attach the cell is run up to a step, and
you get the guest's console; Ctrl-] ends it all, and nothing is left.

examples:
  bootmatrix repro bullseye-to-sid,pc-q35-5.2,stock,migrate-reset,ahci > repro.sh && bash repro.sh
  bootmatrix repro CELL --records runs/2026-11-24T14-08-36/records.jsonl
  bootmatrix repro --attach CELL --until migrate
  bootmatrix repro --attach CELL --until reset:2      the second reset; or a step's number
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "repro", help="a cell as a shell script, or with its console in your hands",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=NOTES, allow_abbrev=False)
    parser.set_defaults(command=_repro)
    add_cell(parser, positional=True)
    parser.add_argument("--attach", action="store_true",
                        help="run the cell, then give me the console (Ctrl-] ends it)")
    parser.add_argument("--until", metavar="STEP",
                        help="with --attach: the last step to run, by name or number "
                             "(default: the scenario's last)")
    parser.add_argument("--engine", choices=("docker", "bubblewrap"),
                        help="with --attach: where QEMUs run (default: bubblewrap)")


def add_cell(parser: argparse.ArgumentParser, *, positional: bool) -> None:
    """Add the arguments that say which cell is meant."""
    if positional:
        parser.add_argument("cell", metavar="CELL", help="the id of the cell")
    else:
        parser.add_argument("--cell", metavar="CELL", required=True, help="the id of the cell")
    parser.add_argument("--matrix", metavar="FILE", type=Path,
                        help=f"the matrix that has the cell (default: {QUICKSTART})")
    parser.add_argument("--records", metavar="FILE", type=Path,
                        help="a records file that has the cell, in place of a matrix")
    for kind, text in (("qemu", "a QEMU"), ("firmware", "a firmware image")):
        parser.add_argument(f"--{kind}", metavar="NAME=PATH", action="append", default=[],
                            help=f"{text} of your own, as `bootmatrix run --{kind}`")


def chosen(options: argparse.Namespace, builds: Builds) -> Cell:
    """The cell that the arguments mean. Raises UserError."""
    from harness.chosen import from_matrix, from_records
    from harness.sources import parse

    if options.records is not None:
        if options.matrix is not None:
            raise UserError("--records and --matrix exclude each other")
        return from_records(options.cell, options.records, builds)
    given = parse(options.qemu, options.firmware, [])
    return from_matrix(options.cell, options.matrix or QUICKSTART, builds, given)


def _repro(options: argparse.Namespace) -> int:
    from harness import images, repro
    from harness.builds import Builds
    from harness.guest_files import setup_of
    from harness.images import ImageStore

    if not options.attach and (options.until or options.engine):
        raise UserError("--until and --engine are for --attach", hint="a script does all steps")
    with Builds(ImageStore()) as builds:
        cell = chosen(options, builds)
        if options.attach:
            return _attach(options, cell, builds)
        hosts = [builds.host(spec) for spec in cell.hosts]
        print(repro.script(cell, setup_of(cell, hosts, images.cache_home())), end="")
    return 0


def _attach(options: argparse.Namespace, cell: Cell, builds: Builds) -> int:
    import signal
    import tempfile

    from harness import attach
    from harness.engines import choose

    for wish in (signal.SIGTERM, signal.SIGHUP):  # end as tidily as by Ctrl-C
        signal.signal(wish, signal.default_int_handler)
    steps = attach.steps_until(cell, options.until)
    with (
        choose(options.engine or "bubblewrap") as engine,
        # Short: a unix socket's address takes 107 bytes.
        tempfile.TemporaryDirectory(prefix="bootmatrix-") as directory,
        attach.attached(cell, steps, builds, engine, Path(directory)) as guest,
    ):
        for number, seen in enumerate(guest.seen, 1):
            told = str(seen.refusal) if seen.refusal else "done"
            if seen.boot is not None:
                up = "up" if seen.boot.up else f"not up within {seen.boot.limit:.0f} s"
                told = f"{', '.join(seen.boot.banners) or 'no banner'}; the guest is {up}"
            _say(f"step {number}, {seen.step.kind.value}: {told}")
        _say(f"monitor: socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:{guest.monitor}")
        _say(f"gdb:     gdb -ex 'target remote {guest.gdb}'" if guest.gdb else
             "gdb:     QEMU's one stub is taken by the firmware swap of this policy")
        _say("console: here; Ctrl-] detaches and ends the guest. What it has said:")
        sys.stdout.write(guest.so_far)
        sys.stdout.flush()
        attach.converse(guest.console, _say)
    _say("\nended; nothing is left")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)
