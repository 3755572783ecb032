"""SLOF, the Open Firmware of QEMU's pseries: its banner, and the version in its image."""

from __future__ import annotations

import re

# board-qemu/slof/version.S. Debian's builds are called "release 20220719", others "git-...".
BANNER = r"FW Version = ([!-~][ -~]{0,80})(?=[\r\n])"
_VERSION = re.compile(rb"FW Version = ([!-~][ -~]{0,80})(?=\r\n\0)")


def printed_version(image: bytes) -> str | None:
    """The ``release 20220719`` of its banner; None where it cannot be told, or is no SLOF."""
    found = {match.group(1).decode("ascii") for match in _VERSION.finditer(image)}
    return found.pop() if len(found) == 1 else None
