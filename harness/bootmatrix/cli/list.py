"""``bootmatrix list``: a matrix's cells; nothing is started.

What a command needs is imported when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bootmatrix.cli import matrices
from bootmatrix.cli import options as shared
from bootmatrix.errors import Status
from bootmatrix.records.words import plural
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.cell import Cell


EXAMPLES = """\
examples:
  bootmatrix list matrices/quickstart.yaml
  bootmatrix list matrices/quickstart.yaml -k "q35 and not stock" --json
  bootmatrix list matrices/quickstart.yaml --strict
"""


def add(commands: shared.Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "list", help="show a matrix's cells, ids and counts; nothing is started",
        allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES)
    parser.set_defaults(command=_list)
    matrices.add(parser)
    matrices.add_strict(parser, "exit status 1 if an entry of exclude, include or known matches "
                                "no cell; else it is a warning")
    parser.add_argument("--json", action="store_true", help="the cells as JSON")


def _list(options: argparse.Namespace) -> int:
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore

    builds = Builds(ImageStore())
    read = matrices.read(options, builds)
    cells = [cell for matrix in read for cell in matrix.cells(builds.machines_as_built)]
    idle = matrices.warn_of_idle(
        error for matrix in read for error in matrix.idle(builds.machines_as_built))
    status = Status.RED if idle and options.strict else Status.GREEN
    if options.keyword or options.marker:
        cells = matrices.selected(options, read)
    if options.json:
        echo(json.dumps([_cell_json(cell) for cell in cells], indent=1))
        return status
    for cell in cells:
        echo(cell.id)
    echo(f"\n{plural(len(cells), 'cell')}")
    for axis, counts in _counts(cells).items():
        texts = [f"{name} {n}".replace(" ", "\0") for name, n in counts.items()]
        # A value is not broken over lines.
        echo(textwrap.fill(
            f"{axis + ':':<10} " + ", ".join(texts), shutil.get_terminal_size((100, 24)).columns,
            initial_indent="  ", subsequent_indent=" " * 13, break_long_words=False,
            break_on_hyphens=False).replace("\0", " "))
    return status


def _cell_json(cell: Cell) -> dict[str, Any]:

    return {
        "id": cell.id,
        "hosts": [{"host": host.name, "qemu": str(host.qemu),
                   "firmware": str(host.firmware) if host.firmware else None}
                  for host in cell.hosts],
    } | cell.values


def _counts(cells: Sequence[Cell]) -> dict[str, Counter[str]]:
    """How many cells have each value of each axis; axes that need no word are left out."""
    from bootmatrix.matrix import axes

    counts: dict[str, Counter[str]] = {}
    for cell in cells:
        moves = " → ".join(host.name for host in cell.hosts)
        for axis, value in ({"hosts": moves} | cell.values).items():
            counts.setdefault(axis, Counter())[str(value) or "default"] += 1
    named = {*axes.telling(cell.values for cell in cells), "disk", "accel"}
    return {axis: values for axis, values in counts.items()
            if axis not in axes.DEFAULTS or axis in named}
