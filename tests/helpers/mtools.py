"""A FAT file system, looked into by a program that is not ours."""

from __future__ import annotations

import subprocess


def mtools(*argv: str) -> bytes:
    """What one of the mtools says."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=300).stdout
