"""YAML with the place of each value, within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.files import yaml_file
from bootmatrix.files.yaml_file import DEEPEST, LARGEST, MOST_VALUES, parse, read_text

FILE = Path("f.yaml")


def test_data_knows_its_places() -> None:
    data = parse(FILE, "a: 1\nb: [x, {c: d}]\n")
    assert data == {"a": 1, "b": ["x", {"c": "d"}]}
    assert data.lc.data["b"] == [1, 0, 1, 3]
    assert parse(FILE, "# nothing\n") is None


@pytest.mark.parametrize(("text", "message"), [
    ("a: 1\na: 2\n", "f.yaml:2:1: a: stands here twice"),
    ("a: [1\n", "f.yaml:2:1: is not YAML: "),
    ("&a\nb: *a\n", "f.yaml:1:1: an anchor refers to itself"),
    ("? [a]\n: 1\n", "f.yaml:1:3: a key must be text"),
    ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), f"f.yaml:1:{DEEPEST + 1}: is nested too deeply"),
    ("# x\n%YAML 1.1\n---\na: 1\n", "f.yaml:2: a directive (%YAML, %TAG) has no meaning here ("),
    ("%TAG ! x:\n---\na: 1\n", "f.yaml:1: a directive (%YAML"),
    ("a: 2020-99-99\n", "f.yaml: has a value that YAML cannot read: "),
    ("- x\n" * (MOST_VALUES + 1), f"f.yaml: has more than {MOST_VALUES} values"),
    # a few lines that stand for a million
    ("\n".join(["- &a0 x"] + [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 7)]),
     f"f.yaml: has more than {MOST_VALUES} values"),
])
def test_mistakes_have_their_place(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(FILE, text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_within_the_bounds_all_is_read() -> None:
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert parse(FILE, deep)
    assert len(parse(FILE, "- x\n" * (MOST_VALUES - 1))) == MOST_VALUES - 1


def test_a_text_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\n")
    assert read_text(file) == "a: é\n", "without the mark of its byte order"
    file.write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"m\.yaml: is not UTF-8 text"):
        read_text(file)
    file.write_bytes(b"x" * (LARGEST + 1))
    with pytest.raises(UserError, match=f"at most {yaml_file.LARGEST} are read"):
        read_text(file)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_text(tmp_path / "none")
