"""Damage to files, as a disk or a person does it."""

from __future__ import annotations

import os
from pathlib import Path


def flip(path: Path) -> None:
    """Change one bit in the middle, and set the time of the last write back."""
    info, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def truncate(path: Path) -> None:
    """Cut it off."""
    os.truncate(path, 4096)
