"""What each mode of a migration takes of the QEMUs that do it: a row each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

from bootmatrix.model import Grant, Host, MigrationMode

Version = tuple[int, int]


class Way(Enum):
    """How a migration goes; the file of ``bootmatrix.machines.qemu.migration`` that does it."""

    CHANNEL = "the step's channel"
    MAPPED = "mapped"
    POSTCOPY = "postcopy"
    SNAPSHOT = "snapshot"
    CPR_TRANSFER = "cpr_transfer"
    CPR_EXEC = "cpr_exec"


class Credentials(Enum):
    """How two QEMUs know each other when a migration is encrypted; QEMU's objects for it."""

    X509 = "tls-creds-x509"
    PSK = "tls-creds-psk"


class Memory(Enum):
    """Where a guest's memory lies: that of its own process, or one that another can have, too."""

    ANONYMOUS = "anonymous"
    FILE = "memory-backend-file"
    MEMFD = "memory-backend-memfd"


PEER = "bootmatrix"
"""What both call each other then."""


@dataclass(frozen=True)
class Mode:
    """A row: ``since`` is the first version of QEMU that has it.

    ``capabilities`` and ``parameters`` are QEMU's, in its spelling, and are set on both sides,
    those of ``source`` and ``destination`` on that alone. ``credentials``: they have objects of
    that kind, ``tls-client`` and ``tls-server``. ``way``: how it goes. A destination is of version
    ``into`` at least, as ``why`` says. ``grants`` is what its sandboxes need, ``memory`` where the
    guest's has to lie.
    ``half_way``: it can end while the guest's memory goes over from one QEMU to the other.
    ``passes`` over the memory are made before the guest goes on at the destination, by postcopy.
    ``recovers``: its connection breaks half-way, and it goes on by another.
    """

    since: Version = (0, 0)
    capabilities: tuple[str, ...] = ()
    parameters: Mapping[str, str | int] = field(default_factory=dict)
    source: Mapping[str, str | int] = field(default_factory=dict)
    destination: Mapping[str, str | int] = field(default_factory=dict)
    credentials: Credentials | None = None
    way: Way = Way.CHANNEL
    into: Version = (0, 0)
    why: str = ""
    grants: frozenset[Grant] = frozenset()
    memory: Memory = Memory.ANONYMOUS
    half_way: bool = True
    passes: int = 0
    recovers: bool = False

    def with_more(
        self, capabilities: Sequence[str], parameters: Mapping[str, str | int],
        *, recovers: bool = False,
    ) -> Mode:
        """The same with more of both sides'; and its connection breaks, if it ``recovers``."""
        return replace(self, capabilities=(*self.capabilities, *capabilities), recovers=recovers,
                       parameters=MappingProxyType({**self.parameters, **parameters}))

    @property
    def can_recover(self) -> bool:
        """Whether what is still to go over can wait for another connection, and is enough."""
        return self.way is Way.POSTCOPY and not self.passes

    @property
    def one_way(self) -> bool:
        """Whether all of it is one stream, to which nothing is answered."""
        return self.way is Way.CHANNEL and not self.capabilities and self.credentials is None

    @property
    def leaves_first(self) -> bool:
        """Whether the source has ended before there is a destination: both write to one disk."""
        return self.way is Way.SNAPSHOT

    @property
    def answers_late(self) -> bool:
        """Whether a destination says nothing before the migration to it has begun."""
        return self.way in (Way.CPR_TRANSFER, Way.CPR_EXEC)

    @property
    def in_place(self) -> bool:
        """Whether a destination has no process of its own: the source's becomes it."""
        return self.way is Way.CPR_EXEC


def _multifd(since: Version, channels: int, compression: str = "none") -> Mode:
    return Mode(since, ("multifd",), MappingProxyType(
        {"multifd-channels": channels, "multifd-compression": compression}))


def _mapped_ram(*capabilities: str, **parameters: int) -> Mode:
    named = {name.replace("_", "-"): value for name, value in parameters.items()}
    return Mode((9, 0), ("mapped-ram", *capabilities), MappingProxyType(named), way=Way.MAPPED,
                half_way=False)


def _postcopy(passes: int) -> Mode:
    # Bytes a second: of the smallest guest a pass takes more than a second then. In so few ms what
    # is left does not go over, so that it waits for postcopy.
    return Mode(
        capabilities=("postcopy-ram",),
        source=MappingProxyType({"max-bandwidth": 512 << 10, "downtime-limit": 1}),
        way=Way.POSTCOPY, into=(8, 1), grants=frozenset({Grant.USERFAULTFD}), passes=passes,
        why="which takes /dev/userfaultfd: no sandbox has the system call")


def _tls(credentials: Credentials) -> Mode:
    # A client wants the name of the host that it has connected to, and a socket has none.
    return Mode((3, 0), credentials=credentials,
                source=MappingProxyType({"tls-creds": "tls-client", "tls-hostname": PEER}),
                destination=MappingProxyType({"tls-creds": "tls-server"}))


# Since then a snapshot can be of named disks alone.
SNAPSHOT_OF_NAMED: Version = (6, 0)

MODES: Mapping[MigrationMode, Mode] = MappingProxyType({
    MigrationMode.PRECOPY: Mode(),
    MigrationMode.POSTCOPY: _postcopy(0),
    MigrationMode.POSTCOPY_AFTER_PASS: _postcopy(1),
    MigrationMode.CPR_REBOOT: Mode(
        (8, 2), ("x-ignore-shared",), MappingProxyType({"mode": "cpr-reboot"}), way=Way.MAPPED,
        memory=Memory.FILE, half_way=False),
    MigrationMode.CPR_TRANSFER: Mode(
        (10, 0), source=MappingProxyType({"mode": "cpr-transfer"}), way=Way.CPR_TRANSFER,
        memory=Memory.MEMFD, grants=frozenset({Grant.MEMFD}), half_way=False),
    MigrationMode.CPR_EXEC: Mode(
        (10, 2), source=MappingProxyType({"mode": "cpr-exec"}), way=Way.CPR_EXEC,
        memory=Memory.MEMFD, grants=frozenset({Grant.MEMFD}), half_way=False),
    MigrationMode.SAVEVM: Mode(way=Way.SNAPSHOT, half_way=False),
    MigrationMode.TLS_X509: _tls(Credentials.X509),
    MigrationMode.TLS_PSK: _tls(Credentials.PSK),
    MigrationMode.MULTIFD: _multifd((4, 0), 2),
    MigrationMode.MULTIFD_4: _multifd((4, 0), 4),
    MigrationMode.MULTIFD_ZLIB: _multifd((5, 0), 2, "zlib"),
    MigrationMode.MULTIFD_ZSTD: _multifd((5, 0), 2, "zstd"),
    MigrationMode.MAPPED_RAM: _mapped_ram(),
    MigrationMode.MAPPED_RAM_MULTIFD: _mapped_ram("multifd", multifd_channels=2),
})

_ANYBODY_S = {"max-bandwidth", "downtime-limit"}
OWNED = frozenset({"events", *(name for row in MODES.values() for name in (
    *row.capabilities, *row.parameters, *row.destination, *row.source))} - _ANYBODY_S
    | {"cpr-exec-command", "max-postcopy-bandwidth"})
"""QEMU's names of what a mode says, or the harness: nobody else does."""
UNSERVED = MappingProxyType({
    "pause-before-switchover": "the source waits for a migrate-continue, which nobody says here",
})
"""Capabilities that want more than to be told, and why."""


def lacking(
    mode: MigrationMode, hosts: Sequence[Host], destinations: Collection[int]
) -> Iterator[str]:
    """Why these hosts cannot do it: who is too old, or is as a destination, by index."""
    row = MODES[mode]
    for host in hosts:
        if version_of(host) < row.since:
            yield (f"{mode} is QEMU {_dotted(row.since)}'s and later, "
                   f"{host.name} has {host.qemu.version}")
    if row.in_place and len({host.qemu.place for host in hosts}) > 1:
        who = " and ".join(dict.fromkeys(host.name for host in hosts))
        yield (f"{mode}: a process replaces itself by a program of its own sandbox, and {who} "
               "have one each")
    for index in sorted(destinations):
        if version_of(hosts[index]) < row.into:
            yield (f"{mode} goes into QEMU {_dotted(row.into)} and later, {row.why}; "
                   f"{hosts[index].name} has {hosts[index].qemu.version}")


def version_of(host: Host) -> Version:
    """The version of a host's QEMU, to be compared."""
    major, minor, *_ = (*map(int, host.qemu.version.split(".")[:2]), 0)
    return major, minor


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
