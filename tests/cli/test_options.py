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
    found: list[Any] = [shared.cell_of(parsed("--cell", "x", *words), builds) for words in (
        (), ("--matrix", "m.yaml"), ("--records", "r.jsonl"))]
    assert found == [("matrix", "x", shared.QUICKSTART), ("matrix", "x", Path("m.yaml")),
                     ("records", "x", Path("r.jsonl"))]
    with pytest.raises(UserError, match="--records and --matrix exclude each other"):
        shared.cell_of(parsed("--cell", "x", "--records", "r", "--matrix", "m"), builds)
