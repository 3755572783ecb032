"""Directory, decoders and -fw_cfg options: what they read, and that no bytes can upset them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from harness.fw_cfg_format import acpi, directory, keys, option, smbios
from harness.fw_cfg_format.decode import STRUCTS, decode
from harness.fw_cfg_format.directory import Entry
from harness.fw_cfg_format.option import FwCfgFile
from harness.fw_cfg_format.wire import FormatError

# ---- the directory ----------------------------------------------------------------------------

NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=55)
ENTRIES = st.lists(
    st.builds(Entry, NAMES, st.integers(0x20, 0x3FFF), st.integers(0, directory.MAX_FILE_BYTES)),
    max_size=40, unique_by=(lambda entry: entry.name, lambda entry: entry.key),
)


@given(ENTRIES, st.binary(max_size=200))
def test_a_directory_comes_back_as_it_was(entries: list[Entry], after: bytes) -> None:
    assert directory.parse(directory.build(entries) + after) == tuple(entries)


@given(st.binary(max_size=600))
def test_any_bytes_as_a_directory(raw: bytes) -> None:
    _parsed_or_refused(raw)


@given(ENTRIES, st.data())
def test_a_damaged_directory(entries: list[Entry], data: st.DataObject) -> None:
    """Near misses get further into the parser than noise does."""
    raw = bytearray(directory.build(entries))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    _parsed_or_refused(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


def one_line(error: Exception) -> None:
    assert "\n" not in str(error)


def _parsed_or_refused(raw: bytes) -> None:
    try:
        entries = directory.parse(raw)
    except FormatError as error:
        one_line(error)
        return
    assert len(entries) == int.from_bytes(raw[:4], "big") <= directory.MAX_FILES
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        assert 0 <= entry.size <= directory.MAX_FILE_BYTES
        assert keys.FILE_FIRST <= entry.key < keys.FILE_FIRST + directory.MAX_FILES
        assert entry.name.isprintable()


@pytest.mark.parametrize(("raw", "said"), [
    (b"\0\0\0", "4 bytes at offset 0 of only 3"),
    (b"\xff\xff\xff\xff", "4294967295 files, but there are 16352 keys"),
    (struct.pack(">I", 1), "of only 4"),
    (struct.pack(">IIHH56s", 1, 4, 0x20, 0, b""), "entry 0: no name"),
    (struct.pack(">IIHH56s", 1, 4, 0x20, 0, b"x" * 56), "does not end within 56 bytes"),
    (struct.pack(">IIHH56s", 1, 4, 0x19, 0, b"x"), "x has the key 0x0019, which is no file's"),
    (struct.pack(">IIHH56s", 1, 1 << 31, 0x20, 0, b"x"), "x is said to have 2147483648 bytes"),
    (struct.pack(">I" + "IHH56s" * 2, 2, 4, 0x20, 0, b"x", 4, 0x21, 0, b"x"), "the name x"),
    (struct.pack(">I" + "IHH56s" * 2, 2, 4, 0x20, 0, b"x", 4, 0x20, 0, b"y"), "the key 0x0020"),
])
def test_what_a_directory_cannot_be(raw: bytes, said: str) -> None:
    with pytest.raises(FormatError, match="file directory") as caught:
        directory.parse(raw)
    assert said in str(caught.value)


# ---- decoders ---------------------------------------------------------------------------------

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
    try:
        decoded = decode(name, key, raw)
    except FormatError as error:
        one_line(error)
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


# ---- the option -------------------------------------------------------------------------------


def test_an_option() -> None:
    assert FwCfgFile("opt/org.example/x", string="a,b").argv == \
        ("-fw_cfg", "name=opt/org.example/x,string=a,,b")
    assert FwCfgFile("opt/" + "x" * 51, file="/f,g").argv == \
        ("-fw_cfg", "name=opt/" + "x" * 51 + ",file=/f,,g")


@pytest.mark.parametrize(("name", "file", "string", "said"), [
    ("opt/" + "x" * 52, None, "s", "has 56 characters (at most 55)"),
    ("", None, "s", "no name"),
    ("etc/e820", None, "s", "QEMU's to give"),
    ("opt/", None, "s", "QEMU's to give"),
    ("opt/org.qemu/x", None, "s", "reserved for QEMU"),
    ("opt/ä", None, "s", "not plain ASCII"),
    ("opt/a\tb", None, "s", "not plain ASCII"),
    ("opt/x", None, None, "one of file= and string="),
    ("opt/x", "f", "s", "one of file= and string="),
    ("opt/x", None, "", "one of file= and string="),
    ("opt/x", None, "a\0b", "NUL"),
])
def test_an_option_that_qemu_would_refuse(
    name: str, file: str | None, string: str | None, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        FwCfgFile(name, file, string)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_files_of_one_name() -> None:
    file = FwCfgFile("opt/x", string="1")
    with pytest.raises(UserError, match="given twice"):
        option.argv([file, FwCfgFile("opt/x", string="2")])
    assert option.argv([file]) == file.argv


@given(NAMES.map(lambda name: ("opt/" + name)[:55]), st.text(min_size=1).filter(
    lambda text: "\0" not in text))
def test_what_is_built_can_be_parsed(name: str, string: str) -> None:
    if name.startswith(option.QEMUS_OWN):
        return
    file = FwCfgFile(name, string=string)
    assert option.parse(file.argv[1]) == file
    if "=" not in name:  # QEMU, too, would take it for another option then
        assert option.parse(file.argv[1].removeprefix("name=")) == file


@pytest.mark.parametrize("text", ["", "opt/x", "opt/x,gen_id=5", "name=opt/x,string=a,string=b",
                                  "opt/x,string=a,b", "opt/x,file=a,string=b"])
def test_what_is_no_option(text: str) -> None:
    with pytest.raises(UserError):
        option.parse(text)


@given(st.text())
def test_any_text_as_an_option(text: str) -> None:
    try:
        option.parse(text)
    except UserError:
        return
