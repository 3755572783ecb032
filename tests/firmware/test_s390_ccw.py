"""What s390-ccw says for want of a version, on the console and in its image."""

from __future__ import annotations

import pytest

from bootmatrix.firmware.identity import banner_version, printed_version

SAID = "WARNING: Unknown MBR layout version, assuming version 1"
BEFORE = "LOADPARM=[        ]\r\nUsing virtio-blk.\r\nUsing SCSI scheme.\r\n"
UNKNOWN = b"Unknown MBR layout version, assuming version 1\0"


@pytest.mark.parametrize(("words", "image"), [
    (f"! {SAID} !", b"\n! WARNING: \0" + UNKNOWN),
    (SAID, UNKNOWN + b"WARNING: %s\n\0"),
])
def test_its_words_and_its_image(words: str, image: bytes) -> None:
    assert banner_version(f"{BEFORE}{words}\r\ns390-ccw Enumerated Boot Menu.\r\n") == words
    assert printed_version(image) == words


def test_what_is_none() -> None:
    assert banner_version(SAID) is None  # the line is not whole
    assert banner_version(f"! {SAID}\r\n") is None
    assert printed_version(b"! WARNING: \0") is None
