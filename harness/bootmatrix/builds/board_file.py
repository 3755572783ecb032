"""A board on a bench as a build: its labgrid environment file, read as a file and nothing more.

What drivers it names can do is labgrid's to know, and ``bootmatrix.machines.board``'s to ask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from bootmatrix.errors import UserError
from bootmatrix.files import yaml_file
from bootmatrix.matrix.sources import safe_name
from bootmatrix.model import BOARD_MACHINE, Arch, BoardSource, QemuBuild


def check(source: BoardSource) -> str:
    """The text of a board's environment file. Raises UserError, without a place, for none."""
    text, there = _read(source.env)
    if source.target not in there:
        raise UserError(f"{source.env} has no target {source.target!r}",
                        hint="it has: " + ", ".join(there))
    return text


def ready(source: BoardSource) -> None:
    """Raise UserError, without a place, where no board can be reached, or as ``check``."""
    check(source)
    if find_spec("labgrid") is None:
        raise without_labgrid(source)


def without_labgrid(source: BoardSource) -> UserError:
    """What is said of a board where labgrid is not installed."""
    return UserError(f"{source} is a board, which needs labgrid",
                     hint="pip install 'bootmatrix[bench]', or Debian's package labgrid")


def targets(env: Path) -> tuple[str, ...]:
    """The targets of an environment file. Raises UserError, without a place, for none."""
    return _read(env)[1]


def _read(env: Path) -> tuple[str, tuple[str, ...]]:
    """Its text, and the names of its targets."""
    try:
        text = yaml_file.read_text(env)
        tree = yaml_file.parse(env, text)
    except UserError as error:
        raise UserError(str(error)) from None
    found = tree.get("targets") if isinstance(tree, Mapping) else None
    if not isinstance(found, Mapping):
        raise UserError(f"{env} has no targets", hint="a labgrid environment file")
    return text, tuple(map(str, found))


def digest(source: BoardSource) -> str:
    """What a board is the same by, wherever its file lies. Raises UserError as ``check``."""
    return hashlib.sha256(f"{source.target}\n{check(source)}".encode()).hexdigest()


def build(source: BoardSource, arch: Arch) -> QemuBuild:
    """What stands for a board in the place of a QEMU. Raises UserError as ``check``."""
    name = safe_name(str(source))
    return QemuBuild(
        name=name,
        version=name,
        digest=digest(source),
        root=Path(),
        machines=(BOARD_MACHINE,),
        arch=arch,
        board=source,
    )
