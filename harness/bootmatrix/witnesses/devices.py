"""The devices that a Linux guest drives: ``ProbeLine.pci``, ``blocks``, ``net`` and ``replies``.

What it had at its first boot it must have at any time: nothing of a scenario takes a device away.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.probe_line import ProbeLine

_MOST_NAMED = 6


class CardRow(TypedDict, total=False):
    """The network card."""

    address: str | None
    link: int | None
    replies: int | None


class DevicesRow(TypedDict, total=False):
    """Its part of a boot in the record, and of a running guest's answer; None: it does not tell."""

    pci: str | None
    blocks: int | None
    net: CardRow | None


def row(line: ProbeLine | None) -> DevicesRow:
    """What it puts into the record: nothing of a guest that has no drivers."""
    if line is None or line.pci is None:
        return {}
    card: CardRow = {"address": line.net, "link": line.link, "replies": line.replies}
    return {"pci": line.pci, "blocks": line.blocks, "net": card if line.net else None}


def problem(moment: Moment) -> Problem | None:
    """A device that was there at the first boot is not, or its disks, or its network."""
    line = moment.line
    first = next((boot.line for boot in moment.boots if boot.line is not None), moment.before)
    if line is None or first is None or line.pci is None or first.pci is None:
        return None
    lost = [device for device in first.pci.split() if device not in line.pci.split()]
    wrong = []
    if lost:
        more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        wrong.append(f"PCI devices: {', '.join(lost[:_MOST_NAMED])}{more}")
    if (line.blocks or 0) < (first.blocks or 0):
        wrong.append(f"disks: {line.blocks} of {first.blocks}")
    if first.net and line.net != first.net:
        wrong.append(f"the network card {first.net} (now {line.net or 'none'})")
    elif first.link and not line.link:
        wrong.append("the link of its network card")
    elif first.replies and not line.replies:
        wrong.append("its network: nobody replies")
    if not wrong:
        return None
    return Verdict.WRONG_HARDWARE, f"the guest has lost {'; '.join(wrong)}"
