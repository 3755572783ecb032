"""The short forms in which reports say things."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootmatrix.records.words import (
    ASCII,
    LONGEST_FIRMWARE,
    called,
    duration,
    host_name,
    host_of,
    hosts_of,
    joined,
    matrix_name,
    natural,
    plural,
    quoted,
    short_firmware,
)
from helpers.records import record


@pytest.mark.parametrize(("seconds", "said"), [
    (0.0412, "0.041 s"), (0.9996, "1.000 s"), (1, "1.0 s"), (3.4, "3.4 s"), (59.94, "59.9 s"),
    (59.96, "1 min 00 s"), (125, "2 min 05 s"), (3599.4, "59 min 59 s"), (3600, "1 h 00 min"),
    (3720, "1 h 02 min"),
])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_versions_are_sorted_as_numbers() -> None:
    assert sorted(["11.1", "5.2", "10.0", "a", "5", "a2"], key=natural) == [
        "a", "a2", "5", "5.2", "10.0", "11.1"]
    assert natural("9" * 5000) == natural("9" * 99), "Python makes no number of it"


@pytest.mark.parametrize(("name", "short"), [
    ("seabios-1.14.0-2", "1.14.0-2"),
    ("ovmf-4m-2022.11-6+deb12u2", "ovmf-4m-2022.11-6"),
    ("a-name-of-twenty-cha", "a-name-of-twenty-cha"),
    ("a-name-of-twenty-char", "a-name-of-twenty-ch…"),
    ("sha256:0123456789abcdef", "01234567"),
])
def test_firmware(name: str, short: str) -> None:
    assert short_firmware(name) == short
    assert len(short) <= LONGEST_FIRMWARE


def test_what_a_matrix_and_a_cell_are_called() -> None:
    one = record()
    assert matrix_name(one) == "m.yaml"
    assert matrix_name(one | {"matrix": "m.yaml"}) == "m.yaml"
    assert matrix_name(one | {"matrix_name": "b/m.yaml"}) == "b/m.yaml"
    assert matrix_name(one | {"matrix": None}) == ""
    assert called(one) == one["cell"]["id"]
    assert called(one | {"called": "m.yaml::x"}) == "m.yaml::x"


def test_hosts_in_the_order_of_their_roles() -> None:
    one = record("bullseye bookworm sid")
    assert list(map(host_name, hosts_of(one))) == ["bullseye", "bookworm", "sid"]
    assert host_of(one, "host-3") == one["cell"]["host-3"]
    assert host_of(one, "host-4") is None
    del one["cell"]["destination"]
    assert list(map(host_name, hosts_of(one))) == ["bullseye"], "no role beyond a missing one"


def test_a_host_has_at_least_its_qemu_for_a_name() -> None:
    assert host_name({"host": "a", "build": "b", "qemu": "5.2.0"}) == "a"
    assert host_name({"host": None, "build": "b", "qemu": "5.2.0"}) == "b"
    assert host_name({"qemu": "5.2.0"}) == "5.2.0"


@pytest.mark.parametrize(("number", "said"), [(0, "0 cells"), (1, "1 cell"), (2, "2 cells")])
def test_a_number_and_its_noun(number: int, said: str) -> None:
    assert plural(number, "cell") == said
    assert plural(number, "entry", "entries") == f"{number} {'entry' if number == 1 else 'entries'}"


@pytest.mark.parametrize(("word", "shown"), [
    ("plain", "plain"), ("two words", "'two words'"), ("$(x)", "'$(x)'"), ("", "''"),
    ("a\nb", r"$'a\x0ab'"), ("\x1b]0;x", r"$'\x1b]0;x'"), ("it's\n", r"$'it\x27s\x0a'"),
    ("\udcff\n", r"$'\xff\x0a'"),
])
def test_words_as_bash_takes_them(word: str, shown: str) -> None:
    assert quoted(word) == shown


@settings(max_examples=20)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
                min_size=1, max_size=5))
def test_bash_finds_the_same_words_again(words: list[str]) -> None:
    line = f"printf '%s\\0' {joined(words)}"
    assert "\n" not in line
    told = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert told.decode().split("\0")[:-1] == words


def test_what_ascii_terminals_are_shown() -> None:
    assert "✓ a→b …".translate(ASCII) == "+ a>b ~"
