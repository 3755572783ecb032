"""The file directory: what it reads, and that no bytes upset it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.fw_cfg.format import directory, keys
from bootmatrix.fw_cfg.format.directory import Entry
from bootmatrix.fw_cfg.format.wire import FormatError

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=55)
ENTRIES = st.lists(
    st.builds(Entry, NAMES, st.integers(0x20, 0x3FFF), st.integers(0, directory.MAX_FILE_BYTES)),
    max_size=40, unique_by=(lambda entry: entry.name, lambda entry: entry.key),
)


@given(ENTRIES, st.binary(max_size=200))
def test_a_directory_comes_back_as_it_was(entries: list[Entry], after: bytes) -> None:
    assert directory.parse(directory.build(entries) + after) == tuple(entries)


@given(st.binary(max_size=600))
def test_any_bytes_as_a_directory(raw: bytes) -> None:
    _parsed_or_refused(raw)


@given(ENTRIES, st.data())
def test_a_damaged_directory(entries: list[Entry], data: st.DataObject) -> None:
    """Near misses get further into the parser than noise does."""
    raw = bytearray(directory.build(entries))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    _parsed_or_refused(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


def _parsed_or_refused(raw: bytes) -> None:
    problem = None
    try:
        entries = directory.parse(raw)
    except FormatError as error:
        problem = str(error)
    if problem is not None:
        assert "\n" not in problem
        return
    assert len(entries) == int.from_bytes(raw[:4], "big") <= directory.MAX_FILES
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        assert 0 <= entry.size <= directory.MAX_FILE_BYTES
        assert keys.FILE_FIRST <= entry.key < keys.FILE_FIRST + directory.MAX_FILES
        assert entry.name.isprintable()


@pytest.mark.parametrize(("raw", "said"), [
    (b"\0\0\0", "4 bytes at offset 0 of only 3"),
    (b"\xff\xff\xff\xff", "4294967295 files, but there are 16352 keys"),
    (struct.pack(">I", 1), "of only 4"),
    (struct.pack(">IIHH56s", 1, 4, 0x20, 0, b""), "entry 0: no name"),
    (struct.pack(">IIHH56s", 1, 4, 0x20, 0, b"x" * 56), "does not end within 56 bytes"),
    (struct.pack(">IIHH56s", 1, 4, 0x19, 0, b"x"), "x has the key 0x0019, which is no file's"),
    (struct.pack(">IIHH56s", 1, 1 << 31, 0x20, 0, b"x"), "x is said to have 2147483648 bytes"),
    (struct.pack(">I" + "IHH56s" * 2, 2, 4, 0x20, 0, b"x", 4, 0x21, 0, b"x"), "the name x"),
    (struct.pack(">I" + "IHH56s" * 2, 2, 4, 0x20, 0, b"x", 4, 0x20, 0, b"y"), "the key 0x0020"),
])
def test_what_a_directory_cannot_be(raw: bytes, said: str) -> None:
    with pytest.raises(FormatError, match="file directory") as caught:
        directory.parse(raw)
    assert said in str(caught.value)
