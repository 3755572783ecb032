"""s390-ccw, the firmware of QEMU's s390x: it says no version, so its words have to do.

What it says of a disk of ours is one sentence everywhere, worded in two ways: between 7.2 and 10.0,
both measured, the exclamation marks went. Builds that word it alike are not told apart.
"""

from __future__ import annotations

# pc-bios/s390-ccw/bootmap.c, of a boot record of the SCSI scheme whose version is not 1.
_UNKNOWN = "Unknown MBR layout version, assuming version 1"
_LOUD, _PLAIN = f"! WARNING: {_UNKNOWN} !", f"WARNING: {_UNKNOWN}"
# Each begins with a word, for which a search is quick: see `identity.Alternatives`.
BANNERS = (rf"({_LOUD})(?=[\r\n])", rf"({_PLAIN})(?<!! {_PLAIN})(?=[\r\n])")


def printed_version(image: bytes) -> str | None:
    """The sentence as this image words it; None where it has none."""
    if _UNKNOWN.encode() not in image:
        return None
    return _LOUD if b"! WARNING: " in image else _PLAIN
