"""ACPI tables and the loader's script, as QEMU hands them over."""

from __future__ import annotations

import struct

import pytest

from bootmatrix.fw_cfg.format import acpi
from bootmatrix.fw_cfg.format.wire import FormatError


def table(signature: bytes, body: bytes, revision: int = 1) -> bytes:
    return struct.pack("<4sIBB6s8sI4sI", signature, 36 + len(body), revision, 0, b"BOCHS ",
                       b"BXPC    ", 1, b"BXPC", 1) + body


def test_acpi_tables() -> None:
    facs = struct.pack("<4sI", b"FACS", 64) + bytes(56)
    madt = table(b"APIC", struct.pack("<II", 0xFEE00000, 1) + bytes([0, 8, 0, 0, 1, 0, 0, 0]), 3)
    found = acpi.tables(facs + table(b"SSDT", b"one") + table(b"SSDT", b"two") + madt + bytes(99))
    assert list(found) == ["FACS", "SSDT", "SSDT#2", "APIC"]
    assert found["SSDT"]["length"] == 39
    assert found["SSDT"]["oem_id"] == "BOCHS"
    assert found["SSDT"]["sha256"] != found["SSDT#2"]["sha256"]
    assert found["APIC"]["revision"] == 3
    assert found["APIC"]["local_apic_address"] == "0xfee00000"
    assert found["APIC"]["local-apic 0"] == "000001000000"


@pytest.mark.parametrize("raw", [
    b"dsdt\x24\0\0\0" + bytes(28) + b"x", b"DSDT\xff\0\0\0x", b"DSDT\x04\0\0\0x",
    table(b"APIC", bytes(8) + b"\0\1xxx"),
])
def test_what_acpi_tables_cannot_be(raw: bytes) -> None:
    with pytest.raises(FormatError):
        acpi.tables(raw)


def command(kind: int, *parts: bytes) -> bytes:
    return (struct.pack("<I", kind) + b"".join(parts)).ljust(128, b"\0")


def test_the_loader_script() -> None:
    a, b = b"etc/a".ljust(56, b"\0"), b"etc/b".ljust(56, b"\0")
    script = b"".join([
        command(1, a, struct.pack("<IB", 64, 1)), command(1, b, struct.pack("<IB", 16, 2)),
        command(2, a, b, struct.pack("<IB", 8, 4)), command(2, a, b, struct.pack("<IB", 12, 4)),
        command(3, a, struct.pack("<III", 9, 0, 100)),
        command(4, a, b, struct.pack("<IIB", 0, 4, 8)),
        command(77), bytes(128),
    ])
    assert acpi.loader(script) == {
        "allocate etc/a": ["high, aligned to 64"],
        "allocate etc/b": ["f-segment, aligned to 16"],
        "add-pointer etc/b in etc/a": ["0x8/4", "0xc/4"],
        "add-checksum etc/a": ["0x0+0x64 at 0x9"],
        "write-pointer etc/b in etc/a": ["0x4 at 0x0/8"],
        "command 77": [""],
    }
    assert acpi.loader_files(script) == ("etc/a", "etc/b")
    with pytest.raises(FormatError, match="no multiple of 128"):
        acpi.loader(script + b"x")


def test_padding_tables_and_entries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    one = table(b"SSDT", b"one")
    assert len(acpi.tables(one + bytes(4 << 20) + one)) == 2, "zeros are passed over at once"
    monkeypatch.setattr(acpi, "_MOST_TABLES", 3)
    assert len(acpi.tables(one * 3)) == 3
    with pytest.raises(FormatError, match="more than 3"):
        acpi.tables(one * 4)
    monkeypatch.setattr(acpi, "_MOST_ENTRIES", 5)
    for signature, fixed, entry in ((b"APIC", 8, b"\x09\x04xx"), (b"MCFG", 8, bytes(16))):
        decoded = acpi.tables(table(signature, bytes(fixed) + entry * 3))
        assert sum(" " in key for key in decoded[signature.decode()]) == 3
        with pytest.raises(FormatError, match="more than 5 entries"):
            acpi.tables(table(signature, bytes(fixed) + entry * 9))
