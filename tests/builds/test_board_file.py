"""An environment file is read as a file: labgrid need not be there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.builds import board_file
from bootmatrix.errors import UserError
from bootmatrix.model import Arch, BoardSource

ENV = "targets:\n  main: {drivers: {SerialDriver: {}}}\n  other: {x: !template $BASE/y}\n"


def written(directory: Path, text: str = ENV) -> Path:
    """A file with that in it."""
    file = directory / "apu2.yaml"
    file.write_text(text)
    return file


def test_what_stands_for_it(tmp_path: Path) -> None:
    source = BoardSource(env=written(tmp_path))
    build = board_file.build(source, Arch.X86_64)
    assert (build.name, build.version, build.machines, build.board) == (
        "apu2-main", "apu2-main", ("board",), source)
    assert build.called == "board apu2-main"
    assert board_file.targets(source.env) == ("main", "other")
    other = board_file.build(BoardSource(env=source.env, target="other"), Arch.X86_64)
    assert other.digest != build.digest
    written(tmp_path, ENV + "# changed\n")
    assert board_file.build(source, Arch.X86_64).digest != build.digest


@pytest.mark.parametrize(("text", "words"), [
    (None, "cannot be read: No such file"), ("a: 1\n", "has no targets"),
    ("[]\n", "has no targets"),
    ("targets: {mine: {}}\n", "has no target 'main'"), ("targets: [\n", "apu2.yaml:"),
], ids=["missing", "other", "list", "target", "no yaml"])
def test_mistakes(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "apu2.yaml" if text is None else written(tmp_path, text)
    with pytest.raises(UserError, match=words.replace("[", r"\[")):
        board_file.check(BoardSource(env=file))


def test_labgrid_is_not_imported(tmp_path: Path) -> None:
    program = ("import sys; from pathlib import Path; from bootmatrix.builds import board_file\n"
               "from bootmatrix.model import BoardSource\n"
               "board_file.check(BoardSource(env=Path(sys.argv[1])))\n"
               "print('labgrid' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", program, written(tmp_path)], check=True,
                          capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_without_labgrid_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = BoardSource(env=written(tmp_path))
    board_file.ready(source)
    monkeypatch.setattr(board_file, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"apu2-main is a board, which needs labgrid .pip install"):
        board_file.ready(source)
