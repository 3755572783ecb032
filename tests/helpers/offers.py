"""What a QEMU offers to firmware, item by item."""

from __future__ import annotations

import struct

from bootmatrix.fw_cfg.contract import (
    Item,
    Offer,
    Setup,
)

BOOT_WAIT = Item(0x24, "etc/boot-fail-wait", b"\xff" * 4)
E820 = Item(0x25, "etc/e820", struct.pack("<QQI", 0, 0x8000000, 1))
SMI = Item(0x2A, "etc/smi/supported-features", struct.pack("<Q", 3))
ASKED = Item(0x29, "etc/smi/requested-features", bytes(8), writable=True)
TABLES = Item(0x23, "etc/acpi/tables", struct.pack(
    "<4sIBB6s8sI4sI", b"SSDT", 39, 1, 0, b"BOCHS ", b"BXPC    ", 1, b"BXPC", 1) + b"aml")
ROM = Item(0x2E, "genroms/kvmvapic.bin", b"rom")
ALLOCATE = struct.pack("<I56sIB", 1, b"etc/acpi/tables", 64, 1).ljust(128, b"\0")
LOADER = Item(0x2C, "etc/table-loader", ALLOCATE + bytes(128))
FILES = (TABLES, BOOT_WAIT, E820, ASKED, SMI, LOADER, ROM)
FIXED = (Item(0, "signature", b"QEMU"), Item(1, "id", b"\3\0\0\0"), Item(5, "nb_cpus", b"\1\0"),
         Item(0x0E, "boot_menu", b"\0\0"), Item(0x8002, "irq0_override", b"\1\0\0\0"),
         Item(0x8007, "unknown-0x8007", b""), Item(0x8008, "unknown-0x8008", b""))
OLD = Offer("old", "5.2.0", "pc-q35-5.2", Setup(), FIXED + FILES)
