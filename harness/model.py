"""The words of the firmware-ownership model: frozen data and enums, no behaviour that does I/O.

Each word is used as the table "Words" of docs/model.md defines it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

RECORD_SCHEMA = 1
DEFAULT_MACHINE = "default"
NEWEST_COMMON = "newest-common"


class Policy(StrEnum):
    """The rule that decides which firmware runs at a boot."""

    STOCK = "stock"
    GUEST_OWNED = "guest-owned"
    GUEST_OWNED_VERSIONED = "guest-owned-versioned"
    MACHINE_OWNED = "machine-owned"
    REREAD = "reread"

    @property
    def keeps_nvram(self) -> bool:
        """Whether the guest's firmware lives in an nvram file under this policy."""
        return self in (Policy.GUEST_OWNED, Policy.GUEST_OWNED_VERSIONED)


class Interface(StrEnum):
    """The interface a firmware offers to the guest (QEMU's docs/interop/firmware.json)."""

    BIOS = "bios"
    UEFI = "uefi"


class Arch(StrEnum):
    """What a QEMU emulates, spelled as in the name of its program, qemu-system-ARCH."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"
    RISCV64 = "riscv64"


class GuestKind(StrEnum):
    """What runs in a guest once its firmware is done.

    ``probe`` is a program of ours for the firmware's interface: a boot sector, or an EFI
    application. ``linux`` boots Debian's kernel from the guest's disk, ``linux-kernel`` the same
    by ``-kernel``, through fw_cfg.
    """

    PROBE = "probe"
    LINUX = "linux"
    LINUX_KERNEL = "linux-kernel"

    @property
    def is_linux(self) -> bool:
        """Whether a Linux kernel runs."""
        return self is not GuestKind.PROBE


class Nic(StrEnum):
    """The guest's network card, which brings an option ROM from its host.

    ``...-romsize`` gives the ROM's block one size on all hosts, which is the known remedy where
    their ROM files differ in size.
    """

    NONE = "none"
    VIRTIO = "virtio"
    VIRTIO_ROMSIZE = "virtio-romsize"
    E1000 = "e1000"
    E1000_ROMSIZE = "e1000-romsize"


class Disk(StrEnum):
    """How the guest's disk is attached."""

    AHCI = "ahci"
    IDE = "ide"
    VIRTIO = "virtio"
    FLOPPY = "floppy"


class Accel(StrEnum):
    """QEMU's accelerators that a cell can ask for."""

    TCG = "tcg"
    KVM = "kvm"


class StepKind(StrEnum):
    """What can be done to a guest, in the order model.md lists it."""

    START = "start"
    RESET = "reset"
    MIGRATE = "migrate"
    SHUTDOWN = "shutdown"
    UPGRADE_HOST = "upgrade-host"
    UPGRADE_NVRAM = "upgrade-nvram"
    GUEST_FLASH = "guest-flash"
    CLEAR_NVRAM = "clear-nvram"
    REPLACE_DISK = "replace-disk"
    WRITE_VARIABLE = "write-variable"
    FILL_VARIABLES = "fill-variables"
    SUSPEND = "suspend"


class ResetBy(StrEnum):
    """Who asks for a reset: the monitor, or the guest in one of these ways.

    Linux calls them, for its ``reboot=``: pci, kbd, triple, acpi, efi.
    """

    MONITOR = "monitor"
    CF9 = "cf9"
    KEYBOARD = "keyboard"
    TRIPLE_FAULT = "triple-fault"
    ACPI = "acpi"
    EFI_COLD = "efi-cold"
    EFI_WARM = "efi-warm"


class ShutdownBy(StrEnum):
    """Who ends a guest: the monitor, as pulling the plug does, or the guest itself."""

    MONITOR = "monitor"
    GUEST = "guest"


class Channel(StrEnum):
    """What a migration stream travels through."""

    UNIX = "unix"
    TCP = "tcp"
    FILE = "file"


class Verdict(StrEnum):
    """Expectation and observation, compared. docs/model.md says what each means."""

    PASS = "pass"  # noqa: S105  # no password
    WRONG_FIRMWARE = "wrong-firmware"
    WRONG_DISK = "wrong-disk"
    WRONG_FW_CFG = "wrong-fw-cfg"
    WRONG_VARIABLES = "wrong-variables"
    WRONG_KERNEL = "wrong-kernel"
    NO_BOOT = "no-boot"
    SILENT = "silent"
    BLOCKED = "blocked"
    WITNESS_CONFLICT = "witness-conflict"
    UNSUPPORTED = "unsupported"
    ERROR = "error"


@dataclass(frozen=True)
class Signing:
    """What signs a program for a firmware's Secure Boot: two PEM files, and what opens the key."""

    key: Path
    certificate: Path
    passphrase: str = ""


@dataclass(frozen=True)
class FirmwareBuild:
    """A firmware image: its bytes, its interface, and the version it prints.

    ``size`` is in bytes, ``sha256`` in lower-case hex. ``prints`` is the version text that
    stands in the image and appears in its banner or in SMBIOS, None where the image holds none.

    UEFI firmware is split or combined. Split: ``path``, ``size`` and ``sha256`` are those of the
    executable (CODE), and ``variables`` is the template of the variable store (VARS), to be
    copied for each guest. Combined (``variables`` None): the image begins with the store, which
    takes ``store_size`` bytes, and ``sha256`` is that of the code behind it.

    ``machines`` are globs of the machine types that it is made for, () any; ``features`` those of
    QEMU's docs/interop/firmware.json. ``payload`` is what ``-kernel`` starts behind it: U-Boot
    behind OpenSBI. ``signing`` signs guests for the keys that are enrolled in ``variables``, None
    where nobody here can.
    """

    name: str
    sha256: str
    size: int
    path: Path
    interface: Interface = Interface.BIOS
    prints: str | None = None
    variables: Path | None = None
    machines: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    payload: Path | None = None
    store_size: int = 0
    signing: Signing | None = None

    def code_of(self, image: bytes) -> bytes:
        """The code in an image of this build's layout: what stays the same while it runs."""
        return image[self.store_size :]

    @property
    def has_keys(self) -> bool:
        """Whether Secure Boot keys are enrolled, so that it refuses what is not signed."""
        return "enrolled-keys" in self.features

    @property
    def needs_smm(self) -> bool:
        """Whether it runs only on a machine with SMM and protected flash."""
        return "requires-smm" in self.features


@dataclass(frozen=True)
class QemuBuild:
    """A QEMU version plus the bytes it came from.

    ``root`` is the host directory of the root file system that holds it, ``binary`` the
    QEMU's path inside that root, ``digest`` the sha256 over the root's contents.
    ``packages`` are (name, version) pairs. ``machines`` are the concrete machine types in the
    order QEMU prints them; ``default_machine`` is the one it takes when no ``-M`` is given.
    ``firmware`` names the firmware build installed beside it, empty where there is none.

    A build from outside its root comes in by ``mounts``, read-only: (directory of the host, path
    inside). ``digest`` is then over both; ``root_name`` and ``root_digest`` are those of the root
    alone, which several builds can share. ``arguments`` are what QEMU needs to find its data.
    """

    name: str
    version: str
    digest: str
    root: Path
    binary: str = "/usr/bin/qemu-system-x86_64"
    packages: tuple[tuple[str, str], ...] = ()
    machines: tuple[str, ...] = ()
    default_machine: str = ""
    firmware: str = ""
    mounts: tuple[tuple[Path, str], ...] = ()
    arguments: tuple[str, ...] = ()
    root_name: str = ""
    root_digest: str = ""
    arch: Arch = Arch.X86_64


@dataclass(frozen=True)
class QemuSource:
    """Where a QEMU is that the catalogue does not have: one of ``path``, ``image``, ``suite``.

    ``path`` is a program or a directory that holds one, ``image`` a name in the Docker engine,
    ``suite`` a Debian suite, at ``package_version`` of qemu-system-x86 if that is given.
    ``name`` is what the user calls it, if anything.
    """

    path: Path | None = None
    image: str | None = None
    suite: str | None = None
    package_version: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        version = f"={self.package_version}" if self.package_version else ""
        place = self.path or (f"image:{self.image}" if self.image else f"suite:{self.suite}")
        return self.name or f"{place}{version}"


@dataclass(frozen=True)
class FirmwareSource:
    """A firmware that the catalogue does not have.

    ``path`` is an image's file, a ``directory`` of them, or a ``descriptor``: a JSON file as QEMU's
    docs/interop/firmware.json has it. ``variables`` is the template of the variable store beside
    an image that has its code alone.
    """

    path: Path
    directory: bool = False
    name: str | None = None
    variables: Path | None = None
    descriptor: bool = False

    def __str__(self) -> str:
        return self.name or str(self.path)


@dataclass(frozen=True)
class HostSpec:
    """A host as the matrix file says it: builds by their names in the catalogue, or by source.

    ``firmware`` None means: the one beside its QEMU. A catalogue's name without a version
    (``ovmf-4m``) is the one of that kind beside its QEMU. ``arch`` is what the QEMU emulates.
    """

    name: str
    qemu: str | QemuSource
    firmware: str | FirmwareSource | None = None
    arch: Arch = Arch.X86_64


@dataclass(frozen=True)
class Host:
    """One QEMU build and the firmware installed beside it: a HostSpec whose builds exist."""

    name: str
    qemu: QemuBuild
    firmware: FirmwareBuild


def role_name(index: int) -> str:
    """The role of a cell's host by its position: source, destination, host-3, host-4, ..."""
    return ("source", "destination")[index] if index < 2 else f"host-{index + 1}"


def role_index(role: str) -> int:
    """The position a role names; the inverse of role_name. Raises ValueError for no role."""
    if role == "source":
        return 0
    if role == "destination":
        return 1
    prefix, _, number = role.partition("-")
    if prefix == "host" and number.isdecimal() and int(number) >= 3:
        return int(number) - 1
    raise ValueError(f"no host role: {role!r}")


_RISCV_FW_CFG_SINCE = 8  # measured: 7.2 ends, 10.0 takes it

LABEL_LENGTH = 63
"""Characters of a host's label that the probe guest prints."""


def host_label(index: int, qemu: QemuBuild) -> str:
    """What names a cell's host to its guest, in the fw_cfg file opt/bootmatrix/host.

    Plain printable ASCII without quotes, as the guest's line has room for. "" where QEMU cannot be
    told: up to 7.2, riscv64's virt makes its fw_cfg after the options for it are read.
    """
    if qemu.arch is Arch.RISCV64 and int(qemu.version.split(".")[0]) < _RISCV_FW_CFG_SINCE:
        return ""
    label = f"{role_name(index)} {qemu.version} {qemu.name}"[:LABEL_LENGTH]
    return re.sub(r"[^ !#-~]", "?", label)


@dataclass(frozen=True)
class Step:
    """One thing done to the guest.

    ``host`` is the index of the host that a start, migrate or upgrade-host goes to (None: the
    step needs none). ``firmware_of`` is the index of the host whose firmware build an
    upgrade-host, upgrade-nvram or guest-flash brings. ``by`` says who asks for a reset,
    ``shutdown_by`` who for a shutdown.
    """

    kind: StepKind
    host: int | None = None
    by: ResetBy = ResetBy.MONITOR
    channel: Channel = Channel.UNIX
    during_post: bool = False
    firmware_of: int | None = None
    shutdown_by: ShutdownBy = ShutdownBy.MONITOR


@dataclass(frozen=True)
class Scenario:
    """A named list of steps, the way a guest goes through its life."""

    name: str
    steps: tuple[Step, ...]
    summary: str = ""

    @property
    def hosts_needed(self) -> int:
        """How many hosts the steps name: a cold boot needs 1, a migration 2, a chain 3."""
        named = [
            index for step in self.steps for index in (step.host, step.firmware_of)
            if index is not None
        ]
        return max(named, default=0) + 1


@dataclass(frozen=True)
class Cell:
    """One point of the matrix. Everything in it has an influence on what is run.

    ``seconds`` bounds each boot: a guest that says nothing for so long counts as silent.
    ``cpu`` is a CPU model, "" QEMU's own choice; ``smp`` is how many CPUs there are.
    """

    hosts: tuple[HostSpec, ...]
    machine: str
    policy: Policy
    scenario: Scenario
    disk: Disk = Disk.AHCI
    accel: Accel = Accel.TCG
    seconds: float = 5.0
    arch: Arch = Arch.X86_64
    guest: GuestKind = GuestKind.PROBE
    cpu: str = ""
    smp: int = 1
    nic: Nic = Nic.NONE

    @property
    def id(self) -> str:
        """The cell's name, derived from its values; safe as a file name and in a shell."""
        parts = [
            "-to-".join(host.name for host in self.hosts),
            self.machine,
            self.policy.value,
            self.scenario.name,
            self.disk.value,
        ]
        if self.accel is not Accel.TCG:
            parts.append(self.accel.value)
        if self.arch is not Arch.X86_64:
            parts.append(self.arch.value)
        if self.guest is not GuestKind.PROBE:
            parts.append(self.guest.value)
        if self.cpu:
            parts.append(f"cpu-{self.cpu}")
        if self.smp != 1:
            parts.append(f"smp-{self.smp}")
        if self.nic is not Nic.NONE:
            parts.append(f"nic-{self.nic.value}")
        return ",".join(parts)


@dataclass(frozen=True)
class Known:
    """A declared incompatibility: cells that match ``when`` are expected to end in ``verdict``.

    ``when`` maps a flattened key of the record's cell (``machine``, ``source.qemu``, ...) to
    the glob patterns of which one must match. It labels what running found; it decides nothing.
    """

    when: tuple[tuple[str, tuple[str, ...]], ...]
    verdict: tuple[Verdict, ...]
    reason: str
    link: str | None = None


@dataclass(frozen=True)
class Boot:
    """What was seen at one boot, beside what the policy's model says must be seen.

    ``n`` counts from 1. ``expected`` and ``rom`` name a firmware build, ``console`` names one
    or repeats what was printed; ``rom`` is ``sha256:...`` where the bytes are no known build.
    ``seconds`` runs from the request (launch or reset) to the guest's line, or to giving up.
    """

    n: int
    step: str
    host: str
    expected: str
    console: str | None
    rom: str | None
    up: bool
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """One cell, run: the interface for reports, gates and every tool downstream.

    ``to_json`` gives the object docs/record.md describes, one line of a records file.
    """

    cell: Mapping[str, Any]
    verdict: Verdict
    reason: str
    boots: tuple[Boot, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()
    qemus: tuple[Mapping[str, Any], ...] = ()
    engine: str = ""
    seconds: float = 0.0
    artifacts: str = ""
    known: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON data, the fixed keys first, others after them."""
        boots = []
        for boot in self.boots:
            row = {key: getattr(boot, key) for key in (
                "n", "step", "host", "expected", "console", "rom", "up", "seconds")}
            boots.append(row | dict(boot.details))
        return {
            "schema": RECORD_SCHEMA,
            "cell": dict(self.cell),
            "verdict": self.verdict.value,
            "reason": self.reason,
            "known": self.known,
            "boots": boots,
            "steps": [dict(step) for step in self.steps],
            "qemus": [dict(qemu) for qemu in self.qemus],
            "engine": self.engine,
            "seconds": self.seconds,
            "artifacts": self.artifacts,
        } | dict(self.details)
