"""Matrix files for tests."""

from __future__ import annotations

from collections.abc import Sequence

from bootmatrix.model import HostSpec

BASE = """\
schema: 1
hosts:
  a: {qemu: qa}
  b: {qemu: qb, firmware: seabios-1}
axes:
  machine: pc-q35-5.2
  scenario: migrate-reset
"""


def never(host: HostSpec) -> Sequence[str]:
    """Stands in for who knows a QEMU's machine types, where nobody needs to."""
    raise AssertionError(f"nobody should ask for the machines of {host}")
