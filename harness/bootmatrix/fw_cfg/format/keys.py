"""The selector keys that firmware has compiled in: they can never move.

Source: QEMU's include/standard-headers/linux/qemu_fw_cfg.h (which Linux ships as
include/uapi/linux/qemu_fw_cfg.h) and, for those of x86, hw/i386/fw_cfg.h.
"""

from __future__ import annotations

from dataclasses import dataclass

SIGNATURE = 0x00
ID = 0x01
RAM_SIZE = 0x03
FILE_DIR = 0x19
FILE_FIRST = 0x20
ARCH_FIRST = 0x8000

FEATURE_TRADITIONAL = 1 << 0
FEATURE_DMA = 1 << 1

OPEN_BYTES = 4096
"""How much is read of an item whose size nothing tells; trailing zeros are cut off."""

_ARCH_KEYS = 16


@dataclass(frozen=True)
class FixedKey:
    """An item at a fixed key. ``size`` in bytes; None where nothing tells it."""

    key: int
    name: str
    size: int | None


_KNOWN = {
    fixed.key: fixed
    for fixed in (
        FixedKey(SIGNATURE, "signature", 4),
        FixedKey(ID, "id", 4),
        FixedKey(0x02, "uuid", 16),
        FixedKey(RAM_SIZE, "ram_size", 8),
        FixedKey(0x04, "nographic", 2),
        FixedKey(0x05, "nb_cpus", 2),
        FixedKey(0x06, "machine_id", 4),
        FixedKey(0x07, "kernel_addr", 4),
        FixedKey(0x08, "kernel_size", 4),
        FixedKey(0x09, "kernel_cmdline", None),
        FixedKey(0x0A, "initrd_addr", 4),
        FixedKey(0x0B, "initrd_size", 4),
        FixedKey(0x0C, "boot_device", 2),
        FixedKey(0x0D, "numa", None),
        FixedKey(0x0E, "boot_menu", 2),
        FixedKey(0x0F, "max_cpus", 2),
        FixedKey(0x10, "kernel_entry", 4),
        FixedKey(0x11, "kernel_data", None),
        FixedKey(0x12, "initrd_data", None),
        FixedKey(0x13, "cmdline_addr", 4),
        FixedKey(0x14, "cmdline_size", 4),
        FixedKey(0x15, "cmdline_data", None),
        FixedKey(0x16, "setup_addr", 4),
        FixedKey(0x17, "setup_size", 4),
        FixedKey(0x18, "setup_data", None),
        FixedKey(0x8000, "acpi_tables", None),
        FixedKey(0x8001, "smbios_entries", None),
        FixedKey(0x8002, "irq0_override", 4),
        FixedKey(0x8003, "e820_table", None),
        FixedKey(0x8004, "hpet", 121),
    )
}


def fixed_keys() -> tuple[FixedKey, ...]:
    """All keys below the files, and those of the architecture, known or not; not FILE_DIR."""
    numbers = [*range(FILE_FIRST), *range(ARCH_FIRST, ARCH_FIRST + _ARCH_KEYS)]
    return tuple(
        _KNOWN.get(key, FixedKey(key, f"unknown-{key:#06x}", None))
        for key in numbers if key != FILE_DIR
    )


def is_known(key: int) -> bool:
    """Whether a fixed key has a name of its own."""
    return key in _KNOWN
