"""``bootmatrix repro``: a cell in your own hands, as a shell script or with its guest's console.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from bootmatrix.cli.options import Commands, add_cell, add_engine, cell_of
from bootmatrix.errors import Status, UserError
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.cell import Cell

NOTES = """\
The script needs no harness: bash, socat, the QEMUs (those in the cache, or your own), and gdb
where the policy replaces firmware at a reset. With --attach the cell is run up to a step, and
you get the guest's console; Ctrl-] ends it all, and nothing is left.

examples:
  bootmatrix repro bullseye-to-sid,pc-q35-5.2,stock,migrate-reset,ahci > repro.sh && bash repro.sh
  bootmatrix repro matrices/uefi.yaml CELL > repro.sh
  bootmatrix repro latest CELL > repro.sh
  bootmatrix repro --attach CELL --until migrate
  bootmatrix repro --attach CELL --until reset:2      the second reset; or a step's number
"""


def add(commands: Commands) -> None:
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
    add_engine(parser, "with --attach: where QEMUs run (default: bubblewrap where it works)")


def _repro(options: argparse.Namespace) -> int:
    from bootmatrix.builds import image_store
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.diagnose import reproduction
    from bootmatrix.machines.setup import setup_of
    from bootmatrix.model import Tpm

    if not options.attach and (options.until or options.engine):
        raise UserError("--until and --engine are for --attach", hint="a script does all steps")
    with Builds(ImageStore()) as builds:
        cell = cell_of(options, builds)
        if options.attach:
            return _attach(options, cell, builds)
        if cell.tpm is not Tpm.NONE:
            raise UserError(f"{cell.id} has a TPM, and a script starts no swtpm",
                            hint="--attach does so")
        hosts = [builds.host(spec) for spec in cell.hosts]
        echo(reproduction.script(cell, setup_of(cell, hosts, image_store.cache_home())), end="")
    return Status.GREEN


def _attach(options: argparse.Namespace, cell: Cell, builds: Builds) -> int:
    from bootmatrix.diagnose import attach
    from bootmatrix.engines import choose_for_a_look
    from bootmatrix.files.cell_files import temporary

    steps = attach.steps_until(cell, options.until)
    with (
        choose_for_a_look(options.engine) as engine,
        # Short: a unix socket's address takes 107 bytes.
        temporary("bootmatrix-") as directory,
        attach.attached(cell, steps, builds, engine, directory) as guest,
    ):
        for number, seen in enumerate(guest.seen, 1):
            text = str(seen.refusal) if seen.refusal else "done"
            if seen.boot is not None:
                up = "up" if seen.boot.up else f"not up within {seen.boot.limit:.0f} s"
                text = f"{', '.join(seen.boot.banners) or 'no banner'}; the guest is {up}"
            _at_once(f"step {number}, {seen.step.kind}: {text}")
        _at_once(f"monitor: socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:{guest.monitor}")
        _at_once(f"gdb:     gdb -ex 'target remote {guest.gdb}'" if guest.gdb else
             "gdb:     QEMU's one stub is taken by the firmware swap of this policy")
        _at_once("console: here; Ctrl-] detaches and ends the guest. What it has said:")
        sys.stdout.write(guest.so_far)
        sys.stdout.flush()
        attach.converse(guest.console, _at_once)
    _at_once("\nended; nothing is left")
    return Status.GREEN


def _at_once(text: str) -> None:
    echo(text, flush=True)
