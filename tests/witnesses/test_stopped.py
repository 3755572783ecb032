"""A guest that QEMU has stopped by itself, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.verdict import judge
from bootmatrix.witnesses.stopped import words
from helpers.judging import KNOWN, MIGRATE, OLD, RESET, START, boot, migrated, planned, started

# What QEMU 7.2 and 11.1 wrote when a KVM that emulates code of 32 bits met OVMF; shortened.
OLD_LOG = """\
qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.01H:ECX.pni [bit 0]
KVM internal error. Suberror: 1
extra data[0]: 0x0000000000000001
emulation failure
EAX=00000000 EBX=00807000 ECX=00000001 EDX=00807154
EIP=fffced45 EFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
Code=66 90 53 <9b> db e3 d9 2d 74 ed fc ff
"""
NEW_LOG = """\
KVM internal error. Suberror: 1
emulation failure
RAX=0000000000000000 RBX=000000008000f844 RCX=0000000000000000 RDX=0000000000000ff0
RIP=00000000fffd45a4 RFL=00000093 [--S-A-C] CPL=0 II=0 A20=1 SMM=0 HLT=0
"""


@pytest.mark.parametrize(("log", "said"), [
    (OLD_LOG,
     "KVM internal error. Suberror: 1, emulation failure at 0xfffced45"),
    (OLD_LOG + NEW_LOG,
     "KVM internal error. Suberror: 1, emulation failure at 0xfffd45a4"),
    ("KVM: entry failed, hardware error 0x80000021\nEAX=0\nEIP=0000fff0 EFL=2\n",
     "KVM: entry failed, hardware error 0x80000021 at 0xfff0"),
    ("error: kvm run failed Bad address\n",
     "error: kvm run failed Bad address"),
    ("qemu-system-x86_64: warning: nothing\n", "internal-error"),
])  # fmt: skip
def test_why(log: str, said: str) -> None:
    assert words(log) == said


def test_a_flood_is_no_reason() -> None:
    assert len(words("KVM: " + "x" * 100_000)) < 300


def test_a_guest_that_does_not_come_up_for_that_is_not_silent() -> None:
    down = replace(boot(OLD), up=None, banners=())
    seen = replace(started(down), stopped="KVM internal error. Suberror: 1")
    judgement = judge(planned(START), [seen], KNOWN)
    assert judgement.verdict is Verdict.STOPPED
    assert judgement.reason == (
        "boot 1 (start on source): QEMU stopped the guest: "
        "KVM internal error. Suberror: 1")
    assert judge(planned(START), [replace(seen, stopped=None)], KNOWN).verdict is Verdict.SILENT


def test_a_guest_that_does_not_answer_for_that() -> None:
    seen = [started(), replace(migrated(answer=None), stopped="internal-error")]
    judgement = judge(planned(START, MIGRATE, RESET), seen, KNOWN)
    assert (judgement.verdict, judgement.reason) == (
        Verdict.STOPPED, "migrate: QEMU stopped the guest: internal-error")
