"""The CPUs and the memory that the guest sees, planted and judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.model import Verdict
from bootmatrix.verdict import judge
from bootmatrix.witnesses import hardware
from bootmatrix.witnesses.moment import Given
from helpers.judging import HERE, KNOWN, MIGRATE, OLD, START, boot, migrated, planned, started, up

MIB = 1 << 10


@pytest.mark.parametrize(("cpus", "memory", "uefi", "given", "told"), [
    (2, 31 * MIB, None, Given(memory_mib=32, cpus=2), ""),
    (0, 0, None, Given(memory_mib=32, cpus=2), ""),  # nothing tells
    (None, None, None, Given(memory_mib=32, cpus=2), ""),
    (1, 16 * MIB, None, Given(), ""),
    (1, 32 * MIB, None, Given(memory_mib=32, cpus=2), "CPUs: 1 instead of 2"),
    (4, 32 * MIB, None, Given(memory_mib=32, cpus=2), "CPUs: 4 instead of 2"),
    (2, 31 * MIB - 1, None, Given(memory_mib=32, cpus=2), "memory: 31743 KiB of 32768 KiB"),
    (2, 33 * MIB, None, Given(memory_mib=32, cpus=2), "memory: 33792 KiB of 32768 KiB"),
    (1, 16 * MIB, None, Given(memory_mib=32, cpus=2),
     "CPUs: 1 instead of 2, memory: 16384 KiB of 32768 KiB"),
    (1, 120 * MIB, "EDK II", Given(memory_mib=128, cpus=1), ""),
    (1, 119 * MIB, "EDK II", Given(memory_mib=128, cpus=1), "memory: 121856 KiB of 131072 KiB"),
    (1, 232 * MIB, "EDK II", Given(memory_mib=256, cpus=1, smm=True), ""),
    (1, 231 * MIB, "EDK II", Given(memory_mib=256, cpus=1, smm=True),
     "memory: 236544 KiB of 262144 KiB"),
])  # fmt: skip
def test_it_must_see_what_it_was_given(
    cpus: int | None, memory: int | None, uefi: str | None, given: Given, told: str
) -> None:
    line = replace(up(OLD), cpus=cpus, memory=memory, uefi=uefi)
    judgement = judge(planned(START), [started(replace(boot(OLD), up=line))], KNOWN, given)
    assert judgement.verdict is (Verdict.WRONG_HARDWARE if told else Verdict.PASS)
    if told:
        assert judgement.reason == (
            f"boot 1 (start on source): the guest does not see what it was given, {told}")


def test_without_acpi_the_mp_table_tells_of_sockets() -> None:
    line = replace(up(OLD), cpus=1, memory=None, acpi="00000000")
    judgement = judge(planned(START), [started(replace(boot(OLD), up=line))], KNOWN, Given(cpus=2))
    assert judgement.verdict is Verdict.WRONG_HARDWARE
    assert "CPUs: 1 instead of 2 (by the MP table, which has one for each socket)" in (
        judgement.reason)


def test_a_running_guest_must_see_it_too() -> None:
    answer = replace(HERE, cpus=1)
    judgement = judge(planned(START, MIGRATE), [started(), migrated(answer=answer)], KNOWN,
                      Given(cpus=2))
    assert judgement.verdict is Verdict.WRONG_HARDWARE


def test_what_is_in_the_record() -> None:
    assert hardware.row(replace(HERE, cpus=2, memory=7)) == {"memory": 7, "cpus": 2}
    assert hardware.row(None) == hardware.row(HERE) == {"memory": None, "cpus": None}


def test_a_bios_that_tells_of_no_cpu_has_told_of_one() -> None:
    line = replace(up(OLD), cpus=0, acpi="00000000")
    seen = [started(replace(boot(OLD), up=line))]
    assert judge(planned(START), seen, KNOWN, Given(cpus=1)).verdict is Verdict.PASS
    judgement = judge(planned(START), seen, KNOWN, Given(cpus=2))
    assert judgement.verdict is Verdict.WRONG_HARDWARE
    assert judgement.reason.endswith(
        "CPUs: nothing tells of any, neither an RSDP nor an MP table, instead of 2")
