"""Whether QEMU has stopped the guest by itself: ``StepObserved.stopped``, and why, from its log."""

from __future__ import annotations

import re

from bootmatrix.model import Verdict
from bootmatrix.witnesses.moment import Moment, Problem

STATE = "internal-error"
"""QEMU's run state when what runs a guest, which is KVM, cannot run it any further."""

_LINE = "[^\n]{0,200}"
_KVM = re.compile(rf"^(?:KVM internal error{_LINE}|KVM: {_LINE}|error: kvm run failed{_LINE})",
                  re.MULTILINE)  # fmt: skip
_EMULATION = re.compile(r"^emulation failure", re.MULTILINE)
_AT = re.compile(r"^[ER]IP=([0-9a-f]{8,16})", re.MULTILINE)


def words(log: str) -> str:
    """What QEMU's log says of it: the last complaint of KVM's, with its place in the guest."""
    complaints = list(_KVM.finditer(log))
    if not complaints:
        return STATE
    said, rest = complaints[-1].group().rstrip("."), log[complaints[-1].end():]
    if _EMULATION.search(rest):
        said += ", emulation failure"
    if at := _AT.search(rest):
        said += f" at {int(at.group(1), 16):#x}"
    return said


def problem(moment: Moment) -> Problem | None:
    """The guest is not up, or does not answer, because QEMU has stopped it."""
    stopped = moment.seen.stopped
    return None if stopped is None else (Verdict.STOPPED, f"QEMU stopped the guest: {stopped}")
