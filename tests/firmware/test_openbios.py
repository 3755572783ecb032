"""OpenBIOS' banner, and when its image was built."""

from __future__ import annotations

from bootmatrix.firmware.identity import banner_version, printed_version

DATE = "Sep 4 2023 14:11"
LINE = f"Welcome to OpenBIOS v1.1 built on {DATE}\r\n"


def test_its_banner() -> None:
    assert banner_version(f"OpenBIOS for Sparc64\r\n{LINE}") == DATE
    assert banner_version(LINE.rstrip()) is None  # the line is not whole
    assert banner_version("OpenBIOS v1.1 built on a Monday\r\n") is None


def test_the_date_in_its_image_is_what_it_prints() -> None:
    image = b"\x15Welcome to OpenBIOS v\0\0" + DATE.encode() + b"\0"
    assert printed_version(image) == DATE
    assert printed_version(image + b"Oct 29 2026 06:59\0") is None
    assert printed_version(DATE.encode() + b"\0") is None
