"""A matrix file's mistakes are told with their place: file, line, column, field, what would do."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.matrix.document import Document

GOOD = """\
schema: 1
hosts:
  new: {qemu: debian-sid}
  old: {qemu: debian-bullseye}
axes:
  source: [old]
  destination: [new]
  machine: [pc-q35-5.2]
  policy: [stock]
  scenario: [reset]
"""


def read(tmp_path: Path, text: str) -> Document:
    file = tmp_path / "m.yaml"
    file.write_text(text)
    return Document(file)


def mistake(tmp_path: Path, text: str) -> str:
    """What is said of a file that is none, behind its name: line, column, what is wrong."""
    with pytest.raises(UserError) as raised:
        read(tmp_path, text)
    return said(raised.value)


def said(error: UserError) -> str:
    assert error.file is not None
    assert "\n" not in str(error)
    return str(error).removeprefix(f"{error.file}:")


def test_a_good_file_is_its_entry(tmp_path: Path) -> None:
    document = read(tmp_path, GOOD)
    assert list(document.entry.hosts) == ["new", "old"]
    assert document.path == tmp_path / "m.yaml"


@pytest.mark.parametrize(("old", "new", "text"), [
    ("axes:", "axess:", "5:1: axess: no such field (did you mean 'axes'?"),
    ("  policy: [stock]", "  policy: [stok]", "9:12: axes.policy[0]: found 'stok' (did you mean "),
    ("  policy: [stock]", "  policy: [x]", "9:12: axes.policy[0]: found 'x' (accepted: stock, "),
    ("hosts:\n", "hosts: []\nhsots:\n", "2:8: hosts: found a list; it must be a mapping"),
    ("[pc-q35-5.2]", "[5.2]",
     "8:13: axes.machine[0]: 5.2 without quotes is a number (5.2) to YAML, not text (write "),
    ("[pc-q35-5.2]", "[1e2]",
     "8:13: axes.machine[0]: 1e2 without quotes is a number (100.0) to YAML, not text (write "),
    ("  new: {", "  7: {",
     '3:3: hosts[7]: the key must be text, not a number (7) (write "7")'),
    ("  new: {", "  a b: {", "3:3: hosts.a b: 'a b' is not a name (letters, digits, . _ + -)"),
    ("  scenario: [reset]", "  scenario: []", "10:13: axes.scenario: is empty"),
    ("hosts:\n", "sample: -1\nhosts:\n", "2:9: sample: found a number (-1) (pairwise, or "),
    ("hosts:\n", "boot-timeout: soon\nhosts:\n", "2:15: boot-timeout: found 'soon'; it must be "),
    ("{qemu: debian-sid}", "{}", "3:8: hosts.new.qemu: is missing"),
    ("{qemu: debian-sid}", "{qmeu: debian-sid}",  # before what is missing, which is no other fault
     "3:9: hosts.new.qmeu: no such field (did you mean 'qemu'?"),
])  # fmt: skip
def test_each_mistake_has_its_place(tmp_path: Path, old: str, new: str, text: str) -> None:
    assert old in GOOD
    assert mistake(tmp_path, GOOD.replace(old, new, 1)).startswith(text)


def test_text_on_top_is_no_matrix(tmp_path: Path) -> None:
    assert mistake(tmp_path, "just words\n") == (
        "1:1: the file must be a mapping (hosts:, axes:, ...)")


def test_a_merged_key_is_found_where_it_is_merged(tmp_path: Path) -> None:
    text = GOOD.replace("  new: {qemu: debian-sid}", "  new: &a {qemu: debian-sid}\n  x: {<<: *a}")
    error = read(tmp_path, text).error(("hosts", "x", "qemu"), "says something")
    assert said(error) == "4:6: hosts.x.qemu: says something"


def test_a_single_value_is_named_without_an_index(tmp_path: Path) -> None:
    document = read(tmp_path, GOOD.replace("[stock]", "stock"))
    assert said(document.error(("axes", "policy", 0), "is odd")) == "9:11: axes.policy: is odd"


def test_names_with_dots_stand_in_brackets(tmp_path: Path) -> None:
    error = read(tmp_path, GOOD).error(("known", 0, "when", "source.qemu"), "?")
    assert said(error) == "1:1: known[0].when[source.qemu]: ?"


def test_a_message_is_one_line_whatever_the_key(tmp_path: Path) -> None:
    assert said(read(tmp_path, GOOD).error(("a\nb\rc",), "no")) == "1:1: a\\nb\\rc: no"
