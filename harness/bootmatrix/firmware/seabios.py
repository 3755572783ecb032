"""SeaBIOS: its banner, and the version in its image."""

from __future__ import annotations

import re

# It is printed first thing (its src/bootsplash.c and src/post.c). The version is free text, chosen
# by whoever built it: "1.14.0-2", "rel-1.16.3-0-ga6ed6b701f0a-prebuilt.qemu.org".
BANNER = r"SeaBIOS \(version (?=[^()\r\n]+\))([^()\r\n]+)"

# The version stands in the image as a C string of its own; the assembler pads with NUL or NOP
# (0x90) before it. It is a release's, or what git says of a commit behind whatever tag. An image
# can be hostile: what was matched is not tried again.
_VERSION_STRING = re.compile(
    rb"[\0\x90]((?:rel-|v)?\d{1,9}+\.\d{1,9}+\.\d{1,9}+[0-9A-Za-z.+~_-]{0,200}+"
    rb"|[0-9A-Za-z][0-9A-Za-z.+~_/-]{0,200}-g[0-9a-f]{7,40}+)(?=\0)")
_FORMAT = b"SeaBIOS (version %s)"


def is_one(image: bytes) -> bool:
    """Whether the image prints that banner."""
    return _FORMAT in image


def printed_version(image: bytes) -> str | None:
    """The version that one prints; None where it cannot be told."""
    found = {match.group(1).decode("ascii") for match in _VERSION_STRING.finditer(image)}
    return found.pop() if len(found) == 1 else None
