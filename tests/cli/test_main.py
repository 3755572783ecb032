"""The command line finds each command, and makes an exit status of what it raised."""

from __future__ import annotations

import argparse
import platform
import re
import shlex
from argparse import Namespace
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bootmatrix
from bootmatrix import cli
from bootmatrix.cli import main as module
from bootmatrix.cli.main import COMMANDS, main
from bootmatrix.errors import HarnessError, Status, UserError
from bootmatrix.files.shipped import build

NAMES = [command.__name__.rpartition(".")[2] for command in COMMANDS]


def test_every_command_is_a_file_and_in_the_table() -> None:
    modules = [path.stem for path in Path(cli.__path__[0]).glob("[a-z]*.py")]
    with_deed = [name for name in modules if hasattr(import_module(f"bootmatrix.cli.{name}"), "add")
                 and name not in ("options", "matrices")]
    assert sorted(with_deed) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name.rstrip("_"), "--help"])  # of import_, which Python has a word for
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"usage: bootmatrix {name.rstrip('_')}")


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The commands without actions, and the actions of those that have some."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for actions in inner:
        for one in actions.choices.values():
            yield from leaves(one)
    if not inner:
        yield parser


@pytest.mark.parametrize("leaf", [*leaves(module.parser())], ids=lambda leaf: leaf.prog)
def test_every_help_has_examples_that_are_commands(leaf: argparse.ArgumentParser) -> None:
    assert leaf.epilog is not None
    shown = re.sub(r"\\\n *", "", leaf.epilog).split("examples:\n")[1].split("\n\n")[0]
    lines = [line.strip() for line in shown.splitlines()]
    assert any(leaf.prog in line for line in lines)
    for line in lines:
        # A remark stands apart; what a shell makes of the rest is not the parser's.
        command = re.split(r" {5,}| [|>]|&&", re.sub(r'^eval "\$\((.*)\)".*', r"\1", line))[0]
        words = shlex.split(command, comments=True)
        assert words[0] == "bootmatrix"
        parsed = module.parser().parse_args(words[1:words.index("--") if "--" in words else None])
        assert parsed.command is not None


def test_an_unknown_option_is_the_command_s_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["repro", "CELL", "--matrx", "m"],
         "usage: bootmatrix repro [MATRIX] CELL [options]\n"
         "bootmatrix repro: unrecognized arguments: --matrx m (near it: --matrix) "
         "(see bootmatrix repro --help)\n"),
        (["images", "list", "--jsonl"],
         "usage: bootmatrix images list [NAME ...] [options]\n"
         "bootmatrix images list: unrecognized arguments: --jsonl (near it: --json) "
         "(see bootmatrix images list --help)\n"),
        (["repro", "--attch"],  # before what is missing, as it stands there
         "usage: bootmatrix repro [MATRIX] CELL [options]\n"
         "bootmatrix repro: unrecognized arguments: --attch (near it: --attach) "
         "(see bootmatrix repro --help)\n"),
        (["gate", "new.jsonl", "--baselin=old.jsonl"],
         "usage: bootmatrix gate --baseline BASE NEW [NEW ...] [options]\n"
         "bootmatrix gate: unrecognized arguments: --baselin (near it: --baseline) "
         "(see bootmatrix gate --help)\n"),
        (["gate", "--", "--new"],
         "bootmatrix gate: the following arguments are required: NEW, --baseline "
         "(see bootmatrix gate --help)\n"),
        (["nvram", "init", "f", "--firmwre", "x"],
         "usage: bootmatrix nvram init (--qemu BUILD | --stamp VERSION) FILE [options]\n"
         "bootmatrix nvram init: unrecognized arguments: --firmwre (near it: --firmware) "
         "(see bootmatrix nvram init --help)\n"),
        (["run", "m.yaml", "--strct"],
         "usage: bootmatrix run MATRIX... [options] [-- PYTEST ...]\n"
         "bootmatrix run: unrecognized arguments: --strct (near it: --strict) "
         "(see bootmatrix run --help)\n"),
        (["schema", "x"],
         "usage: bootmatrix schema [options]\n"
         "bootmatrix schema: unrecognized arguments: x (see bootmatrix schema --help)\n"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert capsys.readouterr().err == told


def test_every_command_takes_color(capsys: pytest.CaptureFixture[str]) -> None:
    several = {"images": "list", "fwcfg": "diff", "nvram": "show", "history": "add"}
    for words in ([name, several[name]] if name in several else [name] for name in NAMES):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--color", "pink", "--help"])
        assert ended.value.code == 2
        assert "choose from" in capsys.readouterr().err


def test_a_mistake_on_the_command_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        ([], "bootmatrix: the following arguments are required: COMMAND (see bootmatrix --help)"),
        (["run", "m.yaml", "-n", "257"], "bootmatrix run: argument -n: '257' is neither a number "
         "up to 256 nor auto (see bootmatrix run --help)"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert capsys.readouterr() == ("", f"{told}\n")


def test_the_version_says_what_a_report_of_an_error_needs(
    capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert not ended.value.code
    assert capsys.readouterr().out == (
        f"bootmatrix {bootmatrix.__version__} (build {build()}), "
        f"Python {platform.python_version()}, "
        f"pytest {pytest.__version__}, in {Path(bootmatrix.__file__).parent}\n")


def planted(raised: BaseException) -> Any:
    def deed(options: Namespace) -> int:
        raise raised

    def add(commands: Any) -> None:
        commands.add_parser("planted").set_defaults(command=deed)

    return SimpleNamespace(add=add)


@pytest.mark.parametrize(("raised", "status", "text"), [
    (UserError("no such thing", hint="another"), Status.USER_ERROR, "no such thing (another)"),
    (HarnessError("it broke"), Status.RIG_BROKEN, "it broke"),
    (KeyboardInterrupt(), Status.INTERRUPTED, "interrupted"),
    (OSError(28, "No space left on device"), Status.RIG_BROKEN, "No space left on device"),
])
def test_what_a_command_raises_is_a_line_and_a_status(
    raised: BaseException, status: Status, text: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "COMMANDS", [planted(raised)])
    assert main(["planted"]) == status
    assert capsys.readouterr().err == f"bootmatrix: {text}\n"


def test_only_run_hands_words_to_pytest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--", "-x"]) == Status.USER_ERROR
    assert "only `run` hands arguments after --" in capsys.readouterr().err
