"""Saved guests that outlast the QEMU they ran in: files by their content, and what is said of them.

docs/vault.md describes the format. What lies in a vault can be a stranger's: every file is opened
without following a link, read within bounds, and compared with its digest.
"""

from bootmatrix.vault.guest import SavedGuest, read, unpack, unpacked
from bootmatrix.vault.objects import Objects

__all__ = ["Objects", "SavedGuest", "read", "unpack", "unpacked"]
