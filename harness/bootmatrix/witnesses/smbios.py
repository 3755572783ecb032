"""SMBIOS type 0, as the guest found it: who made the firmware, and which version it is.

Observed as ``ProbeLine.bios_vendor`` and ``bios_version``.
"""

from __future__ import annotations

from typing import Annotated

from typing_extensions import TypedDict

from bootmatrix.firmware.identity import own
from bootmatrix.model import Verdict
from bootmatrix.witnesses.console import FIRST
from bootmatrix.witnesses.moment import Moment, Problem

# Vendors that are not who the banner names: SeaBIOS calls itself so, and without its version,
# where QEMU gives it no SMBIOS (isapc, microvm); U-Boot is what OpenSBI starts; of coreboot it is
# whatever its builder calls it.
_SEABIOS_ITSELF = "Bochs"
_NOT_THE_BANNERS = (_SEABIOS_ITSELF, "U-Boot", "coreboot")


class SmbiosRow(TypedDict, total=False):
    """Its part of a boot in the record: vendor and version."""

    smbios: Annotated[list[str | None], FIRST] | None


def row(moment: Moment) -> SmbiosRow:
    """What it puts into the record."""
    line = moment.line
    return {"smbios": [line.bios_vendor, line.bios_version] if line else None}


def problem(moment: Moment) -> Problem | None:
    """The banner says something else."""
    line, banners = moment.line, own(moment.boot.banners)
    if line is None or not banners or line.bios_vendor in _NOT_THE_BANNERS:
        return None
    if line.bios_version == banners[-1]:
        return None
    return Verdict.WITNESS_CONFLICT, (
        f"the banner says {banners[-1]}, the guest found {line.bios_version or 'nothing'} in SMBIOS"
    )


def made_by_another(moment: Moment) -> Problem | None:
    """Either QEMU gives SeaBIOS its SMBIOS, or SeaBIOS makes one: for one machine always the same.

    So it was with each machine type of the shipped matrices, in QEMU 5.2 to 11.1. SeaBIOS says
    nothing of a file that is missing in fw_cfg.
    """
    before = moment.boots[-1].line if moment.boots else None
    now = moment.line
    if before is None or now is None or moment.boot.nameless or moment.given.real:
        return None
    own = [line.bios_vendor == _SEABIOS_ITSELF for line in (before, now)]
    if own[0] == own[1]:
        return None
    was, is_now = ("SeaBIOS' own" if one else "QEMU's" for one in own)
    return Verdict.WRONG_TABLES, (
        f"the guest found {is_now} SMBIOS, and {was} at the boot before: "
        "one of the hosts offers none in fw_cfg"
    )
