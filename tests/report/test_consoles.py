"""Two consoles side by side."""

from __future__ import annotations

from bootmatrix.report.consoles import side_by_side


def test_what_both_say_stands_on_one_height() -> None:
    left = ["SeaBIOS (version 1)", "Booting", "up"]
    right = ["SeaBIOS (version 2)", "a warning", "Booting"]
    assert side_by_side(left, right, ("good a", "bad b"), 43) == [
        "good a                 bad b",
        "────────────────────   ────────────────────",
        "SeaBIOS (version 1)  | SeaBIOS (version 2)",
        "                     | a warning",
        "Booting                Booting",
        "up                   |",
    ]


def test_what_is_too_wide_is_cut() -> None:
    said = side_by_side(["x" * 50], ["y" * 50], ("a", "b"), 10)
    assert said[2] == f"{'x' * 19}… | {'y' * 19}…"
