"""``bootmatrix completion``: what a shell needs to complete commands, options, files and names.

argcomplete does it: the shell runs bootmatrix anew at each Tab, and ``complete`` answers.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from typing import Any

from bootmatrix.cli import options as shared
from bootmatrix.errors import HarnessError, Status, UserError
from bootmatrix.terminal import echo

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """\
examples:
  eval "$(bootmatrix completion bash)"         # in ~/.bashrc; in ~/.zshrc with zsh, after compinit
  bootmatrix completion fish > ~/.config/fish/completions/bootmatrix.fish
"""


def add(commands: shared.Commands) -> None:
    """Add the command to bootmatrix's."""
    parser = commands.add_parser(
        "completion", help="print what a shell needs to complete commands, options and names",
        allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES)
    parser.set_defaults(command=_completion)
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def _completion(options: argparse.Namespace) -> int:
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise UserError("completion needs the package argcomplete",
                        hint="pip install 'bootmatrix[completion]'") from None
    echo(shellcode(["bootmatrix"], shell=options.shell))
    return Status.GREEN


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks, and end; return where none does."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete
    from argcomplete.completers import FilesCompleter

    matrix_files = FilesCompleter(("yaml", "yml"))
    for action in _actions(parser):
        completer = _by_name(action)
        if completer is None and action.dest in ("matrices", "matrix", "where"):
            completer = matrix_files
        if completer is not None:
            action.completer = completer  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options="long")


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from _actions(command)


def _by_name(action: argparse.Action) -> Callable[..., list[str]] | None:
    """What completes a name that is no file's."""
    if action.dest == "cell":
        return _cells
    if action.metavar == "BUILD" or action.dest == "names":
        return _builds
    if action.dest == "name":
        return _shipped
    return None


def _cells(parsed_args: argparse.Namespace, **asked: Any) -> list[str]:
    """The ids of the matrices' cells; none where a file or an image is not there."""
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.matrix.expansion import load

    named = getattr(parsed_args, "matrices", None) or [
        getattr(parsed_args, "matrix", None) or getattr(parsed_args, "where", None)
        or shared.QUICKSTART]
    builds = Builds(ImageStore())
    found: list[str] = []
    for path in named:
        try:
            found += [cell.id for cell in load(path).cells(builds.machines_as_built)]
        except (UserError, HarnessError):
            continue
    return found


def _builds(**asked: Any) -> list[str]:
    from bootmatrix.builds.image_store import ImageStore

    return list(ImageStore().names(None))


def _shipped(**asked: Any) -> list[str]:
    from bootmatrix.files.shipped import MATRICES

    return [path.stem for path in MATRICES.glob("*.yaml")]
