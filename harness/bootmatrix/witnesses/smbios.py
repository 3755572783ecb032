"""SMBIOS type 0, as the guest found it: who made the firmware, and which version it is.

Observed as ``ProbeLine.bios_vendor`` and ``bios_version``. Of a disk of the user's it is what a
command prints there, if the matrix names one.
"""

from __future__ import annotations

from typing import Annotated

from typing_extensions import TypedDict

from bootmatrix.firmware.identity import own
from bootmatrix.model import Verdict
from bootmatrix.witnesses.console import FIRST
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.probe_line import ProbeLine

# Vendors that are not who the banner names: SeaBIOS calls itself so, and without its version,
# where QEMU gives it no SMBIOS (isapc, microvm); U-Boot is what OpenSBI starts; of coreboot it is
# whatever its builder calls it; SLOF has in its device tree what its commit was called.
_SEABIOS_ITSELF = "Bochs"
_NOT_THE_BANNERS = (_SEABIOS_ITSELF, "U-Boot", "coreboot", "SLOF")


class SmbiosRow(TypedDict, total=False):
    """Its part of a boot in the record: vendor and version."""

    smbios: Annotated[list[str | None], FIRST] | None


def row(moment: Moment) -> SmbiosRow:
    """What it puts into the record."""
    line = _line(moment)
    return {"smbios": [line.bios_vendor, line.bios_version] if line else None}


def _line(moment: Moment) -> ProbeLine | None:
    """The line that tells of SMBIOS, if any: that of a guest that is not ours if it was asked."""
    up = moment.boot.up
    return up if up is not None and up.foreign and up.bios_version is not None else moment.line


def problem(moment: Moment) -> Problem | None:
    """The banner says something else."""
    line, banners = _line(moment), own(moment.boot.banners)
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


def of_another_machine(moment: Moment) -> Problem | None:
    """QEMU puts its machine's type into type 1, as the version of the product.

    That of a versioned type of a PC is its name, whatever the QEMU: so it was in 5.2 to 11.1. What
    SeaBIOS makes itself says nothing of it.
    """
    line, machine = moment.line, moment.given.machine
    if line is None or machine is None or line.machine is None:
        return None
    if line.machine == machine or line.bios_vendor == _SEABIOS_ITSELF:
        return None
    return Verdict.WRONG_TABLES, (
        f"SMBIOS tells the guest that its machine is {line.machine or 'nothing'}, it is {machine}"
    )
