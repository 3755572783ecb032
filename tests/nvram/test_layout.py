"""The format: what is written is read again, and whatever else is read raises NvramError."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from benchmarks.nvram_inputs import head, header, mutated, sealed, try_all
from hypothesis import given, settings
from hypothesis import strategies as st

from bootmatrix.errors import NvramError
from bootmatrix.nvram import layout
from bootmatrix.nvram.layout import (
    HEAD,
    PAGE,
    Part,
    block_sums,
    damage,
    decode,
    differing_blocks,
    encode,
    lay_out,
    parse,
    salvage,
)

TEXT = st.text(max_size=60).filter(lambda text: not text or text.isprintable())


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("variables", [True, False])
def test_there_and_back(variables: bool, everything: bool) -> None:
    wanted = header(variables=variables, everything=everything)
    assert decode(encode(wanted)) == wanted
    assert parse(head(encode(wanted)), wanted.end).header == wanted


@given(TEXT, st.integers(0, (1 << 63) - 1))
def test_any_name(name: str, generation: int) -> None:
    wanted = replace(header(), firmware=name, generation=generation)
    assert decode(encode(wanted)) == wanted


@pytest.mark.parametrize("name", ["x" * 600, "a\nb", "\x1b[2J"])
def test_what_could_not_be_read_again_is_not_written(name: str) -> None:
    with pytest.raises(NvramError):
        encode(replace(header(), firmware=name))


def test_the_largest_header_fits() -> None:
    # Every window with all its checksums, every field as long as the store makes it.
    windows = lay_out({Part.FIRMWARE: bytes(4 << 20), Part.VARIABLES: bytes(1 << 20)})
    long = "x" * 200
    full = header(everything=True)
    assert full.origin is not None
    assert full.moved is not None
    wanted = replace(
        full, windows=windows, staged=None, firmware=long, came_from=long,
        origin=replace(full.origin, name=long, machine=long, qemu=long),
        moved=replace(full.moved, to=long),
    )
    assert decode(encode(wanted)) == wanted


def test_windows_are_where_qemu_can_map_them() -> None:
    firmware, variables = lay_out({Part.VARIABLES: bytes(PAGE), Part.FIRMWARE: bytes(3 * PAGE)})
    assert (firmware.part, firmware.offset, firmware.size) == (Part.FIRMWARE, HEAD, 3 * PAGE)
    assert (variables.part, variables.offset) == (Part.VARIABLES, HEAD + 3 * PAGE)


def test_variables_alone_are_no_nvram() -> None:
    with pytest.raises(NvramError, match="without a firmware"):
        lay_out({Part.VARIABLES: bytes(PAGE)})


# ---- what a file says --------------------------------------------------------------------------


def test_the_journal_counts_once_it_is_whole() -> None:
    old, new = header(), replace(header(), generation=8, firmware="new")
    state = parse(head(encode(old), encode(new)), new.end)
    assert (state.header, state.unfinished) == (new, True)
    torn = encode(new)[:100] + bytes(PAGE - 100)
    assert parse(head(encode(old), torn), old.end).header == old
    both_torn = bytearray(head(encode(new)[:70].ljust(PAGE, b"\0"), encode(new)))
    assert parse(bytes(both_torn), new.end).header == new


def test_a_journal_that_was_left_behind_does_not_count() -> None:
    new, old = replace(header(), generation=8), header()
    state = parse(head(encode(new), encode(old)), new.end)
    assert (state.header, state.unfinished) == (new, False)


def test_pages_that_disagree() -> None:
    data = bytearray(head(encode(header())))
    newer = replace(header(), generation=9)
    data[PAGE:2 * PAGE] = encode(newer)
    with pytest.raises(NvramError, match=r"disagree \(generation 7 and 9\)"):
        parse(bytes(data), newer.end)
    assert salvage(bytes(data), newer.end) == newer


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_format(version: int) -> None:
    data = head(sealed(b"whatever it has there", version))
    for reader in (parse, salvage):
        with pytest.raises(NvramError, match=f"^format {version}; .* format 1 only") as caught:
            reader(data, HEAD)
        assert ("newer" in caught.value.message) == (version > 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "makes no sense"),
        (b"[" * 4000, "makes no sense"),
        (b"9" * 4000, "makes no sense"),
        (b"\xff", "makes no sense"),
        (b"{}", "no Header"),
        (b"null", "no Header"),
    ],
)
def test_a_text_that_makes_no_sense(text: bytes, message: str) -> None:
    with pytest.raises(NvramError, match=message):
        parse(head(sealed(text)), HEAD)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"windows": ()},
        {"windows": header().windows[1:]},
        {"windows": header().windows[::-1]},
        {"windows": (replace(header().windows[0], offset=0),)},
        {"windows": (replace(header().windows[0], size=PAGE + 1),)},
        {"windows": (replace(header().windows[0], size=1 << 40),)},
        {"windows": (replace(header().windows[0], blocks=""),)},
        {"windows": (replace(header().windows[0], sha256="x" * 64),)},
        {"staged": replace(header(everything=True).staged, offset=0)},  # type: ignore[type-var]
        {"staged": replace(header(everything=True).staged, size=PAGE)},  # type: ignore[type-var]
    ],
)
def test_a_header_whose_parts_do_not_fit(spoilt: dict[str, object]) -> None:
    with pytest.raises(NvramError, match=r"sense|windows"):
        encode(replace(header(), **spoilt))  # type: ignore[arg-type]


# ---- damage ------------------------------------------------------------------------------------


@given(st.integers(0, 299 * PAGE - 1), st.integers(1, 255))
def test_damage_is_told_where_it_is(at: int, bits: int) -> None:
    content = bytearray(b"\xa5" * 299 * PAGE)
    window = lay_out({Part.FIRMWARE: bytes(content)})[0]
    assert damage(window, bytes(content)) is None
    content[at] ^= bits
    told = damage(window, bytes(content))
    assert told is not None
    first, last = (int(word, 16) for word in told.split() if word.startswith("0x"))
    assert first <= HEAD + at < last
    assert last - first <= layout.block_size(window.size)
    assert len(differing_blocks(window.blocks, block_sums(bytes(content)))) == 1


# ---- anything ----------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.binary(max_size=HEAD + 100))
def test_any_bytes(data: bytes) -> None:
    assert try_all(data, len(data)) is None


@settings(max_examples=300)
@given(st.binary(max_size=PAGE - 48), st.integers(0, 3), st.integers(0, (1 << 32) - 1))
def test_any_text_with_a_right_checksum(text: bytes, version: int, length: int) -> None:
    try_all(head(sealed(text, version, length)), HEAD)


def test_mutilated_headers() -> None:
    chance = random.Random(5)
    usable = sum(try_all(*mutated(chance)) is not None for _ in range(4000))
    assert 100 < usable < 2000, "some mutations touch nothing that counts, most do"


def test_the_fuzz_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_check", lambda header: None)
    with pytest.raises(Exception):  # noqa: B017, PT011  # any: that is the defect
        test_mutilated_headers()
