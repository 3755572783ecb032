"""The store that owns a guest's firmware: one file, which QEMU maps as flash straight out of it.

``layout`` is its format and does no I/O, ``file`` reads, writes and locks, ``store`` has the
rules of docs/model.md, ``repair`` looks without touching and mends what can be mended.
"""

from bootmatrix.nvram.file import System
from bootmatrix.nvram.layout import ChangedBy, Header, Part
from bootmatrix.nvram.repair import Inspection, inspect, repair
from bootmatrix.nvram.store import ERASED, Nvram

__all__ = [
    "ERASED", "ChangedBy", "Header", "Inspection", "Nvram", "Part", "System", "inspect",
    "repair",
]
