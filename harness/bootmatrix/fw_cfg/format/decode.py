"""An item, by its name, to plain JSON data, where its format is public.

Sources: QEMU's hw/i386/fw_cfg.c, hw/acpi, hw/isa/lpc_ich9.c and docs/specs; SeaBIOS's
docs/Runtime_config.md; edk2's OvmfPkg for what it reads.

``STRUCTS`` are the files whose size a reader knows beforehand: SeaBIOS takes an integer only
if its size is a power of two up to 8, and OVMF compares sizes for equality.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from bootmatrix.fw_cfg.format import acpi, keys, smbios
from bootmatrix.fw_cfg.format.wire import Fields, FormatError, printable

_LONGEST_TEXT = 4096
_MOST_RANGES = 1000
LARGEST = 4 << 20
"""Bytes of an item that is decoded; QEMU reserves half (ACPI_BUILD_TABLE_MAX_SIZE) for tables."""


def _number(size: int, *, signed: bool = False) -> Callable[[bytes], int]:
    def decoder(data: bytes) -> int:
        raw = Fields(data, "number").bytes(0, size)
        return int.from_bytes(raw, "little", signed=signed)

    return decoder


def _bits(*names: str) -> Callable[[bytes], dict[str, Any]]:
    def decoder(data: bytes) -> dict[str, Any]:
        if len(data) > 8:
            raise FormatError(f"bits: {len(data)} bytes, more than 8")
        value = _number(len(data))(data)
        set_bits = [bit for bit in range(value.bit_length()) if value >> bit & 1]
        return {"value": f"{value:#x}",
                "bits": [names[bit] if bit < len(names) else f"bit-{bit}" for bit in set_bits]}

    return decoder


def _text(data: bytes) -> str:
    return printable(data[:_LONGEST_TEXT].rstrip(b"\0"))


def _lines(data: bytes) -> list[str]:
    return [printable(line) for line in data.rstrip(b"\0").split(b"\n") if line]


def _e820(data: bytes) -> dict[str, str]:
    if len(data) % 20:
        raise FormatError(f"e820: {len(data)} bytes are no multiple of 20")
    if len(data) > 20 * _MOST_RANGES:
        raise FormatError(f"e820: more than {_MOST_RANGES} ranges")
    kinds = {1: "RAM", 2: "reserved", 3: "ACPI", 4: "NVS", 5: "unusable"}
    fields = Fields(data, "e820")
    ranges: dict[str, str] = {}
    for offset in range(0, len(data), 20):
        start, size, kind = (fields.number(offset + at, width) for at, width in
                             ((0, 8), (8, 8), (16, 4)))
        what = f"{size:#x} {kinds.get(kind, f'type {kind}')}"
        known = ranges.get(f"{start:#x}")
        ranges[f"{start:#x}"] = f"{known}, {what}" if known else what
    return ranges


def _states(data: bytes) -> dict[str, str]:
    raw = Fields(data, "system states").bytes(0, 6)
    return {f"S{number}": f"type {byte & 0x7F}" if byte & 0x80 else "disabled"
            for number, byte in enumerate(raw) if byte & 0x80 or number in (3, 4)}


def _hpet(data: bytes) -> dict[str, Any]:
    fields = Fields(data, "hpet")
    count = fields.number(0, 1)
    if count == 0xFF:
        return {"count": "not set"}
    return {"count": count} | {
        f"hpet {number}": {
            "event_timer_block_id": f"{fields.number(offset, 4):#x}",
            "address": f"{fields.number(offset + 4, 8):#x}",
            "minimum_tick": fields.number(offset + 12, 2),
        }
        for number in range(count) for offset in [1 + 15 * number]
    }


def _uuid(data: bytes) -> str:
    return str(uuid.UUID(bytes=Fields(data, "uuid").bytes(0, 16)))


def _tpm(data: bytes) -> dict[str, Any]:
    fields = Fields(data, "tpm config")
    return {"ppi_address": f"{fields.number(0, 4):#x}", "tpm_version": fields.number(4, 1),
            "ppi_version": fields.number(5, 1)}


def _vmcoreinfo(data: bytes) -> dict[str, Any]:
    fields = Fields(data, "vmcoreinfo")
    return {"host_format": fields.number(0, 2), "guest_format": fields.number(2, 2),
            "size": fields.number(4, 4), "address": f"{fields.number(8, 8):#x}"}


def _vmgenid(data: bytes) -> str:
    # The GUID stands behind an ACPI header's worth of padding (QEMU docs/specs/vmgenid.rst).
    return str(uuid.UUID(bytes_le=Fields(data, "vmgenid").bytes(40, 16)))


def _boot_device(data: bytes) -> str:
    return printable(data.rstrip(b"\0"))


_SMI = _bits("broadcast-smi", "cpu-hotplug", "cpu-hot-unplug")

_FIXED: dict[int, Callable[[bytes], Any]] = {
    keys.SIGNATURE: _text,
    keys.ID: _bits("traditional", "dma"),
    0x02: _uuid,
    keys.RAM_SIZE: _number(8),
    0x04: _number(2), 0x05: _number(2), 0x06: _number(4), 0x07: _number(4), 0x08: _number(4),
    0x09: _text, 0x0A: _number(4), 0x0B: _number(4), 0x0C: _boot_device, 0x0E: _number(2),
    0x0F: _number(2), 0x10: _number(4), 0x13: _number(4), 0x14: _number(4), 0x15: _text,
    0x16: _number(4), 0x17: _number(4),
    0x8002: _number(4), 0x8004: _hpet,
}  # fmt: skip

_STRUCTS: dict[str, Callable[[bytes], Any]] = {
    "etc/boot-cpus": _number(2),
    "etc/boot-fail-wait": _number(4, signed=True),
    "etc/boot-menu-wait": _number(2),
    "etc/extra-pci-roots": _number(8),
    "etc/hardware_errors_addr": _number(8),
    "etc/igd-bdsm-size": _number(8),
    "etc/max-cpus": _number(2),
    "etc/msr_feature_control": _bits(),
    "etc/pvpanic-port": _number(2),
    "etc/reserved-memory-end": _number(8),
    "etc/sercon-port": _number(2),
    "etc/smbios/smbios-anchor": smbios.anchor,
    "etc/smi/features-ok": _number(1),
    "etc/smi/requested-features": _SMI,
    "etc/smi/supported-features": _SMI,
    "etc/system-states": _states,
    "etc/tpm/config": _tpm,
    "etc/vmcoreinfo": _vmcoreinfo,
    "etc/vmgenid_addr": _number(8),
}

_OTHERS: dict[str, Callable[[bytes], Any]] = {
    "bios-geometry": _lines,
    "bootorder": _lines,
    "etc/acpi/rsdp": acpi.rsdp,
    "etc/acpi/tables": acpi.tables,
    "etc/e820": _e820,
    "etc/smbios/smbios-tables": smbios.tables,
    "etc/table-loader": acpi.loader,
    "etc/vmgenid_guid": _vmgenid,
}

STRUCTS = frozenset(_STRUCTS)

_FEATURE_FILES = frozenset({"etc/smi/supported-features"})

ENUMERATED = ("genroms/", "vgaroms/")
"""Firmware runs whatever it finds below these names; it looks up none of them by its own."""


def decode(name: str, key: int, data: bytes) -> Any:
    """JSON data, or None where the format is not public or nothing stands there.

    Raises FormatError if the bytes are not what the item's format says.
    """
    fixed = key < keys.FILE_FIRST or key >= keys.ARCH_FIRST
    decoder = _FIXED.get(key) if fixed else _STRUCTS.get(name) or _OTHERS.get(name)
    if decoder is not None and len(data) > LARGEST:
        raise FormatError(f"{len(data)} bytes, at most {LARGEST} are decoded")
    if fixed:
        return decoder(data) if decoder and any(data) else None
    if not data:
        return None
    if decoder is not None:
        return decoder(data)
    if name.startswith("opt/") and len(data) <= _LONGEST_TEXT and data.isascii() \
            and data.decode("ascii").rstrip("\0\n").isprintable():
        return _text(data.rstrip(b"\n"))
    return None


def offers_features(name: str, key: int) -> bool:
    """Whether an item's bits are features on offer: one more is a gain, one less a loss."""
    return key == keys.ID or (keys.FILE_FIRST <= key < keys.ARCH_FIRST and name in _FEATURE_FILES)


def feature_names(name: str, key: int, bits: int, size: int) -> list[str]:
    """The names of feature bits, in an item of ``size`` bytes that ``offers_features``."""
    found: list[str] = decode(name, key, bits.to_bytes(size, "little"))["bits"]
    return found
