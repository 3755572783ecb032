"""QEMU as a machine: what it makes of its process, which the test plays."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.engines.confinement import Priority
from bootmatrix.errors import DeadlineExceeded, MonitorError
from bootmatrix.machines.qemu import machine
from bootmatrix.machines.qemu.machine import QemuHosts, QemuMachine, rom_block_size
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Channel, MigrationMode, Nic
from bootmatrix.policies.base import Swap
from bootmatrix.witnesses.refusal import Refusal

SOON = Deadline.after(1e6)  # from the import on, which is long before the last test


class Monitor:
    """Of which is asked how the machine is."""

    def __init__(self, error: Exception | None = None) -> None:
        self.resets = 3
        self._error = error
        self.asked: list[str] = []

    def execute(self, command: str, *, deadline: Deadline) -> None:
        self.asked.append(command)
        if self._error is not None:
            raise self._error


class Swapping:
    """A swap that has been made; how often it has swapped, and what did not fit."""

    def __init__(self, misfit: str | None = None) -> None:
        self.swaps = 0
        self.misfit = misfit
        self.provide: Callable[[], Any] | None = None

    def check(self) -> None:
        """Nothing has failed."""


def made(swap: Swap = Swap.NOTHING, *, monitor: Monitor | None = None, urgent: bool = False,
         share: float = 0.0, **vm: Any) -> tuple[QemuMachine, Any, Swapping]:
    swapping = Swapping()
    process: Any = SimpleNamespace(
        name="1-source", monitor=monitor or Monitor(), resets=2, resets_before=0, pid=4242,
        stopped=False, log_tail=lambda: "", connect=lambda deadline: None, shares=[], **vm)
    process.slow_down = process.shares.append
    setup: Any = SimpleNamespace(mechanism=SimpleNamespace(swap=swap), urgent=urgent, share=share,
                                 migration=MigrationMode.PRECOPY)
    files = SimpleNamespace(staged=None, code=lambda host: f"code of {host}",
                            take_staged=lambda: "staged")
    hosts: Any = SimpleNamespace(setup=setup, files=files, swap_of=lambda vm: swapping)
    prepared: Any = SimpleNamespace(nvram=None, image="image(P)")
    return QemuMachine(process, 1, prepared, cast(QemuHosts, hosts)), process, swapping


@pytest.mark.parametrize("error", [None, MonitorError("gone"), DeadlineExceeded("not in time")])
def test_resets_are_counted_by_events_whatever_the_monitor_says(error: Exception | None) -> None:
    one, process, _ = made(monitor=Monitor(error))
    assert one.resets(SOON) == 2
    assert process.monitor.asked == ["query-status"], "an answer comes behind the events before it"


def test_why_it_stands_still_is_in_its_log() -> None:
    one, process, _ = made()
    assert one.stopped() is None
    process.stopped, process.log_tail = True, lambda: "KVM internal error. Suberror: 1\n"
    assert "internal" in (one.stopped() or "")


@pytest.mark.parametrize(("swap", "image"), [
    (Swap.LAUNCHED, "image(P)"), (Swap.FILE, "code of 1"), (Swap.NOTHING, None),
    (Swap.STAGED, None),
])
def test_which_firmware_it_is_armed_with(swap: Swap, image: str | None) -> None:
    one, _, swapping = made(swap)
    one.arm()
    assert (swapping.provide() if swapping.provide else None) == image
    assert one.stub_is_free is (image is None), "who swaps nothing leaves the stub to others"


def test_a_machine_that_answers_late_is_armed_once_it_has_arrived(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _, _ = made()
    target, process, swapping = made(Swap.LAUNCHED)
    target._late = True
    process.connect = None  # it would be in vain
    target.start(SOON)
    target.arm()
    assert swapping.provide is None
    assert target.clock.limit(1.0) > 1, "nobody sees whether it can run"
    refusals = [Refusal("other", "no"), None]
    monkeypatch.setattr("bootmatrix.machines.qemu.migration.migrate",
                        lambda *how: SimpleNamespace(refusal=refusals.pop(0)))
    assert source.migrate(target, Channel.UNIX, SOON) is not None
    assert swapping.provide is None
    assert source.migrate(target, Channel.UNIX, SOON) is None
    assert swapping.provide is not None


def test_staged_firmware_is_taken_once_there_is_any() -> None:
    one, _, swapping = made(Swap.STAGED)
    cast(Any, one._hosts.files).staged = b"new"
    one.arm()
    assert swapping.provide is not None
    assert swapping.provide() == "staged"


def test_a_swap_counts_for_the_boot_that_it_was_before() -> None:
    one, process, swapping = made(Swap.FILE)
    assert not one.swapped
    one.arm()
    swapping.swaps = 1
    assert one.swapped
    assert one.booted() is None
    assert not one.swapped
    assert process.resets_before == 3


def test_firmware_that_does_not_fit_is_a_refusal() -> None:
    one, _, swapping = made(Swap.FILE)
    one.arm()
    swapping.misfit = "256 KiB into 128 KiB"
    refusal = one.booted()
    assert refusal is not None
    assert (refusal.kind, refusal.message) == ("rom-size", "256 KiB into 128 KiB")


@pytest.mark.parametrize(("urgent", "share"), [(False, 0.0), (True, 0.0), (True, 0.01)])
def test_how_much_of_a_processor_it_is_to_have(
    monkeypatch: pytest.MonkeyPatch, urgent: bool, share: float
) -> None:
    first: list[tuple[int, Priority]] = []
    monkeypatch.setattr(machine, "reprioritise", lambda *args: first.append(args))
    one, process, _ = made(urgent=urgent, share=share)
    one.start(SOON)
    assert first == ([(4242, Priority.HIGH)] if urgent else [])
    assert process.shares == ([share] if share else [])


@pytest.mark.parametrize(("nic", "version", "size"), [
    (Nic.VIRTIO_ROMSIZE, "6.0.0", 256 << 10), (Nic.E1000_ROMSIZE, "11.1.3", 256 << 10),
    (Nic.VIRTIO_ROMSIZE, "5.2.0", 0), (Nic.VIRTIO, "7.2.0", 0), (Nic.NONE, "7.2.0", 0),
])
def test_a_rom_block_has_a_size_where_qemu_can_be_told(nic: Nic, version: str, size: int) -> None:
    setup: Any = SimpleNamespace(
        nic=nic, hosts=[SimpleNamespace(qemu=SimpleNamespace(version=version))])
    with patch("bootmatrix.machines.qemu.machine.rom_bytes", return_value=0):
        assert rom_block_size(cast(GuestSetup, setup), 0) == size


def test_a_rom_block_is_as_large_as_the_largest_file_of_its_hosts() -> None:
    hosts = [SimpleNamespace(qemu=SimpleNamespace(version=version)) for version in ("6.0", "9.1")]
    setup: Any = SimpleNamespace(nic=Nic.VIRTIO_ROMSIZE, hosts=hosts)
    with patch("bootmatrix.machines.qemu.machine.rom_bytes", side_effect=(249344, 262145) * 2):
        assert [rom_block_size(cast(GuestSetup, setup), host) for host in (0, 1)] == [
            512 << 10, 512 << 10]
