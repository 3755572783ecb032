"""What the project ships beside its code: catalogue, sources of the guest programs, matrices."""

from __future__ import annotations

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """The directory ``images`` or ``matrices``: an installed package's own, or the checkout's."""
    installed = PACKAGE / "shipped"
    return (installed if installed.is_dir() else PACKAGE.parents[1]) / name


IMAGES = shipped("images")
MATRICES = shipped("matrices")


def build() -> str:
    """Tells two states of the code apart that have one version: a hash of its files.

    It is the same in a checkout and in a package that was made of it.
    """
    code = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        name = path.relative_to(PACKAGE)
        if path.is_file() and name.parts[0] != "shipped" and "__pycache__" not in name.parts:
            code.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return code.hexdigest()[:12]
