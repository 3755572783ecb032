"""ACPI as QEMU hands it to firmware: RSDP, tables not linked yet, and the script that links them.

Sources: ACPI Specification 6.5, chapter 5 (RSDP, System Description Table Header, FADT, MADT);
the IA-PC HPET and PCI Firmware specifications (HPET, MCFG); QEMU's hw/acpi/bios-linker-loader.c
for the script, whose entries have 128 bytes.

Pointers between tables are offsets until the script has run; they are left out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from bootmatrix.fw_cfg.format.wire import Fields, FormatError, printable

HEADER_BYTES = 36
LOADER_ENTRY_BYTES = 128
# Chosen, far above what the QEMUs here offer.
_MOST_TABLES, _MOST_ENTRIES = 1000, 20_000
_FILE_BYTES = 56

# Offset, size, name (ACPI 5.2.9, "Fixed ACPI Description Table").
_FADT = (
    (45, 1, "preferred_pm_profile"), (46, 2, "sci_int"), (48, 4, "smi_cmd"),
    (52, 1, "acpi_enable"), (53, 1, "acpi_disable"), (54, 1, "s4bios_req"),
    (55, 1, "pstate_cnt"), (56, 4, "pm1a_evt_blk"), (60, 4, "pm1b_evt_blk"),
    (64, 4, "pm1a_cnt_blk"), (68, 4, "pm1b_cnt_blk"), (72, 4, "pm2_cnt_blk"),
    (76, 4, "pm_tmr_blk"), (80, 4, "gpe0_blk"), (84, 4, "gpe1_blk"), (88, 1, "pm1_evt_len"),
    (89, 1, "pm1_cnt_len"), (90, 1, "pm2_cnt_len"), (91, 1, "pm_tmr_len"),
    (92, 1, "gpe0_blk_len"), (93, 1, "gpe1_blk_len"), (94, 1, "gpe1_base"), (95, 1, "cst_cnt"),
    (96, 2, "p_lvl2_lat"), (98, 2, "p_lvl3_lat"), (108, 1, "century"),
    (109, 2, "iapc_boot_arch"), (112, 4, "flags"), (117, 1, "reset_reg_bits"),
    (120, 8, "reset_reg"), (128, 1, "reset_value"),
)  # fmt: skip
_HPET = ((36, 4, "event_timer_block_id"), (44, 8, "address"), (52, 1, "number"),
         (53, 2, "minimum_tick"))
_MADT_TYPES = {
    0: "local-apic", 1: "io-apic", 2: "interrupt-override", 3: "nmi-source", 4: "local-apic-nmi",
    5: "local-apic-address", 9: "local-x2apic", 10: "local-x2apic-nmi",
}


def rsdp(data: bytes) -> dict[str, Any]:
    """The Root System Description Pointer (ACPI 5.2.5.3). Raises FormatError."""
    fields = Fields(data, "RSDP")
    if fields.bytes(0, 8) != b"RSD PTR ":
        raise FormatError("RSDP: its signature is not 'RSD PTR '")
    revision = fields.number(15, 1)
    if revision >= 2:
        fields.bytes(0, 36)
    return {"revision": revision, "oem_id": fields.text(9, 6),
            "root": "RSDT" if revision < 2 else "XSDT"}


def tables(data: bytes) -> dict[str, Any]:
    """The tables of the blob by their signatures (a second SSDT is ``SSDT#2``).

    The blob is filled up with zeros at its end. Raises FormatError.
    """
    found: dict[str, Any] = {}
    seen: Counter[str] = Counter()
    for offset, raw in split(data):
        signature = printable(raw[:4])
        seen[signature] += 1
        name = signature if seen[signature] == 1 else f"{signature}#{seen[signature]}"
        found[name] = _table(raw, f"ACPI tables: {name} at offset {offset:#x}")
    return found


def split(data: bytes) -> list[tuple[int, bytes]]:
    """The tables' offsets and bytes, in the blob's order. Raises FormatError."""
    fields = Fields(data, "ACPI tables")
    found: list[tuple[int, bytes]] = []
    offset, end = 0, len(data.rstrip(b"\0"))
    while offset < end:
        if not data[offset]:  # between tables there may be padding
            offset = end - len(data[offset:end].lstrip(b"\0"))
            continue
        if len(found) == _MOST_TABLES:
            raise FormatError(f"ACPI tables: more than {_MOST_TABLES}")
        signature = fields.bytes(offset, 4)
        length = fields.number(offset + 4, 4)
        if not all(0x30 <= c <= 0x39 or 0x41 <= c <= 0x5A for c in signature) or length < 8:
            raise FormatError(f"ACPI tables: no table begins at offset {offset:#x}")
        found.append((offset, fields.bytes(offset, length)))
        offset += length
    return found


def _table(raw: bytes, what: str) -> dict[str, Any]:
    fields = Fields(raw, what)
    signature = raw[:4]
    if signature == b"FACS":  # it has a header of its own
        return {"length": len(raw), "version": fields.number(32, 1), "sha256": _digest(raw[8:])}
    decoded: dict[str, Any] = {
        "length": len(raw),
        "revision": fields.number(8, 1),
        "oem_id": fields.text(10, 6),
        "oem_table_id": fields.text(16, 8),
        "oem_revision": fields.number(24, 4),
        "creator_id": fields.text(28, 4),
        "creator_revision": fields.number(32, 4),
    }
    if signature in (b"RSDT", b"XSDT"):
        width = 4 if signature == b"RSDT" else 8
        return decoded | {"entries": (len(raw) - HEADER_BYTES) // width}
    if signature == b"FACP":
        return decoded | _named(fields, _FADT)
    if signature == b"HPET":
        return decoded | _named(fields, _HPET)
    if signature == b"APIC":
        return decoded | _madt(fields)
    if signature == b"MCFG":
        return decoded | _mcfg(fields)
    return decoded | {"sha256": _digest(raw[HEADER_BYTES:])}


def _named(fields: Fields, layout: tuple[tuple[int, int, str], ...]) -> dict[str, Any]:
    """The fields that the table is long enough to have: later versions only append."""
    return {
        name: f"{fields.number(offset, size):#x}"
        for offset, size, name in layout if offset + size <= len(fields.data)
    }


def _madt(fields: Fields) -> dict[str, Any]:
    decoded: dict[str, Any] = {"local_apic_address": f"{fields.number(36, 4):#x}",
                               "flags": f"{fields.number(40, 4):#x}"}
    seen: Counter[str] = Counter()
    offset = 44
    while offset < len(fields.data):
        kind, length = fields.number(offset, 1), fields.number(offset + 1, 1)
        if length < 2:
            raise FormatError(f"{fields.what}: an entry of {length} bytes at offset {offset}")
        if len(decoded) > _MOST_ENTRIES:
            raise FormatError(f"{fields.what}: more than {_MOST_ENTRIES} entries")
        name = _MADT_TYPES.get(kind, f"type-{kind}")
        decoded[f"{name} {seen[name]}"] = fields.bytes(offset + 2, length - 2).hex()
        seen[name] += 1
        offset += length
    return decoded


def _mcfg(fields: Fields) -> dict[str, Any]:
    decoded: dict[str, Any] = {}
    for number, offset in enumerate(range(44, len(fields.data), 16)):
        if number == _MOST_ENTRIES:
            raise FormatError(f"{fields.what}: more than {_MOST_ENTRIES} entries")
        decoded[f"ecam {number}"] = (
            f"{fields.number(offset, 8):#x}, segment {fields.number(offset + 8, 2)}, "
            f"buses {fields.number(offset + 10, 1)}-{fields.number(offset + 11, 1)}"
        )
    return decoded


def loader(data: bytes) -> dict[str, list[str]]:
    """The loader script: each command with its files, and the places it works on.

    A command that is not known has the number of its type; a reader must skip it. Raises
    FormatError.
    """
    if len(data) % LOADER_ENTRY_BYTES:
        raise FormatError(f"loader script: {len(data)} bytes are no multiple of "
                          f"{LOADER_ENTRY_BYTES}")
    commands: dict[str, list[str]] = {}
    for offset in range(0, len(data), LOADER_ENTRY_BYTES):
        entry = Fields(data[offset : offset + LOADER_ENTRY_BYTES], "loader script")
        kind = entry.number(0, 4)
        if kind:  # the script is filled up with zeros
            what, where = _command(entry, kind)
            commands.setdefault(what, []).append(where)
    return commands


def _command(entry: Fields, kind: int) -> tuple[str, str]:
    file = entry.text(4, _FILE_BYTES)
    after = 4 + _FILE_BYTES
    if kind == 1:
        zone = {1: "high", 2: "f-segment"}.get(entry.number(after + 4, 1), "unknown zone")
        return f"allocate {file}", f"{zone}, aligned to {entry.number(after, 4)}"
    if kind == 3:
        result, start, length = (entry.number(after + at, 4) for at in (0, 4, 8))
        return f"add-checksum {file}", f"{start:#x}+{length:#x} at {result:#x}"
    other = entry.text(after, _FILE_BYTES)
    after += _FILE_BYTES
    if kind == 2:
        return (f"add-pointer {other} in {file}",
                f"{entry.number(after, 4):#x}/{entry.number(after + 4, 1)}")
    if kind == 4:
        return (f"write-pointer {other} in {file}",
                f"{entry.number(after + 4, 4):#x} at {entry.number(after, 4):#x}"
                f"/{entry.number(after + 8, 1)}")
    return f"command {kind}", ""


def loader_files(data: bytes) -> tuple[str, ...]:
    """The files that the script's known commands name, each once. Raises FormatError."""
    names: dict[str, None] = {}
    for offset in range(0, len(data), LOADER_ENTRY_BYTES):
        entry = Fields(data[offset : offset + LOADER_ENTRY_BYTES], "loader script")
        kind = entry.number(0, 4)
        if kind in (1, 2, 3, 4):
            names[entry.text(4, _FILE_BYTES)] = None
        if kind in (2, 4):
            names[entry.text(4 + _FILE_BYTES, _FILE_BYTES)] = None
    return tuple(names)


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
