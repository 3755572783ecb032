"""``bootmatrix schema``: the shape of a matrix file, for editors."""

from __future__ import annotations

import argparse
import json

from bootmatrix.cli import options as shared
from bootmatrix.errors import Status
from bootmatrix.terminal import echo

EXAMPLES = """\
examples:
  bootmatrix schema >matrix.schema.json
"""


def add(commands: shared.Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "schema", help="print the JSON Schema of the matrix file", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES)
    parser.set_defaults(command=_schema)


def _schema(options: argparse.Namespace) -> int:
    from bootmatrix.matrix.expansion import json_schema

    echo(json.dumps(json_schema(), indent=2))
    return Status.GREEN
