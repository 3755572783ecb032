"""The file directory (key 0x19): which named file is at which key, and how large it is.

Source: QEMU's docs/specs/fw_cfg.rst, "File Directory": a 32-bit count, then entries of 64
bytes (size, select, reserved, name[56], NUL-terminated), all big-endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootmatrix.fw_cfg.format import keys
from bootmatrix.fw_cfg.format.wire import Fields, FormatError, printable

COUNT_BYTES = 4
ENTRY_BYTES = 64
NAME_BYTES = 56

MAX_FILES = 0x4000 - keys.FILE_FIRST
"""There are 0x4000 generic keys ("Ranges" in the specification); files begin at 0x20."""

MAX_FILE_BYTES = 1 << 30
"""More than any guest could take: a larger size is a broken directory, not a file to read."""


@dataclass(frozen=True)
class Entry:
    """A file: its name, its selector key, its size in bytes."""

    name: str
    key: int
    size: int


def parse_count(raw: bytes) -> int:
    """How many entries follow the count. Raises FormatError for more than there are keys."""
    count = Fields(raw, "file directory", "big").number(0, COUNT_BYTES)
    if count > MAX_FILES:
        raise FormatError(f"file directory: {count} files, but there are {MAX_FILES} keys")
    return count


def parse(raw: bytes) -> tuple[Entry, ...]:
    """The entries, in the directory's order. Raises FormatError.

    ``raw`` may be longer than the directory: a reader that does not know the count asks for
    more than there is, and gets zeros.
    """
    fields = Fields(raw, "file directory", "big")
    entries = tuple(
        _entry(fields, number, COUNT_BYTES + ENTRY_BYTES * number)
        for number in range(parse_count(raw))
    )
    for what, values in (("name", [entry.name for entry in entries]),
                         ("key", [f"{entry.key:#06x}" for entry in entries])):
        twice = next((value for value in values if values.count(value) > 1), None) \
            if len(set(values)) < len(values) else None
        if twice is not None:
            raise FormatError(f"file directory: two files have the {what} {twice}")
    return entries


def _entry(fields: Fields, number: int, offset: int) -> Entry:
    what = f"file directory: entry {number}"
    size = fields.number(offset, 4)
    key = fields.number(offset + 4, 2)
    raw_name = fields.bytes(offset + 8, NAME_BYTES)
    name, terminator, _ = raw_name.partition(b"\0")
    if not terminator:
        raise FormatError(f"{what}: its name does not end within {NAME_BYTES} bytes")
    if not name:
        raise FormatError(f"{what}: no name")
    if not keys.FILE_FIRST <= key < keys.FILE_FIRST + MAX_FILES:
        raise FormatError(f"{what}: {printable(name)} has the key {key:#06x}, which is no file's")
    if size > MAX_FILE_BYTES:
        raise FormatError(f"{what}: {printable(name)} is said to have {size} bytes")
    return Entry(printable(name), key, size)


def build(entries: Sequence[Entry]) -> bytes:
    """The directory with these entries; the inverse of ``parse``, for tests and stand-ins."""
    raw = len(entries).to_bytes(COUNT_BYTES, "big")
    for entry in entries:
        raw += entry.size.to_bytes(4, "big") + entry.key.to_bytes(2, "big") + bytes(2)
        raw += entry.name.encode("ascii").ljust(NAME_BYTES, b"\0")
    return raw
