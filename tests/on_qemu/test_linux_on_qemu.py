"""A Linux guest as a witness on real QEMUs: it lives on, or another one boots, and never else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from bootmatrix.cell import Cell
from bootmatrix.deadline import Deadline
from bootmatrix.machines.console import Console
from bootmatrix.machines.qemu.migration import Migration, migrate
from bootmatrix.machines.qemu.monitor import Monitor
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import FirmwareBuild, GuestKind, Verdict
from bootmatrix.records.model import Record
from bootmatrix.run.runner import Runner
from bootmatrix.steps.library import parse
from helpers.cells import cell

SECONDS = 180.0
ANSWER_SECONDS = 10.0


def linux(route: str, policy: str, scenario: str, firmware: str | None = None) -> Cell:
    """A cell of the library with Linux by ``-kernel``; ``firmware`` None: SeaBIOS on i440fx."""
    machine = "pc-q35-5.2" if firmware else "pc-i440fx-5.2"
    wanted = cell(route, policy, scenario, machine, seconds=SECONDS)
    hosts = tuple(replace(host, firmware=firmware) for host in wanted.hosts)
    return replace(wanted, hosts=hosts, guest=GuestKind.LINUX_KERNEL)


def tokens(record: Record) -> Iterator[tuple[str, str]]:
    """Each step at which the guest said something, and the token of the kernel that said it."""
    boots = iter(record["boots"])
    for step in record["steps"]:
        row: Any = step.get("guest") or next(boots)
        yield step["step"], row["kernel"]["token"]


# Waking up goes through the reset vector, where the swap stands ready for the destination's
# firmware; it has to wait for the reset. With SeaBIOS this is a cell of matrices/linux.yaml.
@pytest.mark.slow
def test_the_kernel_and_the_firmware_stay_what_they_are_until_the_reset(runner: Runner) -> None:
    wanted = linux("trixie sid", "machine-owned", "migrate-suspend-wake-reset", "ovmf-4m")
    old, new = (runner.host(host).firmware.name for host in wanted.hosts)
    record = runner.run(wanted)
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert [boot["rom"] for boot in record["boots"]] == [old, new]
    assert [step["rom"] for step in record["steps"] if "rom" in step] == [old, old]
    (start, first), *awake, (reset, second) = tokens(record)
    assert (start, reset) == ("start", "reset")
    assert awake == [("migrate", first), ("suspend", first)]
    assert second != first


@pytest.mark.thorough
def test_a_swap_at_the_wake_up_is_caught(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, seabios: dict[str, FirmwareBuild]
) -> None:
    seen, ask = Monitor.seen, Console.ask

    def any_stop_is_a_reset(self: Monitor, name: str, since: int = 0) -> bool:
        swapping = threading.current_thread().name == "reactor"
        return swapping or seen(self, name, since)

    # The guest cannot survive it, and need not be waited for as long as for a boot.
    monkeypatch.setattr(Console, "ask", lambda self, _: ask(self, Deadline.after(ANSWER_SECONDS)))
    monkeypatch.setattr(Monitor, "seen", any_stop_is_a_reset)
    record = runner.run(linux("bullseye sid", "machine-owned", "migrate-suspend-wake-reset"))
    assert record["verdict"] == Verdict.WRONG_FIRMWARE
    assert record["reason"] == (
        f"suspend: the ROM of the running guest changed to {seabios['sid'].name}, "
        f"expected {seabios['bullseye'].name} until the next reset"
    )


@pytest.mark.slow
def test_a_guest_that_was_reset_before_it_moved_is_caught(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset_and_migrate(source: VM, *args: Any) -> Migration:
        source.reset(source.clock.deadline(SECONDS))
        assert source.console.wait_for_boot(source.clock.deadline(SECONDS)).up is not None
        return migrate(source, *args)

    monkeypatch.setattr("bootmatrix.machines.qemu.migration.migrate", reset_and_migrate)
    moving = replace(linux("bullseye sid", "stock", "migrate-reset"),
                     scenario=parse("own", ["start", "migrate"]))
    record = runner.run(moving)
    assert record["verdict"] == Verdict.WRONG_KERNEL
    (_, first), (_, moved) = tokens(record)
    assert record["reason"] == (
        f"migrate: another kernel runs (token {moved}) than before (token {first})"
    )
