"""A disk of the user's own: what is taken, and the overlay that is made for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.files.disk_image import virtual_size
from bootmatrix.guests.own_disk import OWN_DISK, overlay
from bootmatrix.guests.qcow2 import empty
from bootmatrix.model import Arch, FirmwareBuild, GuestKind, Interface, OwnDisk


def test_an_empty_image_is_one(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    image.write_bytes(empty(5 << 30))
    assert virtual_size(image, "qcow2") == 5 << 30
    assert len(image.read_bytes()) % 65536 == 0
    with pytest.raises(UserError, match="a disk of 0 bytes"):
        empty(0)


def test_an_overlay_is_as_large_as_the_disk(tmp_path: Path) -> None:
    raw = tmp_path / "raw.img"
    raw.write_bytes(bytes(1000))
    made = overlay(OwnDisk(raw, "raw"), tmp_path / "cache")
    assert virtual_size(made, "qcow2") == 1024
    assert raw.read_bytes() == bytes(1000)
    firmware = FirmwareBuild("x", "0", 0, raw, Interface.BIOS)
    assert OWN_DISK.kind is GuestKind.DISK
    with pytest.raises(UserError, match="no other"):
        OWN_DISK.disk("A", tmp_path, Arch.X86_64, firmware)
