"""Options that several commands have, and the cell that some of them mean."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bootmatrix.engines import ENGINES
from bootmatrix.errors import UserError
from bootmatrix.matrix import SUFFIXES
from bootmatrix.run.options import Option
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.cell import Cell
    from bootmatrix.model import QemuBuild, QemuSource

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
A_RUN = "a file of run records, a run's directory, or `latest`"
"""How each command can be given a run."""
QemuName: TypeAlias = "str | QemuSource"
"""A QEMU of the catalogue by its name, or one of the user's own."""
QUICKSTART = Path("matrices/quickstart.yaml")


def add(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Add options of a run."""
    for option in options:
        parser.add_argument(option.flag, dest=option.name, help=option.help, **option.how)


def add_color(parser: argparse.ArgumentParser) -> None:
    """Add ``--color``: every command has it, and what has no colours takes it as it is."""
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto",
                        help="auto, the default: in a terminal, and where NO_COLOR is not set")


def coloured(choice: str) -> bool:
    """What it means for standard output."""
    if choice == "auto":
        return sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return choice == "always"


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
    text = "the id of the cell (in a run also MATRIX::ID)"
    parser.add_argument("where", metavar="MATRIX", nargs="?", type=Path,
                        help=f"as --matrix or --records: a matrix file, or {A_RUN}")
    if positional:
        parser.add_argument("cell", metavar="CELL", help=text)
    else:
        parser.add_argument("positional", metavar="CELL", nargs="?", help=text)
        parser.add_argument("--cell", metavar="CELL", help="the same")
    parser.add_argument("--matrix", metavar="FILE", type=Path,
                        help=f"the matrix that has the cell (default: {QUICKSTART})")
    parser.add_argument("--records", metavar="RUN", type=Path,
                        help=f"what has the cell in place of a matrix: {A_RUN}")
    add_own_builds(parser)


def qemus_of(texts: Sequence[str], definitions: Sequence[str] = ()) -> dict[str, QemuName]:
    """The QEMUs that a command line names, by name: ``NAME``, or ``NAME=SOURCE`` at once.

    A NAME is the catalogue's, or one of the ``definitions``, each NAME=SOURCE as with
    `bootmatrix run --qemu`. Raises UserError, also for one that is named twice.
    """
    from bootmatrix.matrix.sources import parse

    given = parse([*definitions, *(text for text in texts if "=" in text)], [], []).qemu
    for name in given:
        if name not in (text.partition("=")[0] for text in texts):
            raise UserError(f"--qemu {name}=...: nothing that is looked at is called so",
                            hint=f"give {name} as a BUILD, too")
    found: dict[str, QemuName] = {}
    for name in (text.partition("=")[0] for text in texts):
        if name in found:
            raise UserError(f"{name} is given twice")
        found[name] = given.get(name, name)
    return found


def check_default(given: Path, default: Path, option: str) -> None:
    """Raise UserError for a link at the default name: a stranger's, in a checkout."""
    if given == default and given.is_symlink():
        raise UserError("is a symbolic link", file=given, hint=f"{option} says which is meant")


def tell(line: str) -> None:
    """Say at once what is going on, beside what is asked for."""
    echo(line, file=sys.stderr, flush=True)


def cell_of(options: argparse.Namespace, builds: Builds) -> Cell:
    """The cell that the arguments mean. Raises UserError."""
    from bootmatrix.diagnose.lookup import from_matrix, from_records
    from bootmatrix.matrix.sources import parse
    from bootmatrix.run.directory import records_of

    where, cell = words_of(options)
    if len(ways := [way for way in (where, options.matrix, options.records) if way]) > 1:
        raise UserError(f"{ways[0]} and {ways[1]}: a cell is of one",
                        hint="a matrix, or a run, once")
    if not ways and Path(cell).exists():
        raise UserError(f"{cell} is a file or a directory, and no cell",
                        hint=f"which cell of it? {cell} CELL")
    if where is not None and where.suffix.lower() not in SUFFIXES:
        options.records = where
    if options.records is not None:
        return from_records(cell, records_of(options.records), builds)
    given = parse(options.qemu, options.firmware, [])
    return from_matrix(cell, options.matrix or where or QUICKSTART, builds, given)


def words_of(options: argparse.Namespace) -> tuple[Path | None, str]:
    """The matrix or the run, if one stands before the cell, and the cell. Raises UserError."""
    words = [word for word in (options.where, getattr(options, "positional", None),
                               options.cell) if word is not None]
    if not words or len(words) > 2:
        raise UserError("which cell?" if not words else "a cell is given twice",
                        hint="CELL, MATRIX CELL or --cell CELL")
    return (Path(words[0]) if len(words) == 2 else None), str(words[-1])


def no_machine(machine: str, builds: Sequence[QemuBuild]) -> UserError:
    """What to say of a machine type that none of these QEMUs has."""
    from difflib import get_close_matches

    there = list(dict.fromkeys(name for build in builds for name in build.machines))
    close = [name for name in there if machine in name][:3] or \
        get_close_matches(machine, there, n=3)
    whose = " or ".join(build.name for build in builds)
    return UserError(f"{whose} has no machine type {machine!r}",
                     hint="near it: " + ", ".join(close) if close else
                     f"it has {', '.join(there[:3])}, and {len(there) - 3} more")
