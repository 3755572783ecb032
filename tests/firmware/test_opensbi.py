"""The version of an OpenSBI."""

from __future__ import annotations

import struct

import pytest

from bootmatrix.firmware.identity import (
    printed_version,
)
from bootmatrix.firmware.opensbi import printed_version as opensbi_version


def opensbi(format_: bytes = b"\nOpenSBI v%d.%d\n\0", *loads: int) -> bytes:
    """The instructions of OpenSBI 1.6's banner, and its format, each where the other expects it."""
    code = struct.pack(f"<{len(loads)}HII", *loads, 0x00000517, (0x40 - 2 * len(loads)) << 20
                       | 0x00050513)
    return code.ljust(0x40, b"\0") + format_


@pytest.mark.parametrize(
    ("image", "version"),
    [
        (opensbi(b"\nOpenSBI v%d.%d\n\0", 0x4619, 0x4585), "1.6"),
        (opensbi(b"\nOpenSBI v%d.%d\n\0", 0x4581, 0x4625), "0.9"),
        (opensbi(b"\nOpenSBI v%d.%d\n\0", 0x4619, 0x4619), None),
        (opensbi(b"\nOpenSBI v%d.%d\n\0", 0x4619), None),
        (opensbi(b"\nOpenSBI v%d.%d\n\0"), None),
        (opensbi(b"\nOpenSBI %s\n\0", 0x4619, 0x4585), None),
        (opensbi(b"\0\nOpenSBI v%d.%d\n\0", 0x4619, 0x4585), None),  # another text is meant
    ],
)  # fmt: skip
def test_the_version_of_opensbi(image: bytes, version: str | None) -> None:
    assert opensbi_version(image) == version
    assert printed_version(image) == version, "it is asked for by whoever meets an image"
