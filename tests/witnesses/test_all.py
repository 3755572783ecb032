"""No witness is forgotten: each that judges is heard, and each that records is in the record."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from bootmatrix import verdict, witnesses
from bootmatrix.records import rows


def functions() -> Iterator[Callable[..., Any]]:
    """What the witnesses' modules offer."""
    for module in iter_modules(witnesses.__path__):
        found = import_module(f"bootmatrix.witnesses.{module.name}")
        yield from (each for name, each in inspect.getmembers(found, inspect.isfunction)
                    if each.__module__ == found.__name__ and not name.startswith("_"))


def test_each_that_judges_is_heard() -> None:
    judging = {each for each in functions() if each.__annotations__["return"] == "Problem | None"}
    heard = {*verdict.AT_A_BOOT, *verdict.WITHOUT_A_BOOT}
    source = inspect.getsource(verdict._problem)
    for each in judging - heard:  # at every step
        assert f"{each.__module__.rpartition('.')[2]}.{each.__name__}" in source
    assert heard < judging


def test_each_that_records_is_in_the_record() -> None:
    for of, making in ((rows.boot_row, "row"), (rows.step_row, "step_row")):
        parts = [each for each in functions() if each.__name__ == making]
        assert parts
        source = inspect.getsource(of)
        for each in parts:
            module = each.__module__.rpartition(".")[2]
            assert f"**{module}.{making}(" in source, module
