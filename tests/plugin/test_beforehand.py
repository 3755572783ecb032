"""Expressions of which the machine types are not known yet."""

from __future__ import annotations

import pytest

from bootmatrix.plugin.beforehand import _can_be


@pytest.mark.parametrize(("text", "told"), [
    ("", True), ("known", True), ("open", True), ("other", False), ("not known", False),
    ("not open", True), ("open and not open", False), ("other and open", False),
    ("known and not other and (open or other)", True),
    ("(", True),  # a mistake, which is told elsewhere
    (" and ".join(f"open{n}" for n in range(8)), True),
    (" and ".join(f"open{n}" for n in range(8)) + " and other", False),
    (" and ".join(f"open{n}" for n in range(20)) + " and other", True),  # not all are tried
], ids=str)
def test_an_expression_can_be_true(text: str, told: bool) -> None:
    assert _can_be(text, lambda name: name == "known",
                   lambda name: name.startswith("open")) is told
