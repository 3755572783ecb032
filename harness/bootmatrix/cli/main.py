"""The command line: finds the command, runs it, and makes an exit status of what it raised.

A command is a file of this package, which adds its options and its deed, and a line in COMMANDS.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bootmatrix.cli import (
    bench,
    bisect,
    completion,
    doctor,
    explore,
    fwcfg,
    gate,
    history,
    images,
    import_,
    list,  # as the command is called
    matrix,
    nvram,
    preflight,
    report,
    repro,
    run,
    schema,
    vault,
    worker,
)
from bootmatrix.cli.options import add_color
from bootmatrix.ending import asked_to_end
from bootmatrix.errors import Status, UserError, in_a_line
from bootmatrix.output import Outputs
from bootmatrix.terminal import echo, visible

COMMANDS = (run, explore, worker, list, vault, import_, images, doctor, bench, fwcfg, nvram,
            preflight, repro, bisect, report, gate, history, matrix, schema,
            completion)  # fmt: skip
"""In the order of ``bootmatrix --help``."""

EXAMPLES = """\
examples:
  bootmatrix run matrices/quickstart.yaml
  bootmatrix run matrices/quickstart.yaml -k "q35 and guest-owned" -n 2
  bootmatrix list matrices/quickstart.yaml -k "not stock"
  bootmatrix images list
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status, which does not depend on who reads what it prints."""
    with Outputs() as outputs:
        return outputs.status(_run_command(sys.argv[1:] if arguments is None else arguments))


def _run_command(arguments: Sequence[str]) -> int:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    words = parser()
    completion.complete(words)
    options = words.parse_args(arguments[:cut])
    if for_pytest := arguments[cut + 1:]:
        if "pytest_arguments" not in options:
            return _complain("only `run` hands arguments after -- to pytest", Status.USER_ERROR)
        options.pytest_arguments = for_pytest
    try:
        _check_directory()
        _check_words(arguments)
        command: Callable[[argparse.Namespace], int] = options.command
        status = command(options)
        if status in (Status.GREEN, Status.INTERRUPTED) or not asked_to_end():
            return status
    except KeyboardInterrupt:
        pass
    except Exception as error:
        if not asked_to_end():
            return _complain(*in_a_line(error))
    return _complain("interrupted", Status.INTERRUPTED)


def _check_directory() -> None:
    """Raise UserError where there is no current directory any more."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the current directory is gone", hint="cd to another one") from None


def _check_words(argv: Sequence[str]) -> None:
    """Raise UserError for what no shell can hand over, but a Python program that calls main."""
    if any("\0" in word for word in argv):
        raise UserError("an argument has a NUL in it", hint="no path and no name can")


def _complain(text: str, status: int) -> int:
    echo(f"bootmatrix: {text}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Its complaints are a line, as all others are, and repeat what was given.

    Above what it does not know it says, in another line, what it takes.
    """

    _words: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        # What is missing stands in the place of a mistyped option, as often as not.
        if message.startswith(("the following arguments are required", "one of the arguments ")):
            ours = [word.partition("=")[0] for word in itertools.takewhile("--".__ne__, self._words)
                    if word.startswith("--")]
            unknown = [word for word in ours if word not in self._option_string_actions]
            if unknown:
                self._refuse(unknown)
        self._end(message)

    def _end(self, message: str) -> NoReturn:
        self.exit(Status.USER_ERROR, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, Any]:
        """As all do, but who does not know a word says so: the command, not bootmatrix."""
        self._words = sys.argv[1:] if args is None else tuple(args)
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown)
        return namespace, unknown

    def _refuse(self, words: Sequence[str]) -> NoReturn:
        from difflib import get_close_matches

        names = [option[2:] for option in self._option_string_actions if option[:2] == "--"]
        near = get_close_matches(words[0][2:].partition("=")[0], names, 1, 0.7)
        self._print_message(self._usage_line(), sys.stderr)
        self._end("unrecognized arguments: " + " ".join(words) + "".join(
            f" (near it: --{name})" for name in near))

    def _usage_line(self) -> str:
        """The usage with what must be given alone: with all options it is many lines."""
        groups = [group for group in self._mutually_exclusive_groups if group.required]
        needed = [action for action in self._actions if action.required or not action.option_strings
                  or any(action in group._group_actions for group in groups)]
        formatter = argparse.HelpFormatter(self.prog, width=10_000)
        formatter.add_usage(self.usage, needed, groups)
        more = " [options]" * (self.usage is None and len(needed) < len(self._actions))
        return f"{formatter.format_help().strip()}{more}\n"

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(visible(message), file)


class _Version(argparse.Action):
    """Prints what a report of an error needs to say of this program."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        """Print it, and end."""
        import platform
        from importlib.metadata import version

        import bootmatrix
        from bootmatrix.files.shipped import build

        echo(f"bootmatrix {bootmatrix.__version__} (build {build()}), "
             f"Python {platform.python_version()}, "
             f"pytest {version('pytest')}, in {Path(bootmatrix.__file__).parent}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="bootmatrix", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
        allow_abbrev=False,
        description="Which firmware runs after a QEMU guest was migrated and reset? Run a matrix "
                    "of hosts, machine types and policies, and see.")
    parser.add_argument("--version", action=_Version, nargs=0,
                        help="the version, what it runs on, and where it is")
    commands: Any = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    _add_color(commands)
    _hand_down(commands)
    return parser


def _hand_down(commands: Any) -> None:
    """Give each action of a command those of the command's examples that are its own."""
    for command in commands.choices.values():
        for actions in command._actions:
            if isinstance(actions, argparse._SubParsersAction):
                for action in actions.choices.values():
                    own = re.findall(rf"^  {action.prog}\b.*(?:\n      .*)*", command.epilog, re.M)
                    action.epilog = "\n".join(("examples:", *own))
                    action.formatter_class = argparse.RawDescriptionHelpFormatter


def _add_color(commands: Any) -> None:
    """Add ``--color`` to each command, and to each action of those that have several."""
    for command in commands.choices.values():
        inner = [action for action in command._actions
                 if isinstance(action, argparse._SubParsersAction)]
        for actions in inner:
            _add_color(actions)
        if not inner:
            add_color(command)
