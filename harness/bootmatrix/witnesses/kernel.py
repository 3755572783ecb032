"""The Linux kernel that runs: ``ProbeLine.kernel``, ``token`` and ``uptime``."""

from __future__ import annotations

from typing_extensions import TypedDict

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem
from bootmatrix.witnesses.probe_line import ProbeLine


class RunningRow(TypedDict, total=False):
    """Which kernel runs."""

    release: str | None
    token: str | None
    uptime: int | None


class KernelRow(TypedDict, total=False):
    """Its part of a boot in the record, and of a running guest's answer; None: there is none."""

    kernel: RunningRow | None


def row(line: ProbeLine | None) -> KernelRow:
    """What it puts into the record."""
    if line is None or line.token is None:
        return {"kernel": None}
    return {"kernel": {"release": line.kernel, "token": line.token, "uptime": line.uptime}}


def still_runs(moment: Moment) -> Problem | None:
    """A boot brings a kernel that has not run before."""
    line = moment.line
    for boot in moment.boots:
        if line and boot.line and boot.line.token is not None and boot.line.token == line.token:
            return Verdict.WRONG_KERNEL, (
                f"the kernel of boot {boot.n} still runs (token {line.token})"
            )
    return None


def problem(moment: Moment) -> Problem | None:
    """Without a boot it is the same kernel that runs on."""
    line, before = moment.line, moment.before
    if line is None or before is None or before.token is None:
        return None
    if line.token != before.token:
        return Verdict.WRONG_KERNEL, (
            f"another kernel runs (token {line.token}) than before (token {before.token})"
        )
    if (line.uptime or 0) < (before.uptime or 0):
        return Verdict.WRONG_KERNEL, (
            f"the kernel's uptime went back from {before.uptime} s to {line.uptime} s"
        )
    return None
