"""What the guest found in fw_cfg: ``ProbeLine.fw_cfg``, ``features`` and ``host``."""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.probe_line import ProbeLine


class DeviceRow(TypedDict, total=False):
    """What the device said."""

    signature: str | None
    features: int | None
    host: str | None


class FwCfgRow(TypedDict, total=False):
    """Its part of a boot in the record, and of a running guest's answer."""

    fw_cfg: DeviceRow | None


def row(line: ProbeLine | None) -> FwCfgRow:
    """What it puts into the record; None where the line does not tell."""
    if line is None:
        return {"fw_cfg": None}
    device: DeviceRow = {"signature": line.fw_cfg, "features": line.features, "host": line.host}
    return {"fw_cfg": None if line.fw_cfg is None else device}


def problem(moment: Moment) -> Problem | None:
    """fw_cfg is the QEMU's and not the guest's: it must name the host at any moment."""
    line, label = moment.line, moment.expected.label
    if line is None or line.fw_cfg is None or label is None or line.host == label:
        return None
    if not line.fw_cfg:
        return Verdict.WRONG_FW_CFG, "the guest finds no fw_cfg"
    return Verdict.WRONG_FW_CFG, (
        f"fw_cfg tells the guest that it is on {line.host!r}, it runs on {label!r}"
    )
