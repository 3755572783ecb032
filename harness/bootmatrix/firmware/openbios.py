"""OpenBIOS: its banner, and when an image was built, as its version is 1.1 for many years."""

from __future__ import annotations

import re

_DATE = r"[A-Z][a-z]{2} [0-9]{1,2} [0-9]{4} [0-9]{2}:[0-9]{2}"
BANNER = rf"OpenBIOS v[0-9.]{{1,16}} built on ({_DATE})(?=[\r\n])"
_WELCOME = b"Welcome to OpenBIOS v"
_BUILT = re.compile(b"(?<![ -~])(" + _DATE.encode() + b")(?![ -~])")


def printed_version(image: bytes) -> str | None:
    """The date of its banner; None where it cannot be told, or is no OpenBIOS."""
    if _WELCOME not in image:
        return None
    found = {match.group(1).decode("ascii") for match in _BUILT.finditer(image)}
    return found.pop() if len(found) == 1 else None
