"""The lines that the probe guest prints on its serial port, read into values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from harness.model import ResetBy

Kind = Literal["up", "here", "beat", "reset"]

_BOOT = r" boot=(?P<boot>[0-9]{1,10})"
_BEAT = r" beat=(?P<beat>[0-9]{1,10})"
_IDENTITY = "".join(
    rf' {key}="(?P<{key.replace("-", "_")}>[ !#-~]*)"'
    for key in ("bios-vendor", "bios-version", "disk")
)
_BY = " by=(?P<by>cf9|keyboard|triple-fault)"
_FIELDS: dict[Kind, re.Pattern[str]] = {
    "up": re.compile(_BOOT + _IDENTITY),
    "here": re.compile(_BOOT + _BEAT + _IDENTITY),
    "beat": re.compile(_BOOT + _BEAT),
    "reset": re.compile(_BY),
}


@dataclass(frozen=True)
class ProbeLine:
    """One line of the probe guest; what its kind does not tell is None.

    ``up`` opens a boot, ``here`` answers a ``?``, ``beat`` comes every half second, ``reset``
    precedes a reset that was asked for. ``boot`` counts from 1 since the CMOS was empty, and
    ``beat`` from 1 within the boot (``here`` can precede the first: 0). ``bios_vendor`` and
    ``bios_version`` are empty where the firmware had no SMBIOS type 0, or not that string.
    """

    kind: Kind
    boot: int | None = None
    beat: int | None = None
    bios_vendor: str | None = None
    bios_version: str | None = None
    disk: str | None = None
    by: ResetBy | None = None


def parse_line(text: str) -> ProbeLine | None:
    """Read one whole console line, with or without its line end; None if it is not the probe's.

    A line that was cut off inside a number cannot be told from a whole one: give only lines
    whose end was seen. images/guests/probe.asm describes the format.
    """
    words = text.strip("\r\n").split(" ", 2)
    if len(words) != 3 or words[0] != "BOOTMATRIX":
        return None
    for kind, fields in _FIELDS.items():
        found = fields.fullmatch(f" {words[2]}")
        if words[1] == kind and found:
            told: dict[str, str] = found.groupdict()
            return ProbeLine(
                kind,
                boot=int(told["boot"]) if "boot" in told else None,
                beat=int(told["beat"]) if "beat" in told else None,
                bios_vendor=told.get("bios_vendor"),
                bios_version=told.get("bios_version"),
                disk=told.get("disk"),
                by=ResetBy(told["by"]) if "by" in told else None,
            )
    return None
