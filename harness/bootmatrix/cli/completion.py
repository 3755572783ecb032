"""``bootmatrix completion``: what a shell needs to complete commands, options, files and names.

argcomplete does it: the shell runs bootmatrix anew at each Tab, and ``complete`` answers.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bootmatrix.cli import options as shared
from bootmatrix.errors import HarnessError, Status, UserError
from bootmatrix.matrix import SUFFIXES
from bootmatrix.terminal import echo

if TYPE_CHECKING:
    from bootmatrix.cell import Cell

Completer: TypeAlias = "Callable[..., list[str]]"
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

    # A matrix's file, a run's directory or its records: those that take either are told by dest.
    matrices = FilesCompleter(("yaml", "yml"))
    runs = _both(_latest, FilesCompleter())
    for action in _actions(parser):
        completer = _by_name(action)
        if action.dest == "cell" and not action.option_strings:
            action.nargs = "?"  # a word that stands alone may be the matrix before it
        if completer is None and action.dest in ("matrices", "matrix"):
            completer = matrices
        elif completer is None and action.dest == "where":
            completer = _both(_cells, _latest, matrices)
        elif action.metavar == "IMAGE" and action.dest in ("firmware", "image"):
            completer = _both(_images, FilesCompleter())
        elif completer is None and action.dest in ("records", "resume", "baseline"):
            completer = runs
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


def _by_name(action: argparse.Action) -> Completer | None:
    """What completes a name that is no file's."""
    if action.dest in ("cell", "positional"):
        return _cells
    if action.metavar == "BUILD" or action.dest == "names":
        removed = action.nargs == "+"  # all others do something to each build where none is named
        return _both(_builds, _own) if removed else _builds
    if action.metavar == "QEMU[/FIRMWARE]":
        return _hosts
    if action.dest == "until":
        return _steps
    if action.dest in ("good", "bad"):
        return _candidates
    if action.dest == "name":
        return _shipped
    return None


def _both(*completers: Completer) -> Completer:
    """What any of them knows."""
    return lambda **asked: [name for completer in completers for name in completer(**asked)]


def _latest(**asked: Any) -> list[str]:
    return ["latest"]


def _cells(parsed_args: argparse.Namespace, **asked: Any) -> list[str]:
    """The ids of the cells that the words before mean: a matrix's, a run's, or a history's.

    None where a file or an image is not there.
    """
    try:
        if (history := getattr(parsed_args, "db", None)) is not None:
            from bootmatrix.cli.history import opened

            with opened(history) as there:
                return there.names()
        run = getattr(parsed_args, "records", None)
        where = getattr(parsed_args, "where", None)
        if where is not None and Path(where).suffix.lower() not in SUFFIXES:
            run, where = where, None
        if run is not None:
            from bootmatrix.records.jsonl import read_records
            from bootmatrix.records.words import called
            from bootmatrix.run.directory import records_of

            return [called(record) for record in read_records(records_of(Path(run)))]
        named = getattr(parsed_args, "matrices", None) or [
            getattr(parsed_args, "matrix", None) or where or shared.QUICKSTART]
        return _of_matrices(named)
    except (UserError, HarnessError):
        return []


def _of_matrices(paths: Sequence[Path]) -> list[str]:
    return [cell.id for path in paths for cell in _cells_of(path)]


def _cells_of(path: Path) -> Sequence[Cell]:
    """The cells of a matrix; none where a file or an image is not there."""
    from bootmatrix.builds.host import Builds
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.matrix.expansion import load

    with suppress(UserError, HarnessError):
        return load(path).cells(Builds(ImageStore()).machines_as_built)
    return ()


def _hosts(prefix: str, parsed_args: argparse.Namespace, **asked: Any) -> list[str]:
    """The hosts of the matrices that were named, and QEMU builds; behind a slash firmware."""
    from bootmatrix.matrix.expansion import load

    qemu, slash, _ = prefix.partition("/")
    if slash:
        return [f"{qemu}/{name}" for name in _firmware()]
    found: list[str] = []
    for path in getattr(parsed_args, "matrices", None) or ():
        with suppress(UserError):
            found += [host.name for host in load(path).hosts]
    return [*dict.fromkeys([*found, *_builds()])]


def _candidates(parsed_args: argparse.Namespace, **asked: Any) -> list[str]:
    """The ends of a bisection, where they are the catalogue's."""
    if getattr(parsed_args, "over", None) == "firmware":
        return _firmware()
    return _builds()


def _firmware() -> list[str]:
    from bootmatrix.builds.image_store import ImageStore

    return [firmware.name for firmware in ImageStore().firmwares()]


def _images(**asked: Any) -> list[str]:
    """Firmware by its name, with a version or without."""
    from bootmatrix.builds.image_store import ImageStore

    return [*ImageStore().kinds(), *_firmware()]


def _steps(parsed_args: argparse.Namespace, **asked: Any) -> list[str]:
    """The steps of the cell that was named, as far as a matrix has it; a second one is NAME:2."""
    from bootmatrix.steps import STEPS

    with suppress(UserError):  # no cell was named
        where, wanted = shared.words_of(parsed_args)
        path = parsed_args.matrix or where or shared.QUICKSTART
        if path.suffix.lower() in SUFFIXES:
            for cell in _cells_of(path):
                if cell.id == wanted:
                    names = [step.kind for step in cell.scenario.steps]
                    return [name if (nth := names[:at].count(name)) == 0 else f"{name}:{nth + 1}"
                            for at, name in enumerate(names)]
    return [*STEPS]


def _builds(**asked: Any) -> list[str]:
    from bootmatrix.builds.image_store import ImageStore

    return list(ImageStore().names(None))


def _own(**asked: Any) -> list[str]:
    """Copies of builds of one's own have no names: `images rm` takes them together."""
    from bootmatrix.builds.image_store import OWN_BUILDS

    return [OWN_BUILDS]


def _shipped(**asked: Any) -> list[str]:
    from bootmatrix.files.shipped import MATRICES

    return [path.stem for path in MATRICES.glob("*.yaml")]
