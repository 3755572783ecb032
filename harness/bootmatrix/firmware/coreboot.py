"""coreboot: its banner, and the version in its image.

What it starts (SeaBIOS, EDK II, U-Boot) has a banner of its own, and the image's is coreboot's.
"""

from __future__ import annotations

import re

NAME = "coreboot-"

# Each stage says it (src/lib/bootblock.c and others): "coreboot-24.08-12-g1234 Fri Aug 23 17:31:07
# UTC 2024 x86_32 bootblock starting (log level: 7)...". Its name is a part of the version here.
BANNER = r"(coreboot-[^ ()\r\n]{1,80})(?= [^()\r\n]{1,80} starting)"

# The files "revision" and "build_info" of its file system, which are not compressed (Makefile.mk:
# build.h and its short form). What both have comes first: that is what makes the search quick.
_VERSIONS = re.compile(
    rb'COREBOOT_VERSION(?:(?<=#define COREBOOT_VERSION) "|: )([0-9A-Za-z.+~_-]{1,80})(?=["\n])')


def printed_version(image: bytes) -> str | None:
    """The ``coreboot-24.08`` of its banner; None where it cannot be told, or is no coreboot."""
    found = {match.group(1).decode("ascii") for match in _VERSIONS.finditer(image)}
    return NAME + found.pop() if len(found) == 1 else None
