"""The options and markers that pytest has from us."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bootmatrix.cell import AXES
from bootmatrix.plugin.options import add_markers, pytest_addoption
from bootmatrix.run.options import RUN, SELECTION


def test_each_option_of_ours_has_pytest_s_name() -> None:
    added: dict[str, str] = {}

    def addoption(name: str, *, help: str, **how: Any) -> None:
        added[name] = help

    parser: Any = SimpleNamespace(
        getgroup=lambda *words: SimpleNamespace(addoption=addoption))
    pytest_addoption(parser)
    ours = [option for option in (*RUN, *SELECTION) if option.ours]
    assert list(added) == [option.pytest for option in ours]
    for option in ours:
        assert f"{option.flag} " not in added[option.pytest], "the help says what is typed here"


def test_a_marker_for_each_axis_and_the_hosts() -> None:
    lines: list[str] = []
    config: Any = SimpleNamespace(
        addinivalue_line=lambda kind, line: lines.append(line) if kind == "markers" else None)
    add_markers(config)
    assert {line.partition("(")[0] for line in lines} == {
        *AXES, "host", "source", "destination"}
    assert f"smp(name): {AXES['smp'].meaning}, in cells of a matrix" in lines
