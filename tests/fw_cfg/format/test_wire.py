"""Fields out of bytes, never past their end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.fw_cfg.format.wire import Fields, FormatError, Order, printable


@pytest.mark.parametrize(("order", "number"), [("little", 0x0302), ("big", 0x0203)])
def test_a_number_in_its_order(order: Order, number: int) -> None:
    assert Fields(b"\1\2\3\4", "x", order).number(1, 2) == number


@given(st.binary(max_size=8), st.integers(-2, 10), st.integers(-2, 10))
def test_all_of_it_or_an_error(data: bytes, offset: int, size: int) -> None:
    fields = Fields(data, "a thing")
    if offset >= 0 and size >= 0 and offset + size <= len(data):
        assert fields.bytes(offset, size) == data[offset : offset + size]
    else:
        with pytest.raises(FormatError, match=rf"a thing: {size} bytes at offset {offset} of only"):
            fields.bytes(offset, size)


def test_text_is_padded_and_harmless() -> None:
    fields = Fields(b"abc  \0xyz \x1b[2J", "x")
    assert fields.text(0, 8) == "abc"
    assert fields.text(6, 3) == "xyz"
    assert fields.text(9, 5) == r" \x1b[2J"
    assert printable(bytes([0x1F, 0x20, 0x7E, 0x7F])) == r"\x1f ~\x7f"
