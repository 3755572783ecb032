"""SLOF's banner, and the version in its image."""

from __future__ import annotations

import pytest

from bootmatrix.firmware.identity import banner_version, printed_version

BANNER = ("SLOF\x1b[0m\x1b[?25l *****\r\n\x1b[1mQEMU Starting\r\n\x1b[0m"
          " Build Date = Dec 16 2025 06:10:19\r\n FW Version = {}\r\n")


@pytest.mark.parametrize("version", ["release 20220719", "git-3a259df244"])
def test_its_banner_and_its_image(version: str) -> None:
    banner = BANNER.format(version)
    assert banner_version(banner) == version
    assert printed_version(b"\x7f" + banner.encode() + b"\0\0" + banner.encode() + b"\0") == version


def test_what_is_none() -> None:
    assert banner_version("FW Version = ") is None
    assert banner_version("FW Version = release 2022") is None  # the line is not whole
    assert printed_version(b"FW Version = release 20220719\0") is None
    two = BANNER.format("release 1") + "\0" + BANNER.format("release 2") + "\0"
    assert printed_version(two.encode()) is None
