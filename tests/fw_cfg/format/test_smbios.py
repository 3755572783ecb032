"""SMBIOS structures, as QEMU hands them over."""

from __future__ import annotations

import struct

import pytest

from bootmatrix.fw_cfg.format import smbios
from bootmatrix.fw_cfg.format.wire import FormatError


def test_smbios_structures() -> None:
    system = struct.pack("<BBH4B16sBBB", 1, 27, 0x100, 1, 2, 3, 0, bytes(16), 6, 0, 0)
    raw = system + b"QEMU\0Standard PC\0pc-q35-7.2\0\0" + bytes([127, 4, 0, 0x7F, 0, 0])
    found = smbios.tables(raw)
    assert list(found) == ["type 1 System", "type 127 End"]
    assert found["type 1 System"]["version"] == "pc-q35-7.2"
    assert found["type 1 System"]["serial"] == ""
    for damaged in (raw[:10], raw[:40], b"\1\3\0\0\0\0", raw.replace(b"\0pc-q35-7.2", b"")):
        with pytest.raises(FormatError, match="SMBIOS structure"):
            smbios.tables(damaged)


def test_many_structures_are_read_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of small ones; copying the rest for each would move 90 GiB."""
    small = bytes([200, 4, 0, 0, 0, 0])
    with pytest.raises(FormatError, match="more than 65536 structures"):
        smbios.tables(small * 180_000)
    monkeypatch.setattr(smbios, "_LONGEST_STRUCTURE", 100)
    assert len(smbios.tables(bytes([200, 4, 0, 0]) + b"x" * 94 + b"\0\0")) == 1
    with pytest.raises(FormatError, match="its strings do not end"):
        smbios.tables(bytes([200, 4, 0, 0]) + b"x" * 95 + b"\0\0")
