"""What the project ships beside its code: the catalogue and the sources of the guest programs."""

from __future__ import annotations

from pathlib import Path

IMAGES = Path(__file__).resolve().parents[3] / "images"
