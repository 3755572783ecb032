"""Firmware volumes: made ones, damaged ones, and those that Debian ships."""

from __future__ import annotations

import lzma
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.firmware import edk2
from bootmatrix.firmware.edk2 import (
    _LZMA,
    LARGEST_UNPACKED,
    is_store,
    mismatch,
    programs,
    store_size,
    volumes,
)
from bootmatrix.firmware.identity import printed_version
from helpers.volumes import FFS, SMBIOS_DRIVER, STORE, combined, file, packed, section, volume

X86 = ("debian-bullseye", "debian-bookworm", "debian-trixie", "debian-sid")


# ---- the walk ----------------------------------------------------------------------------------


def test_programs_in_volumes_in_compressed_sections() -> None:
    image = combined(b"one", b"two")
    assert list(programs(image)) == [(SMBIOS_DRIVER, b"one"), (SMBIOS_DRIVER, b"two")]
    first, second = volumes(image)
    assert (first.at, first.length, first.files_at) == (0, 0x20000, None)
    assert (second.at, second.files_at) == (0x20000, 0x20000 + 72)


def test_files_and_sections_of_every_size() -> None:
    large = section(b"x" * 5)
    extended = b"\xff\xff\xff\x10" + (8 + 3).to_bytes(4, "little") + b"abc\0"
    image = volume(file(large, large=True) + file(extended) + file(section(b"raw"), kind=1)
                   + file(section(b"pad"), kind=0xF0) + file(section(b"other", 0x19)))
    assert [code for _, code in programs(image)] == [b"x" * 5, b"abc"]


@pytest.mark.parametrize("image", [
    b"", b"_FVH", bytes(40) + b"_FVH", volume(file(section(b"x")))[:-1],
    volume(file(section(b"x"))).replace(b"_FVH\0\0", b"_FVH\1\0"),  # the checksum tells
    volume(system=STORE, size=4096),
    volume(file(packed(b"")[:-1] + b"!", kind=0x0B)),
    volume(b"\xff" * 64),
    volume(b"\0" * 64),
], ids=range(9))
def test_where_there_is_nothing(image: bytes) -> None:
    assert list(programs(image)) == []


def test_what_unpacks_to_too_much_is_not_unpacked() -> None:
    bomb = packed(section(b"") + bytes(LARGEST_UNPACKED))
    assert len(bomb) < 20_000
    begun = time.monotonic()
    assert list(programs(volume(file(bomb * 50, kind=0x0B)))) == []
    assert time.monotonic() - begun < 10


def test_volumes_in_volumes_without_end() -> None:
    image = volume(file(section(b"deepest")))
    for _ in range(20):
        image = volume(file(section(image, 0x17), kind=0x0B))
    assert list(programs(image)) == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_ends_the_walk_and_nothing_else(data: st.DataObject) -> None:
    image = bytearray(volume(
        file(packed(section(volume(file(section(b"1.2.3\0"))), 0x17)), kind=0x0B)
        + file(section(b"after"))))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(image) - 1))
        image[at] = data.draw(st.integers(0, 255))
    del image[data.draw(st.integers(0, len(image))):]
    list(programs(bytes(image)))
    printed_version(bytes(image))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=4096))
def test_any_bytes(noise: bytes) -> None:
    list(programs(noise))
    list(programs(volume(noise)))
    list(programs(volume(file(noise, kind=0x0B))))
    printed_version(noise)
    is_store(noise)
    edk2.cut_off(noise)
    mismatch(len(noise) + 1, noise)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 3653631), st.integers(1, 255))
def test_a_real_image_with_a_wrong_byte(at: int, by: int) -> None:
    whole = ovmf("debian-sid", "ovmf-4m").read_bytes()
    image = bytearray(whole)
    image[at] ^= by
    assert printed_version(bytes(image)) in (None, printed_version(whole))


# ---- code and variables --------------------------------------------------------------------------


def ovmf(build: str, kind: str, variables: bool = False) -> Path:
    found = ImageStore().beside(build, kind)
    path = found.variables if variables else found.path
    assert path is not None
    return path


@pytest.fixture(scope="module", autouse=True)
def _built(store: ImageStore) -> None:
    assert all(map(store.is_built, X86))


@pytest.mark.parametrize("build", X86)
def test_what_is_shipped_fits(store: ImageStore, build: str) -> None:
    for kind in store.kinds(build):
        firmware = store.beside(build, kind)
        if firmware.variables:
            variables = firmware.variables.read_bytes()
            assert is_store(variables)
            assert mismatch(firmware.size, variables) is None, kind
            assert store_size(firmware.path.read_bytes()) == 0
        elif kind == "ovmf-combined":
            assert firmware.store_size == store_size(firmware.path.read_bytes()) > 0


def test_the_two_layouts_do_not_fit_each_other() -> None:
    small = ovmf("debian-bookworm", "ovmf-2m", variables=True).read_bytes()
    large = ovmf("debian-bookworm", "ovmf-4m", variables=True).read_bytes()
    assert mismatch(3653632, small) == (
        "the code is of OVMF's 4 MiB layout (3653632 bytes), the variables of the 2 MiB layout "
        "(131072 bytes): the flash keeps no variables")
    assert mismatch(1966080, large) == (
        "the code is of OVMF's 2 MiB layout (1966080 bytes), the variables of the 4 MiB layout "
        "(540672 bytes): the flash keeps no variables")
    assert "of a layout with a flash of its own (67108864" in (mismatch(64 << 20, small) or "")
    arm = volume(size=0xC0000, system=STORE).ljust(64 << 20, b"\xff")
    assert mismatch(64 << 20, arm) is None
    assert "the variables of another layout (786432 bytes)" in (mismatch(3653632, arm) or "")


@pytest.mark.parametrize(("variables", "can_be"), [
    (volume(size=4096, system=STORE), True),
    (bytes(4096), True),          # bullseye's AAVMF_VARS.fd: formatted at the first boot
    (b"\xff" * 4096, True),
    (b"\x01" * 4096, False),
    (b"\xff" * 4095 + b"\0", False),
    (volume(size=4096, system=FFS), False),  # that is code
    (bytes(4096) + volume(size=4096, system=STORE), False),
    (b"", False),
], ids=range(8))
def test_what_can_be_a_store(variables: bytes, can_be: bool) -> None:
    assert is_store(variables) is can_be


def test_the_drivers_of_a_real_image() -> None:
    found = list(programs(ovmf("debian-trixie", "ovmf-4m").read_bytes()))
    assert len(found) > 100
    assert sum(name == SMBIOS_DRIVER for name, _ in found) == 1
    assert all(code[:2] in (b"MZ", b"VZ") for _, code in found)


def test_headers_that_are_as_long_as_all_the_rest_are_none() -> None:
    """To add up 64 KiB for each of them takes minutes."""
    header = struct.pack("<16x16sQ4sIHHHBB", FFS.bytes_le, 65536, b"_FVH", 0, 65534, 0, 0, 0, 2)
    assert list(volumes(header * ((16 << 20) // len(header)))) == []


def test_what_does_not_unpack_counts_too() -> None:
    """Each such section has taken the time of 60 MiB before it fails."""
    broken = bytearray(lzma.compress(bytes(1 << 20), lzma.FORMAT_ALONE, preset=0))
    broken[-40:] = b"Z" * 40
    walk = edk2._Walk()
    head = _LZMA.bytes_le + (24).to_bytes(2, "little") + bytes(2)
    assert walk._unpack(head + bytes(broken), 4) == b""
    assert walk._left == 0


def test_a_store_that_is_cut_off_says_how_long_it_is() -> None:
    whole = volume(size=0x20000, system=STORE)
    assert edk2.cut_off(whole) == edk2.cut_off(whole + whole[:4096]) == 0
    for left in (len(whole) - 1, 4096, 72):
        assert edk2.cut_off(whole[:left]) == len(whole)
    for other in (whole[:71], bytes(4096) + whole[:4096], volume(size=0x20000)[:4096],
                  b"\xff" * 4096, whole[:16] + bytes(4096), b""):
        assert edk2.cut_off(other) == 0
