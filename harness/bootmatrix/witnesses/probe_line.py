"""The lines that our guests print on their serial port, read into values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

from bootmatrix.model import ResetBy

LineKind = Literal[
    "up", "here", "beat", "reset", "flashing", "flash", "written", "filled", "suspend", "shutdown"
]

WORD = "BOOTMATRIX"
"""With which each line of a probe guest begins."""

# What the harness typed before the command that a line answers.
_NONCE = r"(?: nonce=(?P<nonce>[0-9]{1,16}))?"
_BOOT = r" boot=(?P<boot>[0-9]{1,10})"
_BEAT = r" beat=(?P<beat>[0-9]{1,10})"
_IDENTITY = "".join(
    rf' {key}="(?P<{key.replace("-", "_")}>[ !#-~]*)"'
    for key in ("bios-vendor", "bios-version", "disk")
)
# fw_cfg, ACPI, SMBIOS: a guest that says nothing of them tells nothing wrong of them.
_MACHINE = (
    r'(?: fw-cfg="(?P<fw_cfg>(?:QEMU)?)" features=(?P<features>[0-9]{1,10})'
    r' host="(?P<host>[ !#-~]{0,63})" acpi=(?P<acpi>[0-9a-f]{8}))?'
    r'(?:(?: smbios=(?P<smbios>[0-9a-f]{8})(?: machine="(?P<machine>[ !#-~]{0,63})")?)?'
    r" memory=(?P<memory>[0-9]{1,10})"
    r" cpus=(?P<cpus>[0-9]{1,10})(?: cmos=(?P<cmos>[0-9]{1,10}))?"
    r"(?: program-sum=(?P<program_sum>[0-9a-f]{8}))?)?"
)
# Of an EFI application, and of a Linux that was booted by UEFI.
_UEFI = (
    r'(?: uefi="(?P<uefi>[ !#-~]*)" revision=(?P<revision>[0-9a-f]{8})'
    r" secure-boot=(?P<secure_boot>[01]) setup-mode=(?P<setup_mode>[01])"
    r' keys=(?P<keys>[0-9a-f]{8}) value="(?P<value>[ !#-~]*)" entry="(?P<entry>[ !#-~]*)"'
    r'(?: program="(?P<program>[ !#-~]*)")?)?'
)
_LINUX = (
    r'(?: kernel="(?P<kernel>[ !#-~]*)" token="(?P<token>[0-9a-f-]{1,36})"'
    r" uptime=(?P<uptime>[0-9]{1,10})"
    r'(?: pci="(?P<pci>[0-9a-f:.= ]{0,3000})" blocks=(?P<blocks>[0-9]{1,4})'
    r' net="(?P<net>[0-9a-f:]{0,17})" link=(?P<link>[01]) replies=(?P<replies>[01]))?)?'
)
# Of a guest that has found a TPM. No PCR: it could not be read. Linux tells of the PCRs alone.
_TPM = r"(?:(?: secret=(?P<secret>sealed|unlocked|locked-out|[0-9a-f]{8}))?" + "".join(
    rf" pcr{number}=(?P<pcr{number}>(?:[0-9a-f]{{64}})?)" for number in (0, 2, 4, 7)) + (
    r'(?: blobs="(?P<blobs>(?: [0-9a-f]{8}\+[0-9a-f]{8}=[0-9a-f]{8}){0,16})")?)?')
_AT = r" at=(?P<at>[0-9]{1,10})"
_FLASHED = (
    r" size=(?P<size>[0-9]{1,10}) written=(?P<written>[0-9]{1,10})"
    r" result=(?P<result>ok|no-image|no-flash|misfit|refused|mismatch)"
)
_BY = " by=(?P<by>" + "|".join(by.value for by in ResetBy if by is not ResetBy.MONITOR) + ")"
# What UEFI's SetVariable answered, by the name of its status without EFI_ ("ok", "not-found").
_RESULT = r" result=(?P<result>[a-z-]{1,32})"
_WRITTEN = r' value="(?P<value>[ !#-~]*)"' + _RESULT
_FILLED = r" count=(?P<count>[0-9]{1,10}) size=(?P<size>[0-9]{1,10})" + _RESULT
_FIELDS: dict[LineKind, str] = {
    "up": _BOOT + _IDENTITY + _MACHINE + _UEFI + _TPM + _LINUX,
    "here": _NONCE + _BOOT + _BEAT + _IDENTITY + _MACHINE + _UEFI + _TPM + _LINUX,
    "beat": _BOOT + _BEAT,
    "reset": _NONCE + _BY,
    "flashing": _NONCE + _AT,
    "flash": _NONCE + _FLASHED,
    "written": _NONCE + _WRITTEN,
    "filled": _NONCE + _FILLED,
    "suspend": _NONCE,
    "shutdown": _NONCE,
}
_NUMBERS = ("boot", "beat", "features", "memory", "cpus", "cmos", "at", "size", "written", "count",
            "uptime", "blocks", "link", "replies")


class Tables(NamedTuple):
    """The sums over the tables in a guest's memory; None where it tells nothing of them."""

    acpi: str | None
    smbios: str | None


class Measured(NamedTuple):
    """PCR 0, and the pieces of firmware of which the log says that they are in there."""

    pcr0: str
    blobs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ProbeLine:
    """One line of a guest; what its kind does not tell is None.

    ``up`` opens a boot, ``here`` answers a ``?``, ``beat`` comes every half second, ``reset``
    precedes a reset that was asked for, as do ``suspend`` and ``shutdown``. ``nonce`` are the
    digits that were typed before the command that the line answers. ``boot`` counts from 1
    since the CMOS was empty, under UEFI since the variable store was, and ``beat`` from 1 within
    the boot (``here`` can precede the first: 0). ``bios_vendor`` and ``bios_version`` are empty
    where the firmware had no SMBIOS type 0, or not that string.

    What fw_cfg and the ACPI tables say is read as the line is printed. ``fw_cfg`` is the
    device's signature, ``QEMU``, or empty where there is none; then ``features`` is 0, else the
    feature bits of key 1. ``host`` is the file opt/bootmatrix/host, its first 63 bytes, with
    ``?`` for what cannot be printed; empty where there is no such file. ``acpi`` is FNV-1a over
    the tables without RSDT and FADT, eight hexadecimal digits, ``00000000`` where there are none.

    ``smbios`` is FNV-1a over the SMBIOS structures but type 0, which is the firmware's, without
    their handles; ``00000000`` where there are none. ``machine`` is the version of type 1, of which
    QEMU makes the machine's type; empty where there is none. ``memory`` is the RAM in the
    firmware's map, in KiB: of a boot sector what is free, of the others what the firmware uses,
    too. ``cpus`` are those of which ACPI tells, or the firmware itself, or on which Linux runs.
    Both are 0 where nothing tells. ``cmos`` is the boot counter in the CMOS at this moment, 0
    where it is lost; None: there is no CMOS. ``program_sum`` is FNV-1a over the guest's own program
    and its constants as they lie in memory at this moment.

    ``flashing`` tells that the flash is written up to the byte ``at`` of the image, ``flash``
    that it is over: ``written`` of the ``size`` bytes of the fw_cfg file opt/bootmatrix/flash
    were programmed, with a ``result`` that images/guests/probe.asm explains.

    Under UEFI: ``uefi`` and ``revision`` are the firmware's vendor and revision, ``secure_boot``
    and ``setup_mode`` the variables of these names ("0" or "1"), ``keys`` FNV-1a over PK, KEK, db
    and dbx (``00000000`` where there are none). ``value`` is our variable's, ``entry`` the
    description of our boot entry, both empty where there is none; ``written`` tells that both
    were written, or a ``value`` for another purpose, ``filled`` that ``count`` variables, ``size``
    bytes in all, filled the store. An EFI application says which ``program`` it is: its path.

    With a TPM: ``secret`` is what became at this boot of one that is sealed there, or the response
    code of the command that failed; Linux seals none. ``pcr0`` ... are its registers in the bank
    for SHA-256, empty where they could not be read; ``blobs`` are the pieces of firmware of which
    the log says that they are in PCR 0, each with its address, its length and the beginning of its
    SHA-256.

    ``foreign``: a guest has said it that is not ours, and tells nothing but that it is up.

    Linux adds ``kernel``, its release, ``token``, which no other boot of it has, and ``uptime`` in
    seconds; ``pci``, the devices with their addresses (``00:02.0=1af4:1000 ...``), ``blocks``, how
    many disks it has, ``net``, the address of its network card ("" without one), whether that has a
    ``link``, and whether anybody ``replies`` there.
    """

    kind: LineKind
    boot: int | None = None
    beat: int | None = None
    bios_vendor: str | None = None
    bios_version: str | None = None
    disk: str | None = None
    by: ResetBy | None = None
    fw_cfg: str | None = None
    features: int | None = None
    host: str | None = None
    acpi: str | None = None
    smbios: str | None = None
    machine: str | None = None
    memory: int | None = None
    cpus: int | None = None
    cmos: int | None = None
    program_sum: str | None = None
    at: int | None = None
    size: int | None = None
    written: int | None = None
    result: str | None = None
    uefi: str | None = None
    revision: str | None = None
    secure_boot: str | None = None
    setup_mode: str | None = None
    keys: str | None = None
    value: str | None = None
    entry: str | None = None
    program: str | None = None
    count: int | None = None
    kernel: str | None = None
    token: str | None = None
    uptime: int | None = None
    pci: str | None = None
    blocks: int | None = None
    net: str | None = None
    link: int | None = None
    replies: int | None = None
    secret: str | None = None
    pcr0: str | None = None
    pcr2: str | None = None
    pcr4: str | None = None
    pcr7: str | None = None
    blobs: str | None = None
    nonce: str | None = None
    foreign: bool = False

    @property
    def pcrs(self) -> Mapping[str, str]:
        """The registers of its TPM by their numbers; none where it tells of no TPM."""
        registers = {"0": self.pcr0, "2": self.pcr2, "4": self.pcr4, "7": self.pcr7}
        return {number: value for number, value in registers.items() if value}

    @property
    def measured(self) -> Measured | None:
        """What its firmware has measured of itself; None where it cannot be read."""
        return Measured(self.pcr0, frozenset((self.blobs or "").split())) if self.pcr0 else None

    @property
    def tables(self) -> Tables:
        """What it has for ACPI and SMBIOS tables."""
        return Tables(self.acpi, self.smbios)


@cache
def _pattern(kind: LineKind) -> re.Pattern[str]:
    """Compiled where a guest says such a line, which most processes never hear."""
    return re.compile(_FIELDS[kind])


def parse_line(text: str) -> ProbeLine | None:
    """Read one whole console line, with or without its line end; None if it is not the probe's.

    A line that was cut off inside a number cannot be told from a whole one: give only lines
    whose end was seen. images/guests/probe.asm describes the format.
    """
    words = text.strip("\r\n").split(" ", 2)
    if len(words) < 2 or words[0] != WORD:
        return None
    fields_of_it = "".join(f" {word}" for word in words[2:])
    for kind in _FIELDS:
        if words[1] == kind and (found := _pattern(kind).fullmatch(fields_of_it)):
            values: dict[str, Any] = {
                key: int(value) if key in _NUMBERS else value
                for key, value in found.groupdict().items()
                if value is not None
            }
            if "by" in values:
                values["by"] = ResetBy(values["by"])
            return ProbeLine(kind, **values)
    return None
