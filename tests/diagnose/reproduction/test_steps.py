"""What a reproduction script does in each step; test_script.py runs such scripts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cell import Cell
from bootmatrix.diagnose import reproduction
from bootmatrix.machines import fake
from bootmatrix.model import Accel, HostSpec
from bootmatrix.policies import Policy
from bootmatrix.steps import STEPS
from bootmatrix.steps.library import parse
from helpers.fakes import MACHINE, setup

TO_B: dict[str, Any] = {"firmware-of": "destination"}


def written(
    directory: Path, policy: str, steps: Sequence[Any], *, small: bool = False,
    machine: str = MACHINE,
) -> list[list[str]]:
    """The lines of each step, comments at their ends and QEMU's options left out."""
    made = replace(setup(directory, policy), machine=machine)
    if small:
        hosts = [*made.hosts]
        hosts[1] = replace(hosts[1], firmware=fake.firmware("1.17.0-2", directory, fake.SIZE // 2))
        made = replace(made, hosts=hosts)
    specs = (HostSpec("a", "a"),) * len(made.hosts)
    cell = Cell(specs, machine, Policy(policy), parse("own", steps))
    body = reproduction.script(cell, made).split("# ---- step ")[1:]
    body[-1] = body[-1].partition("\n\nfinish 'all")[0]
    return [[line.partition("  #")[0].rstrip(" \\") for line in step.splitlines()[1:]
             if line and not line.startswith("    ")] for step in body]


def test_each_step_does_something(tmp_path: Path) -> None:
    steps: list[Any] = ["start", {"guest-flash": TO_B}, {"upgrade-nvram": TO_B}, "reset",
                        {"upgrade-host": TO_B}, "replace-disk", "write-variable",
                        "fill-variables", "write-boot-entry", "enrol-keys", "suspend",
                        "migration-fails", "migration-begins", "migrate", "shutdown",
                        "clear-nvram"]
    assert {step if isinstance(step, str) else next(iter(step)) for step in steps} == {
        *STEPS} - {"guest-flash-power-loss"}  # a board's
    assert all(written(tmp_path, "guest-owned", steps))


def test_what_needs_no_more_than_a_line(tmp_path: Path) -> None:
    steps = ["start", "suspend", "write-variable", "guest-flash", "replace-disk",
             {"shutdown": {"by": "guest"}}]
    assert written(tmp_path, "stock", steps)[1:] == [
        ["suspend 1-source", "ask 1-source"],
        ["tell 1-source v written", "ask 1-source"],
        ["tell 1-source f flash"],
        ["mv disk.img disk.old.img", "disk_b disk.img"],
        ["guest_shutdown 1-source"],
    ]


def test_each_host_has_its_accelerator(tmp_path: Path) -> None:
    made = setup(tmp_path, accel=Accel.TCG_TO_KVM)
    specs = (HostSpec("a", "a"),) * len(made.hosts)
    steps = parse("own", ["start", "migrate", {"migrate": {"to": "source"}}])
    cell = Cell(specs, MACHINE, Policy.STOCK, steps, accel=Accel.TCG_TO_KVM)
    script = reproduction.script(cell, made)
    assert re.findall(r"accel=(\w+)", script) == ["tcg", "kvm", "tcg"]
    source, destination = script.split("# destination: QEMU")
    assert ("/dev/kvm" in source, "--dev-bind /dev/kvm /dev/kvm" in destination) == (False, True)


def test_machine_owned_swaps_from_the_first_reset_after_a_migration_on(tmp_path: Path) -> None:
    start, before, migrate, *after = written(
        tmp_path, "machine-owned", ["start", "reset", "migrate", "reset", "reset"])
    assert before == ["mark 1-source", "qmp 1-source system_reset",
                      "watch 2 'reset on source' 1-source"]
    assert start[0] == "launch 1-source SOURCE"
    assert migrate == [
        "launch 2-destination DESTINATION",
        "cp destination/bios.bin 2-destination/image.bin",
        "migrate_unix 1-source 2-destination", "stop 1-source", "ask 2-destination",
    ]  # fmt: skip
    arm = f"arm_swap 2-destination 2-destination/image.bin {fake.SIZE}"
    assert [step[:-4] for step in after] == [["gdb_stub 2-destination", arm], [arm]]
    assert [step[-1] for step in after] == ["swapped 2-destination"] * 2


def test_reread_swaps_what_the_host_has_by_then(tmp_path: Path) -> None:
    _, upgrade, reset = written(tmp_path, "reread", ["start", {"upgrade-host": TO_B}, "reset"])
    assert upgrade[1] == ('cp "$DESTINATION_FIRMWARE" source/bios.bin.new '
                          "&& mv source/bios.bin.new source/bios.bin")
    assert f"arm_swap 1-source source/bios.bin {fake.SIZE}" in reset


def test_the_nvram_goes_where_the_guest_goes(tmp_path: Path) -> None:
    first, migrate, _, again, _, back = written(tmp_path, "guest-owned", [
        "start", "migrate", "shutdown", "start", "shutdown", {"start": {"on": "source"}}])
    assert first[1] == "into_nvram source/bios.bin source/nvram.bin"
    assert migrate[0].startswith("blank_nvram destination/nvram.bin")
    assert again[0] == "launch 3-destination DESTINATION"
    assert back[0] == "cp destination/nvram.bin source/nvram.bin"


def test_what_was_staged_is_taken_at_the_next_boot_and_once(tmp_path: Path) -> None:
    _, stage, first, second = written(
        tmp_path, "guest-owned", ["start", {"upgrade-nvram": TO_B}, "reset", "reset"])
    assert stage == ['cp "$DESTINATION_FIRMWARE" staged.bin']
    assert first[0] == "into_nvram staged.bin source/nvram.bin"
    assert second[0] == "mark 1-source"


def test_what_does_not_fit_is_refused_by_the_script_too(tmp_path: Path) -> None:
    steps = ["start", {"upgrade-nvram": TO_B}]
    (line,) = written(tmp_path, "guest-owned", steps, small=True)[1]
    assert line == ("finish 'refused: seabios-1.17.0-2 has 0x8000 bytes, the nvram has 0x10000'")


@pytest.mark.parametrize(("machine", "cleared"), [("default", True), (MACHINE, False)])
def test_versioned_clears_the_nvram_where_the_machine_is_another(
    tmp_path: Path, machine: str, cleared: bool
) -> None:
    steps = ["start", "shutdown", {"start": {"on": "destination"}}]
    lines = written(tmp_path, "guest-owned-versioned", steps, machine=machine)[2]
    assert any("stamped 5.2.0, is cleared" in line for line in lines) == cleared
    assert ("into_nvram destination/bios.bin destination/nvram.bin" in lines) == cleared


def test_a_boot_that_ends_elsewhere_is_watched_there(tmp_path: Path) -> None:
    start, migrate, _ = written(
        tmp_path, "stock", ["start", {"migrate": {"during-post": True}}, "reset"])
    assert start[-1] == "watch_banner 1-source"
    assert migrate[-1] == "watch 1 'migrate on destination' 2-destination"
