"""Steps that write variables need a store on each host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.steps.base import Platform
from bootmatrix.steps.fill_variables import FillVariables
from bootmatrix.steps.variables import VariablesStep
from bootmatrix.steps.write_variable import WriteVariable
from helpers.platforms import (
    ARM,
    BIOS_LINUX,
    OVMF,
    RISCV,
    SEABIOS,
    SECTOR,
    UEFI_LINUX,
    UEFI_PROBE,
    hosts,
    platform,
    why,
)


@pytest.mark.parametrize(("on", "named"), [
    (SECTOR, "seabios on pc-q35"), (BIOS_LINUX, "seabios on pc-q35"),
    (RISCV, "opensbi on virt"), (platform(OVMF, "microvm"), "ovmf-4m on microvm"),
    # one that has a store is not enough
    (replace(UEFI_PROBE, hosts=hosts(OVMF, SEABIOS)), "seabios on pc-q35"),
    (UEFI_PROBE, None), (UEFI_LINUX, None), (ARM, None),
    (platform(replace(OVMF, variables=None)), None),
])
@pytest.mark.parametrize("step", [WriteVariable(), FillVariables()])
def test_there_must_be_a_store_on_each_host(
    step: VariablesStep, on: Platform, named: str | None
) -> None:
    words = f"{step.kind} needs UEFI firmware in flash, {named} has no variable store"
    assert why(step, on) == (named and words)


def test_what_is_typed_and_said_tells_them_apart() -> None:
    write, fill = WriteVariable(), FillVariables()
    assert len({write.key, fill.key, write.line, fill.line}) == 4
    assert write.by_hand("1-source") == ("tell 1-source v written", "ask 1-source")
