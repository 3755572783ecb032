"""What a run wants of a cluster, as its options say. Importing this module costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bootmatrix.cluster import address as addresses


@dataclass(frozen=True)
class ClusterWishes:
    """What a run wants of its cluster, as its options say."""

    address: str
    tls: Path | None = None
    insecure: bool = False
    same_roots: bool = True
    all_artifacts: bool = False
    jobs: int | None = None

    def check(self) -> None:
        """Raise UserError for what cannot be, or must not be."""
        addresses.check_installed()
        addresses.check_safe(addresses.parse(self.address), self.tls, self.insecure)
        addresses.security(self.tls)
