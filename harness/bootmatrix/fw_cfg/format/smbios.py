"""SMBIOS as QEMU hands it to firmware: the anchor (entry point) and the structures.

Source: DMTF DSP0134, System Management BIOS Reference Specification 3.7, 5.2 (entry points),
6.1 (structures) and chapter 7 (their fields).
"""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

from bootmatrix.fw_cfg.format.wire import Fields, FormatError, printable

_END = 127
# A handle has 16 bits. The length of one structure with its strings is chosen.
_MOST_STRUCTURES, _LONGEST_STRUCTURE = 1 << 16, 64 << 10

_TYPES = {
    0: "BIOS", 1: "System", 2: "Baseboard", 3: "Chassis", 4: "Processor", 8: "Port Connector",
    9: "System Slots", 11: "OEM Strings", 16: "Memory Array", 17: "Memory Device",
    19: "Memory Array Address", 20: "Memory Device Address", 32: "Boot", 38: "IPMI Device",
    41: "Onboard Device", _END: "End",
}

# Offset, what is there, name. "s" is the number of a string, "u" a UUID, a digit a number's size.
_FIELDS: dict[int, tuple[tuple[int, str, str], ...]] = {
    0: ((4, "s", "vendor"), (5, "s", "version"), (8, "s", "release_date"),
        (0x0A, "8", "characteristics"), (0x14, "1", "major"), (0x15, "1", "minor")),
    1: ((4, "s", "manufacturer"), (5, "s", "product"), (6, "s", "version"), (7, "s", "serial"),
        (8, "u", "uuid"), (0x18, "1", "wake_up"), (0x19, "s", "sku"), (0x1A, "s", "family")),
    2: ((4, "s", "manufacturer"), (5, "s", "product"), (6, "s", "version"), (7, "s", "serial")),
    3: ((4, "s", "manufacturer"), (5, "1", "type"), (6, "s", "version"), (7, "s", "serial"),
        (8, "s", "asset_tag"), (9, "1", "bootup_state"), (0x0C, "1", "security")),
    4: ((4, "s", "socket"), (5, "1", "type"), (6, "1", "family"), (7, "s", "manufacturer"),
        (8, "8", "id"), (0x10, "s", "version"), (0x14, "2", "max_speed"),
        (0x16, "2", "current_speed"), (0x18, "1", "status"), (0x19, "1", "upgrade"),
        (0x23, "1", "cores"), (0x24, "1", "cores_enabled"), (0x25, "1", "threads"),
        (0x26, "2", "characteristics"), (0x28, "2", "family_2"), (0x2A, "2", "cores_2"),
        (0x2C, "2", "cores_enabled_2"), (0x2E, "2", "threads_2")),
    16: ((4, "1", "location"), (5, "1", "use"), (6, "1", "error_correction"),
         (7, "4", "capacity_kib"), (0x0D, "2", "devices"), (0x0F, "8", "extended_capacity")),
    17: ((4, "2", "array"), (8, "2", "total_width"), (0x0A, "2", "data_width"),
         (0x0C, "2", "size"), (0x0E, "1", "form_factor"), (0x10, "s", "device_locator"),
         (0x11, "s", "bank_locator"), (0x12, "1", "type"), (0x13, "2", "type_detail"),
         (0x15, "2", "speed"), (0x17, "s", "manufacturer"), (0x18, "s", "serial"),
         (0x1A, "s", "part_number")),
    19: ((4, "4", "start_kib"), (8, "4", "end_kib"), (0x0C, "2", "array"),
         (0x0E, "1", "partition_width")),
    32: ((0x0A, "1", "status"),),
}  # fmt: skip


def anchor(data: bytes) -> dict[str, Any]:
    """The entry point, 32-bit (``_SM_``) or 64-bit (``_SM3_``). Raises FormatError."""
    fields = Fields(data, "SMBIOS anchor")
    if data[:5] == b"_SM3_":
        fields.bytes(0, 24)
        return {
            "entry_point": "64-bit",
            "version": f"{fields.number(7, 1)}.{fields.number(8, 1)}",
            "table_bytes_at_most": fields.number(12, 4),
        }
    if data[:4] == b"_SM_":
        fields.bytes(0, 31)
        return {
            "entry_point": "32-bit",
            "version": f"{fields.number(6, 1)}.{fields.number(7, 1)}",
            "largest_structure": fields.number(8, 2),
            "table_bytes": fields.number(0x16, 2),
            "structures": fields.number(0x1C, 2),
        }
    raise FormatError("SMBIOS anchor: it begins with neither _SM_ nor _SM3_")


def tables(data: bytes) -> dict[str, Any]:
    """The structures: ``type 1 System`` to its fields, the second of a type as ``#2``.

    Raises FormatError.
    """
    found: dict[str, Any] = {}
    seen: Counter[int] = Counter()
    offset = 0
    while offset < len(data):
        if len(found) == _MOST_STRUCTURES:
            raise FormatError(f"SMBIOS: more than {_MOST_STRUCTURES} structures")
        fields = Fields(data[offset:offset + _LONGEST_STRUCTURE],
                        f"SMBIOS structure at offset {offset:#x}")
        kind, length = fields.number(0, 1), fields.number(1, 1)
        if length < 4:
            raise FormatError(f"{fields.what}: a length of {length}")
        formatted = Fields(fields.bytes(0, length), fields.what)
        strings, size = _strings(fields, length)
        seen[kind] += 1
        name = f"type {kind} {_TYPES.get(kind, '')}".rstrip()
        if seen[kind] > 1:
            name += f" #{seen[kind]}"
        found[name] = _structure(formatted, kind, strings)
        offset += size
        if kind == _END:
            break
    return found


def _strings(fields: Fields, offset: int) -> tuple[list[str], int]:
    """The strings after the formatted area, and where the next structure begins."""
    end = fields.data.find(b"\0\0", offset)
    if end < 0:
        raise FormatError(f"{fields.what}: its strings do not end")
    raw = fields.data[offset:end]
    strings = [printable(one) for one in raw.split(b"\0")] if raw else []
    return strings, end + 2


def _structure(fields: Fields, kind: int, strings: list[str]) -> dict[str, Any]:
    decoded: dict[str, Any] = {"handle": f"{fields.number(2, 2):#06x}",
                               "length": len(fields.data)}
    if kind not in _FIELDS:
        decoded["fields"] = fields.data[4:].hex()
        return decoded | {f"string {n}": text for n, text in enumerate(strings, 1)}
    for offset, what, name in _FIELDS[kind]:
        size = {"s": 1, "u": 16}.get(what) or int(what)
        if offset + size > len(fields.data):
            continue  # later versions of the specification only append
        if what == "u":
            decoded[name] = str(uuid.UUID(bytes_le=fields.bytes(offset, 16)))
        elif what == "s":
            decoded[name] = _string(strings, fields.number(offset, 1), fields.what)
        else:
            decoded[name] = fields.number(offset, size)
    return decoded


def _string(strings: list[str], number: int, what: str) -> str:
    if number > len(strings):
        raise FormatError(f"{what}: string {number} of only {len(strings)}")
    return strings[number - 1] if number else ""
