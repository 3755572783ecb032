"""U-Boot's banner, its own or behind that of who has started it."""

from __future__ import annotations

from bootmatrix.firmware import u_boot
from bootmatrix.firmware.identity import banner_version, own, printed_version

LINE = "U-Boot 2024.01+dfsg-5 (Jan 08 2024 - 15:37:48 +0000)"


def test_its_banner() -> None:
    assert banner_version(f"\r\n\r\n{LINE}\r\n") == "U-Boot 2024.01+dfsg-5"
    assert banner_version("U-Boot SPL 2024.01 (Jan 08 2024 - 15:37:48 +0000)\r\n") is None
    assert banner_version("U-Boot 2024.01 is here\r\n") is None


def test_the_version_in_its_image_is_what_it_prints() -> None:
    image = b"\x00" + LINE.encode() + b"\x00"
    assert u_boot.printed_version(image) == printed_version(image) == "U-Boot 2024.01+dfsg-5"
    assert u_boot.printed_version(image + image.replace(b"2024", b"2025")) is None
    assert u_boot.printed_version(b"U-Boot") is None


def test_who_starts_it_is_the_firmware() -> None:
    assert own(["1.3", "U-Boot 2024.01"]) == ("1.3",)
    assert own(["U-Boot 2024.01"]) == ("U-Boot 2024.01",)
