"""Two consoles side by side."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import zip_longest

_LEAST = 20


def side_by_side(
    left: Sequence[str], right: Sequence[str], titles: tuple[str, str], width: int
) -> list[str]:
    """Lines in two columns, those that both have on one height; ``|`` where they differ.

    What is wider than its column is cut.
    """
    column = max(_LEAST, (width - 3) // 2)
    pairs: list[tuple[str, str, str]] = []
    for kind, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        pairs += [(one, " " if kind == "equal" else "|", other)
                  for one, other in zip_longest(left[a:b], right[c:d], fillvalue="")]
    rows = [(titles[0], " ", titles[1]), ("─" * column, " ", "─" * column), *pairs]
    return [f"{_cut(one, column):{column}} {sign} {_cut(other, column)}".rstrip()
            for one, sign, other in rows]


def _cut(text: str, column: int) -> str:
    return text if len(text) <= column else text[:column - 1] + "…"
