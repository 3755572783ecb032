"""Options that several commands have, and the cell that some of them mean."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bootmatrix.engines import ENGINES
from bootmatrix.errors import UserError
from bootmatrix.run.options import Option

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.cell import Cell

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
QUICKSTART = Path("matrices/quickstart.yaml")


def add(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Add options of a run."""
    for option in options:
        parser.add_argument(option.flag, dest=option.name, help=option.help, **option.how)


def add_engine(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--engine``; what it is about, and its default, differ."""
    parser.add_argument("--engine", choices=tuple(ENGINES), help=text)


def add_own_builds(parser: argparse.ArgumentParser) -> None:
    """Add ``--qemu`` and ``--firmware`` for builds of the user's own."""
    for kind, what in (("qemu", "a QEMU"), ("firmware", "a firmware image")):
        parser.add_argument(f"--{kind}", metavar="NAME=PATH", action="append", default=[],
                            help=f"{what} of your own, as `bootmatrix run --{kind}`")


def add_cell(parser: argparse.ArgumentParser, *, positional: bool) -> None:
    """Add the arguments that say which cell is meant."""
    text = "the id of the cell (with --records also MATRIX::ID)"
    if positional:
        parser.add_argument("cell", metavar="CELL", help=text)
    else:
        parser.add_argument("--cell", metavar="CELL", required=True, help=text)
    parser.add_argument("--matrix", metavar="FILE", type=Path,
                        help=f"the matrix that has the cell (default: {QUICKSTART})")
    parser.add_argument("--records", metavar="FILE", type=Path,
                        help="a records file that has the cell, in place of a matrix")
    add_own_builds(parser)


def cell_of(options: argparse.Namespace, builds: Builds) -> Cell:
    """The cell that the arguments mean. Raises UserError."""
    from bootmatrix.diagnose.lookup import from_matrix, from_records
    from bootmatrix.matrix.sources import parse

    if options.records is not None:
        if options.matrix is not None:
            raise UserError("--records and --matrix exclude each other")
        return from_records(options.cell, options.records, builds)
    given = parse(options.qemu, options.firmware, [])
    return from_matrix(options.cell, options.matrix or QUICKSTART, builds, given)
