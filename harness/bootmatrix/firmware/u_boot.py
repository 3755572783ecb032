"""U-Boot: its banner, and the version in its image. Other firmware can start it, as OpenSBI."""

from __future__ import annotations

import re

NAME = "U-Boot "

# include/version_string.h: "U-Boot 2024.01+dfsg-5 (Jan 08 2024 - 15:37:48 +0000)". Its name is a
# part of the version here; what loads it calls itself "U-Boot SPL".
BANNER = r"(U-Boot \d{4}\.\d\d[^ ()\r\n]{0,80})(?= \([A-Z][a-z]{2} \d)"
_BANNER = re.compile(BANNER.encode())


def printed_version(image: bytes) -> str | None:
    """The ``U-Boot 2024.01`` of its banner; None where it cannot be told, or is no U-Boot."""
    found = {match.group(1).decode("ascii", "replace") for match in _BANNER.finditer(image)}
    return found.pop() if len(found) == 1 else None
