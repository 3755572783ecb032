"""A disk of the user's own: what is taken, and the overlay that is made for it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.guests.own_disk import OWN_DISK, empty, overlay, virtual_size
from bootmatrix.model import Arch, FirmwareBuild, GuestKind, Interface, OwnDisk


def test_an_empty_image_is_one(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    image.write_bytes(empty(5 << 30))
    assert virtual_size(OwnDisk(image)) == 5 << 30
    assert len(image.read_bytes()) % 65536 == 0
    with pytest.raises(UserError, match="a disk of 0 bytes"):
        empty(0)


def test_an_overlay_is_as_large_as_the_disk(tmp_path: Path) -> None:
    raw = tmp_path / "raw.img"
    raw.write_bytes(bytes(1000))
    made = overlay(OwnDisk(raw, "raw"), tmp_path / "cache")
    assert virtual_size(OwnDisk(made)) == 1024
    assert raw.read_bytes() == bytes(1000)
    firmware = FirmwareBuild("x", "0", 0, raw, Interface.BIOS)
    assert OWN_DISK.kind is GuestKind.DISK
    with pytest.raises(UserError, match="no other"):
        OWN_DISK.disk("A", tmp_path, Arch.X86_64, firmware)


def test_what_is_not_taken(tmp_path: Path) -> None:
    image = tmp_path / "a"
    image.write_bytes(b"no image")
    for form, says in (("qcow2", "no qcow2 image"),):
        with pytest.raises(UserError, match=says):
            virtual_size(OwnDisk(image, form))
    good = bytearray(empty(1 << 20))
    image.write_bytes(good)
    with pytest.raises(UserError, match="is a qcow2 image"):
        virtual_size(OwnDisk(image, "raw"))
    for at, value in ((8, 4096), (72, 4)):  # a backing file; an external data file
        bad = bytearray(good)
        struct.pack_into(">Q", bad, at, value)
        image.write_bytes(bad)
        with pytest.raises(UserError, match="not all that its disk is"):
            virtual_size(OwnDisk(image))
    with pytest.raises(UserError, match="No such file"):
        virtual_size(OwnDisk(tmp_path / "none"))
