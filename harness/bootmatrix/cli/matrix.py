"""``bootmatrix matrix``: the matrices that come with bootmatrix, to begin one's own with."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap

from bootmatrix.cli import options as shared
from bootmatrix.errors import Status, UserError
from bootmatrix.files.shipped import MATRICES
from bootmatrix.terminal import echo

EXAMPLES = """\
examples:
  bootmatrix matrix
  bootmatrix matrix quickstart >matrices/quickstart.yaml
"""


def add(commands: shared.Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "matrix", help="the matrices that come with bootmatrix: their names, or one of them",
        allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES)
    parser.set_defaults(command=_matrix)
    parser.add_argument("name", metavar="NAME", nargs="?",
                        help="print this one (default: each name, with what the matrix asks)")


def _matrix(options: argparse.Namespace) -> int:
    there = {path.stem: path for path in sorted(MATRICES.glob("*.yaml"))}
    if options.name is None:
        width = max(map(len, there))
        for name, path in there.items():
            echo(textwrap.fill(
                _question(path.read_text()), shutil.get_terminal_size((100, 24)).columns,
                initial_indent=f"{name:<{width}}  ", subsequent_indent=" " * (width + 2)))
        return Status.GREEN
    if options.name not in there:
        raise UserError(f"no matrix {options.name!r} comes with bootmatrix",
                        hint=f"these do: {', '.join(there)}")
    echo(there[options.name].read_text(), end="")
    return Status.GREEN


def _question(text: str) -> str:
    """The sentence that a matrix begins with."""
    comment = " ".join(line.removeprefix("#").strip() for line in text.splitlines()[:5])
    return re.split(r"(?<=[.?]) ", comment)[0]
