"""Options that several commands have, and the cell that they mean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cli import options as shared
from bootmatrix.diagnose import lookup
from bootmatrix.engines import ENGINES
from bootmatrix.errors import UserError
from bootmatrix.run.options import RUN


def parsed(*words: str, positional: bool = False) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    shared.add_cell(parser, positional=positional)
    shared.add_engine(parser, "which")
    return parser.parse_args(words)


def test_a_cell_is_a_word_or_an_option() -> None:
    assert parsed("a-to-b", positional=True).cell == "a-to-b"
    assert parsed("--cell", "a-to-b").cell == "a-to-b"
    assert parsed("--cell", "x", "--qemu", "a=b", "--qemu", "c=d").qemu == ["a=b", "c=d"]
    for engine in ENGINES:
        assert parsed("--cell", "x", "--engine", engine).engine == engine


def test_a_run_s_options_are_what_the_table_says() -> None:
    parser = argparse.ArgumentParser()
    shared.add(parser, RUN)
    assert {option.name for option in RUN} == set(vars(parser.parse_args([])))


def test_where_a_cell_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in ("matrix", "records"):
        monkeypatch.setattr(
            lookup, f"from_{where}", lambda cell, file, *more, where=where: (where, cell, file))
    builds: Any = None
    quickstart = ("matrix", "x", shared.QUICKSTART)
    matrix, records = ("matrix", "x", Path("m.yaml")), ("records", "x", Path("r.jsonl"))
    for positional, words, found in (
        (False, "--cell x", quickstart), (False, "x", quickstart), (True, "x", quickstart),
        (False, "--cell x --matrix m.yaml", matrix), (True, "x --matrix m.yaml", matrix),
        (False, "m.yaml x", matrix), (False, "m.yaml --cell x", matrix), (True, "m.yaml x", matrix),
        (False, "--cell x --records r.jsonl", records), (True, "r.jsonl x", records),
    ):
        options = parsed(*words.split(), positional=positional)
        cell: Any = shared.cell_of(options, builds)
        assert cell == found, words
    for words, told in (("x --records r --matrix m", "m and r: a cell is of one"),
                        ("n.yaml x --matrix m", "n.yaml and m: a cell is of one"),
                        ("m x --cell y", "a cell is given twice"), ("", "which cell")):
        with pytest.raises(UserError, match=told):
            shared.cell_of(parsed(*words.split()), builds)
