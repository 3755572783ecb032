"""The fw_cfg client against a device of our own: what no QEMU would do, and what all do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.diagnose.fw_cfg_survey import read_items
from bootmatrix.errors import FwCfgError
from bootmatrix.fw_cfg.client import FwCfg
from bootmatrix.fw_cfg.format import keys
from helpers.fw_cfg_device import Device

FILES = {"etc/e820": bytes(range(40)), "opt/x": b"hello", "etc/empty": b"",
         "etc/table-loader": bytes(4096)}


def test_ports_and_dma_read_the_same() -> None:
    fw_cfg = FwCfg(Device(FILES))
    assert fw_cfg.has_dma
    for entry in fw_cfg.directory():
        assert fw_cfg.read(entry.key, entry.size) == FILES[entry.name]
        assert fw_cfg.read_by_port(entry.key, entry.size) == FILES[entry.name]


def test_past_the_end_there_are_zeros() -> None:
    fw_cfg = FwCfg(Device({"opt/x": b"hello"}))
    assert fw_cfg.read(0x20, 8) == fw_cfg.read_by_port(0x20, 8) == b"hello\0\0\0"
    assert fw_cfg.read(0x3F00, 4) == fw_cfg.read_by_port(0x3F00, 4) == bytes(4)


def test_reading_from_the_middle() -> None:
    fw_cfg = FwCfg(Device(FILES))
    assert fw_cfg.read(0x20, 5, offset=30) == bytes(range(30, 35))
    assert fw_cfg.read_by_port(0x20, 5, offset=30) == bytes(range(30, 35))


@given(st.lists(st.integers(0, 900), max_size=12), st.integers(256, 1500))
def test_a_small_buffer_takes_several_turns(sizes: list[int], buffer: int) -> None:
    files = {f"opt/{n}": bytes([n + 1]) * size for n, size in enumerate(sizes)}
    fw_cfg = FwCfg(Device(files), buffer)
    wanted = [(entry.key, entry.size) for entry in fw_cfg.directory()]
    assert fw_cfg.read_all(wanted) == list(files.values())
    assert [fw_cfg.read(*one) for one in wanted] == list(files.values())


def test_writing() -> None:
    device = Device({"opt/x": b"hello", "etc/w": b"12345678"}, writable=["etc/w"])
    fw_cfg = FwCfg(device)
    fw_cfg.write(0x21, b"ab")
    fw_cfg.write(0x21, b"z", offset=7)
    assert device.items[0x21] == b"ab34567z"
    with pytest.raises(FwCfgError, match="DMA error while writing 2 bytes at offset 7 of key 0x00"):
        fw_cfg.write(0x21, b"zz", offset=7)  # an item cannot grow
    with pytest.raises(FwCfgError, match="DMA error"):
        fw_cfg.write(0x20, b"j")
    assert fw_cfg.writable(0x21, b"ab")
    assert not fw_cfg.writable(0x20, b"hello")
    assert device.items[0x20] == b"hello"


def test_a_dma_error_is_one_clear_line() -> None:
    with pytest.raises(FwCfgError) as caught:
        FwCfg(Device(FILES, fail_dma=True)).read(0x20, 4)
    assert str(caught.value) == "fw_cfg: DMA error while reading"


def test_no_device() -> None:
    with pytest.raises(FwCfgError, match="no fw_cfg device at port 0x510"):
        FwCfg(Device(signature=b"\xff\xff\xff\xff"))


def test_a_device_without_dma_is_read_by_port() -> None:
    fw_cfg = FwCfg(Device(FILES, features=keys.FEATURE_TRADITIONAL))
    assert not fw_cfg.has_dma
    files = {item.name: item.data for item in read_items(fw_cfg) if not item.fixed}
    assert files == FILES


def test_feature_bits_that_lie() -> None:
    fw_cfg = FwCfg(Device(features=3, dma_signature=b"\xff" * 8))
    with pytest.raises(FwCfgError, match="promise DMA"):
        fw_cfg.has_dma  # noqa: B018  # the property raises


@pytest.mark.parametrize("raw", [b"\0\0\x7f\xff", b"\0\0\0\x01" + b"\xff" * 64])
def test_a_malformed_directory(raw: bytes) -> None:
    with pytest.raises(FwCfgError, match="file directory") as caught:
        FwCfg(Device(raw_directory=raw)).directory()
    assert "\n" not in str(caught.value)


def test_all_items_in_order_and_the_writable_ones_marked() -> None:
    device = Device(FILES | {"etc/w": b"12345678", "etc/smi/features-ok": b"\1"},
                    writable=["etc/w"], fixed={5: b"\2\0", 0x8007: b"who knows"})
    items = read_items(FwCfg(device))
    by_name = {item.name: item for item in items}
    assert [item.name for item in items if not item.fixed] == \
        [*FILES, "etc/w", "etc/smi/features-ok"]
    assert by_name["nb_cpus"].data == b"\2\0"
    assert by_name["unknown-0x8007"].data == b"who knows"
    assert by_name["uuid"].zero
    assert [item.name for item in items if item.writable] == ["etc/w"]


def test_dma_needs_few_accesses() -> None:
    size = 100_000
    device = Device({"etc/big": bytes(size)})
    fw_cfg = FwCfg(device)
    before = device.traps
    fw_cfg.read(0x20, size)
    by_dma = device.traps - before
    fw_cfg.read_by_port(0x20, size)
    assert (device.traps - before - by_dma) / by_dma > 1000
