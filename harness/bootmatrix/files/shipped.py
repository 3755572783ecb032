"""What the project ships beside its code: catalogue, sources of the guest programs, matrices."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """The directory ``images`` or ``matrices``: an installed package's own, or the checkout's."""
    installed = PACKAGE / "shipped"
    return (installed if installed.is_dir() else PACKAGE.parents[1]) / name


IMAGES = shipped("images")
MATRICES = shipped("matrices")
