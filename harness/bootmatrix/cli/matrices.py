"""The matrices that ``run`` and ``list`` are given, and the cells that pytest selects of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import options as shared
from bootmatrix.errors import UserError
from bootmatrix.files.shipped import MATRICES
from bootmatrix.matrix import SUFFIXES
from bootmatrix.run.options import SELECTION
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.builds.host import Builds
    from bootmatrix.cell import Cell
    from bootmatrix.matrix.expansion import Matrix


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name matrices, and cells of them."""
    parser.add_argument("matrices", metavar="MATRIX", nargs="+", type=Path,
                        help="a matrix file (YAML)")
    shared.add(parser, SELECTION)


def read(options: argparse.Namespace, builds: Builds) -> list[Matrix]:
    """The matrices, whose builds can be. Raises UserError."""
    from bootmatrix.matrix.expansion import load
    from bootmatrix.matrix.sources import parse

    for path in options.matrices:
        _check_name(path)
    given = parse(options.qemu, options.firmware, options.host)
    matrices = [load(path, given) for path in options.matrices]
    given.check_meant()
    for matrix in matrices:
        builds.check(matrix.used_hosts, matrix.place)
    return matrices


def _check_name(path: Path) -> None:
    """Raise UserError for a file that is not there, or that pytest could not be told of."""
    if not path.exists():
        shipped = (MATRICES / path.name).is_file()
        raise UserError("no such matrix file", file=path,
                        hint=f"`bootmatrix matrix {path.stem}` prints it" if shipped else "")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError("is no name of a matrix file", file=path,
                        hint="it ends in " + ", ".join(SUFFIXES))
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise UserError("the path of a matrix file must be UTF-8", file=path,
                        hint="give it another name") from None
    if str(path).startswith(("-", "@")):
        raise UserError("to pytest - and @ at its beginning make a word an option", file=path,
                        hint="give it another name")
    if "::" in str(path) or "[" in str(path):
        raise UserError("to pytest :: and [ in a path begin the name of a test", file=path,
                        hint="cd to the file's directory, or give it another name")


def add_strict(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--strict``."""
    parser.add_argument("--strict", action="store_true", help=text)


def warn_of_idle(errors: Iterable[UserError]) -> bool:
    """Tell of entries that match nothing; whether there are any."""
    found = False
    for error in errors:
        echo(f"bootmatrix: warning: {error}", file=sys.stderr)
        found = True
    return found


def selection_words(options: argparse.Namespace) -> list[str]:
    """What is selected, as pytest is given it."""
    return [word for option in SELECTION for word in option.words(getattr(options, option.name))]


def selection_flags(options: argparse.Namespace) -> list[str]:
    """What is selected, as this command is given it."""
    return [word for option in SELECTION
            for word in option.words(getattr(options, option.name), option.flag)]


def selected(options: argparse.Namespace, matrices: Sequence[Matrix]) -> list[Cell]:
    """The cells that pytest itself selects by -k and -m."""
    return collected([*map(str, options.matrices), *selection_words(options)], matrices)


def collected(arguments: Sequence[str], matrices: Sequence[Matrix] = ()) -> list[Cell]:
    """The cells that pytest collects when it is called so. Raises UserError as pytest words it."""
    import contextlib
    import io

    from bootmatrix.plugin.session import Selection, run_pytest

    selection = Selection()
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        # Its faulthandler needs a real stderr, which somebody may have closed.
        code = run_pytest(["-p", "no:faulthandler", "--collect-only", "-q", *arguments], matrices,
                          selection)
    if selection.interrupted:
        raise KeyboardInterrupt
    if code not in (0, 5):
        text = errors.getvalue().strip() or out.getvalue().strip()
        if text.startswith("usage:"):
            text = text.splitlines()[-1]
        raise UserError(text.removeprefix("ERROR: "))
    return selection.cells
