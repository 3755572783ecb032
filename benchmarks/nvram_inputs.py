"""Files that may or may not be nvram files, for fuzzing: here, and in the tests."""

from __future__ import annotations

import json
import random
import struct
from functools import cache
from hashlib import sha256

from bootmatrix.errors import NvramError
from bootmatrix.nvram.layout import (
    HEAD,
    HEADERS,
    JOURNAL,
    PAGE,
    Change,
    ChangedBy,
    FileState,
    Header,
    Lent,
    Moved,
    Origin,
    Part,
    Staged,
    damage,
    encode,
    lay_out,
    parse,
    salvage,
    staging_areas,
)

DIGEST = sha256(b"").hexdigest()


def header(*, variables: bool = True, everything: bool = False) -> Header:
    """A header as it may be in a file; ``everything`` leaves no field empty."""
    contents = {Part.FIRMWARE: b"f" * 2 * PAGE}
    if variables:
        contents[Part.VARIABLES] = b"v" * PAGE
    windows = lay_out(contents)
    when = "2026-11-24T12:00:00+00:00"
    return Header(
        guest="0" * 32, generation=7,
        origin=Origin(when, "5.2.0", "pc-q35-5.2", "guest-owned", "seabios", DIGEST),
        firmware="seabios", changed=Change(ChangedBy.USER, when, 1), windows=windows,
        staged=Staged(staging_areas(windows)[1], 2 * PAGE, DIGEST, "new", False)
        if everything else None,
        lent=Lent(when, "5.2.0", "source") if everything else None,
        moved=Moved(when, "/there") if everything else None,
        came_from="/here" if everything else "",
    )  # fmt: skip


@cache
def _good(variables: bool, everything: bool) -> Header:
    return header(variables=variables, everything=everything)


@cache
def _page(good: Header) -> bytes:
    return encode(good)


def head(page: bytes, journal: bytes = bytes(PAGE)) -> bytes:
    """The first HEAD bytes of a file."""
    data = bytearray(HEAD)
    for offset in HEADERS:
        data[offset:offset + PAGE] = page
    data[JOURNAL:JOURNAL + PAGE] = journal
    return bytes(data)


def sealed(text: bytes, version: int = 1, length: int | None = None) -> bytes:
    """A page with any text and the right checksum."""
    fixed = struct.pack("<8sII", b"BMNVRAM\0", version, len(text) if length is None else length)
    page = (fixed + bytes(32) + text).ljust(PAGE, b"\0")[:PAGE]
    return page[:16] + sha256(page).digest() + page[48:]


def mutated(chance: random.Random) -> tuple[bytes, int]:
    """The head of a file and the file's size, made from a good one by a random mutilation."""
    good = _good(chance.random() < 0.5, chance.random() < 0.5)
    size = good.end if chance.random() < 0.8 else chance.randrange(2 * good.end)
    kind = chance.randrange(5)
    data = head(_page(good))
    if kind == 0:  # bits
        flipped = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            flipped[chance.randrange(3 * PAGE)] ^= 1 << chance.randrange(8)
        return bytes(flipped), size
    if kind == 1:  # the text, under a checksum that is right
        text = bytearray(_page(good)[48:].rstrip(b"\0"))
        for _ in range(chance.randrange(1, 6)):
            text[chance.randrange(len(text))] = chance.choice(b'"{}[]:,-019abfulnrste\\ \xff')
        return head(sealed(bytes(text))), size
    if kind == 2:  # a value, under a checksum that is right
        fields = json.loads(_page(good)[48:].rstrip(b"\0"))
        spoil(fields, chance)
        return head(sealed(json.dumps(fields).encode())), size
    if kind == 3:  # the fixed part
        page = sealed(chance.randbytes(chance.randrange(PAGE)), chance.randrange(4),
                      chance.choice([0, 1, PAGE, 1 << 31, chance.randrange(2 * PAGE)]))
        return head(page, page if chance.random() < 0.3 else bytes(PAGE)), size
    cut = chance.randrange(HEAD)
    return data[:cut], cut


def spoil(value: object, chance: random.Random) -> None:
    """Replace something inside JSON data by something else."""
    while isinstance(value, dict | list) and value:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if chance.random() < 0.4 or not isinstance(value[key], dict | list):
            value[key] = chance.choice(
                [None, True, -1, 0, 1 << 70, 1.5, "", "x" * 600, "\ud800", "\n", [], {}, DIGEST])
            return
        value = value[key]


def try_all(data: bytes, size: int) -> FileState | None:
    """Everything that reads a header, on one input; what it is if it can be used.

    Whatever else than NvramError they raise goes through.
    """
    for reader in (salvage, parse):
        state = None
        try:
            state = reader(data, size, data[-16:])
        except NvramError as error:
            if "\n" in error.message or len(error.message) > 400:
                raise ValueError(f"no clear line: {error.message}") from error
    if not isinstance(state, FileState):
        return None
    encode(state.header)
    for window in state.header.windows:
        damage(window, b"f" * min(window.size, 2 * PAGE))
    return state
