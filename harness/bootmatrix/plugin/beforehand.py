"""Which cells can be selected, told before their machine types are: asking takes built images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.mark import KeywordMatcher, MarkMatcher
from _pytest.mark.expression import Expression

if TYPE_CHECKING:
    from bootmatrix.plugin.cells import CellItem

_MOST_OPEN = 8
"""Words of an expression that are tried as true and as false; with more, all may be selected."""

Matcher = Callable[..., bool]


def may_be_selected(items: Iterable[CellItem]) -> bool:
    """Whether -k, -m, --deselect and --bootmatrix-cell may leave one of these items.

    Where the machine type of their cells is a family with a dash, ``pc-q35-``, it can be any
    version of it.
    """
    return any(map(_may_be, items))


def _may_be(item: CellItem) -> bool:
    option, cell = item.config.option, item.cell
    version = re.escape(cell.machine) + (r"\d[\d.]*" if cell.machine.endswith("-") else "")
    if any(item.nodeid.startswith(prefix) for prefix in option.deselect or ()):
        return False
    wanted = option.bootmatrix_cell
    pattern = re.escape(cell.id).replace(re.escape(cell.machine), version)
    if wanted and not any(re.fullmatch(pattern, one) for one in wanted):
        return False

    def in_a_version(name: str, /, **values: Any) -> bool:  # as -k takes parts of names
        ends = (cell.machine[start:] for start in range(len(cell.machine) + 1))
        return any(re.fullmatch(r"[\d.]+", name.lower().removeprefix(end))
                   for end in ends if name.lower().startswith(end))

    def is_the_machine(name: str, /, **values: Any) -> bool:
        given = values.get("name")
        return name == "machine" and isinstance(given, str) and \
            re.fullmatch(version, given) is not None

    return (_can_be(option.keyword, KeywordMatcher.from_item(item), in_a_version)
            and _can_be(option.markexpr, MarkMatcher.from_markers(item.iter_markers()),
                        is_the_machine))


def _can_be(text: str, holds: Matcher, is_open: Matcher) -> bool:
    """Whether an expression is true for some answers to what is open of its words."""
    if not (text := text.strip()):
        return True
    try:
        expression = Expression.compile(text)
    except (SyntaxError, RecursionError, ValueError):
        return True  # which is told elsewhere
    open_ones = [_Guess({}, holds, is_open)]
    while open_ones:
        guess = open_ones.pop()
        try:
            if expression.evaluate(guess):
                return True
        except pytest.UsageError:
            return True  # which is told elsewhere
        if guess.new and len(guess.taken) == _MOST_OPEN:
            return True
        open_ones += [_Guess({**guess.taken, one: taken}, holds, is_open)
                      for one in guess.new[:1] for taken in (True, False)]
    return False


class _Guess:
    """Answers what an expression asks; what is open, as it is ``taken``, or else no.

    ``new`` has what is open and was not taken for anything.
    """

    def __init__(self, taken: dict[Any, bool], holds: Matcher, is_open: Matcher) -> None:
        self.taken = taken
        self.new: list[Any] = []
        self._holds = holds
        self._is_open = is_open

    def __call__(self, name: str, /, **values: str | int | bool | None) -> bool:
        if self._holds(name, **values):
            return True
        if not self._is_open(name, **values):
            return False
        about = name, *sorted((key, repr(value)) for key, value in values.items())
        if about not in self.taken:
            self.new.append(about)
        return self.taken.get(about, False)
