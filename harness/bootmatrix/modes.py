"""What each mode of a migration takes of the QEMUs that do it: a row each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from bootmatrix.model import Host, MigrationMode


@dataclass(frozen=True)
class Mode:
    """A row: ``since`` is the first version of QEMU that has it.

    ``capabilities`` and ``parameters`` are QEMU's, in its spelling, and are set on both sides.
    ``by_file``: the guest's memory lies in a file, in places of its own; the source is done with
    it before the destination begins.
    """

    since: tuple[int, int]
    capabilities: tuple[str, ...] = ()
    parameters: Mapping[str, str | int] = field(default_factory=dict)
    by_file: bool = False


def _multifd(since: tuple[int, int], channels: int, compression: str = "none") -> Mode:
    return Mode(since, ("multifd",), MappingProxyType(
        {"multifd-channels": channels, "multifd-compression": compression}))


MODES: Mapping[MigrationMode, Mode] = MappingProxyType({
    MigrationMode.PRECOPY: Mode((0, 0)),
    MigrationMode.MULTIFD: _multifd((4, 0), 2),
    MigrationMode.MULTIFD_4: _multifd((4, 0), 4),
    MigrationMode.MULTIFD_ZLIB: _multifd((5, 0), 2, "zlib"),
    MigrationMode.MULTIFD_ZSTD: _multifd((5, 0), 2, "zstd"),
    MigrationMode.MAPPED_RAM: Mode((9, 0), ("mapped-ram",), by_file=True),
    MigrationMode.MAPPED_RAM_MULTIFD: Mode(
        (9, 0), ("mapped-ram", "multifd"), MappingProxyType({"multifd-channels": 2}), by_file=True),
})


def lacking(mode: MigrationMode, hosts: Sequence[Host]) -> Iterator[str]:
    """Why these hosts cannot do it: who is too old."""
    since = MODES[mode].since
    for host in hosts:
        version = host.qemu.version
        if tuple(map(int, version.split(".")[:2])) < since:
            yield (f"{mode} is QEMU {since[0]}.{since[1]}'s and later, "
                   f"{host.name} has {version}")
