"""Items to plain data, whatever their bytes are."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.fw_cfg.format import keys
from bootmatrix.fw_cfg.format.decode import LARGEST, STRUCTS, decode
from bootmatrix.fw_cfg.format.wire import FormatError

FILE_NAMES = [*sorted(STRUCTS), "bios-geometry", "bootorder", "etc/acpi/rsdp", "etc/acpi/tables",
              "etc/e820", "etc/smbios/smbios-tables", "etc/table-loader", "etc/vmgenid_guid",
              "opt/x", "etc/unheard-of"]
STARTS = [b"", b"RSD PTR ", b"_SM_", b"_SM3_", b"\x01\0\0\0", b"\x02\0\0\0", b"APIC,\0\0\0",
          b"FACP\x80\0\0\0", b"FACS\x40\0\0\0", b"MCFG\x3c\0\0\0", b"\x01\x1b\0\x01"]


@given(st.sampled_from(FILE_NAMES), st.sampled_from(STARTS), st.binary(max_size=400))
def test_any_bytes_as_any_file(name: str, start: bytes, rest: bytes) -> None:
    _decoded_or_refused(name, 0x20, start + rest)


@given(st.sampled_from([fixed.key for fixed in keys.fixed_keys()]), st.binary(max_size=200))
def test_any_bytes_as_any_fixed_item(key: int, raw: bytes) -> None:
    _decoded_or_refused("", key, raw)


def _decoded_or_refused(name: str, key: int, raw: bytes) -> None:
    problem = None
    try:
        decoded = decode(name, key, raw)
    except FormatError as error:
        problem = str(error)
    if problem is not None:
        assert "\n" not in problem
        return
    _plain(decoded)


def _plain(value: Any) -> None:
    """JSON data, and nothing that would mess up a terminal."""
    if isinstance(value, dict):
        for key, inner in value.items():
            assert key.isprintable()
            _plain(inner)
    elif isinstance(value, list):
        for inner in value:
            _plain(inner)
    else:
        assert value is None or isinstance(value, int) or value.isprintable()


def test_small_formats() -> None:
    assert decode("etc/e820", 0x25, struct.pack("<QQI", 0, 0x8000000, 1)) == \
        {"0x0": "0x8000000 RAM"}
    assert decode("bootorder", 0x21, b"/pci@i0cf8/ide@1,1\n/rom@a\0") == \
        ["/pci@i0cf8/ide@1,1", "/rom@a"]
    assert decode("etc/smi/supported-features", 0x2A, struct.pack("<Q", 0x85)) == \
        {"value": "0x85", "bits": ["broadcast-smi", "cpu-hot-unplug", "bit-7"]}
    assert decode("id", 1, b"\3\0\0\0") == {"value": "0x3", "bits": ["traditional", "dma"]}
    assert decode("nb_cpus", 5, b"\2\0") == 2
    assert decode("etc/boot-fail-wait", 0x24, b"\xff" * 4) == -1
    assert decode("etc/system-states", 0x2B, bytes([128, 0, 0, 129, 2, 128])) == \
        {"S0": "type 0", "S3": "type 1", "S4": "disabled", "S5": "type 0"}
    assert decode("opt/org.example/x", 0x30, b"hello\n") == "hello"
    assert decode("opt/org.example/x", 0x30, b"\x1b[2J") is None
    assert decode("etc/unheard-of", 0x30, b"x") is None
    assert decode("uuid", 2, bytes(16)) is None


@pytest.mark.parametrize(("name", "data", "told"), [
    ("etc/e820", bytes(20 * 1001), "e820: more than 1000 ranges"),
    ("etc/smi/supported-features", b"\xff" * 9, "bits: 9 bytes"),
    ("etc/msr_feature_control", b"\xff" * (1 << 20), "bits: 1048576 bytes"),
    *((name, bytes(LARGEST + 1), "bytes, at most 4194304 are decoded") for name in FILE_NAMES[:-2]),
], ids=lambda value: value[:30] if isinstance(value, str) else "")
def test_what_no_qemu_offers_is_not_worked_through(name: str, data: bytes, told: str) -> None:
    with pytest.raises(FormatError, match=told):
        decode(name, 0x20, data)
