"""coreboot says its name at each of its stages, and starts others that say theirs."""

from __future__ import annotations

import pytest

from bootmatrix.firmware import coreboot
from bootmatrix.firmware.identity import banner_version, own, printed_version

# As coreboot 24.08 prints it, and as 4.0 did.
LINES = {
    "[NOTE ]  coreboot-24.08-12-g0f2d Fri Aug 23 17:31:07 UTC 2024 x86_32 bootblock starting "
    "(log level: 7)...\r\n": "coreboot-24.08-12-g0f2d",
    "coreboot-4.0-r5522 Tue May 4 20:41:02 CEST 2010 starting...\r\n": "coreboot-4.0-r5522",
    "coreboot-4.19 Mon Jan 16 00:00:00 UTC 2023 ramstage starting (log level: 7)...\n":
        "coreboot-4.19",
}


@pytest.mark.parametrize("line", LINES, ids=LINES.values())
def test_its_banner(line: str) -> None:
    assert banner_version(line) == LINES[line]


@pytest.mark.parametrize("text", ["coreboot-24.08", "coreboot-24.08 is not here\r\n", "coreboot- "])
def test_what_is_none(text: str) -> None:
    assert banner_version(text) is None


def test_the_version_in_its_image_is_what_it_prints() -> None:
    image = b'\xff' * 64 + b'#define COREBOOT_VERSION "24.08"\n' + b"SeaBIOS (version %s)\x00"
    assert coreboot.printed_version(image) == "coreboot-24.08"
    assert printed_version(image) == "coreboot-24.08", "SeaBIOS is what it starts"
    assert coreboot.printed_version(b"COREBOOT_VERSION: 4.22.01\n") == "coreboot-4.22.01"
    assert coreboot.printed_version(b"nothing") is None
    two = b"COREBOOT_VERSION: 4.21\nCOREBOOT_VERSION: 4.22\n"
    assert coreboot.printed_version(two) is None


def test_of_its_payloads_banners_none_is_the_images() -> None:
    assert own(["coreboot-24.08", "coreboot-24.08", "1.16.3-2"]) == ("coreboot-24.08",) * 2
    assert own(["1.16.3-2"]) == ("1.16.3-2",)
    assert own([]) == ()
