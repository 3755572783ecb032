"""What happens while a guest migrates, on real QEMUs: a short life each; more in matrices."""

from __future__ import annotations

from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.lab import Lab
from bootmatrix.machines.base import KeepsNvram, able
from bootmatrix.nvram import Nvram
from bootmatrix.steps.migration_fails import CUT_WITHIN

OLD, NEW, OTHER = "debian-bookworm", "debian-sid", "debian-trixie"
MACHINE = "pc-i440fx-5.2"


@pytest.mark.parametrize("by", ["monitor", "cf9"])
def test_a_reset_meanwhile_is_the_source_s_and_runs_its_firmware(
    lab: Lab, store: ImageStore, by: str
) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy="machine-owned", disk="virtio")
    mine = guest.start().firmware
    begun = guest.migration_begins(NEW)
    assert begun.observed.answer is not None
    assert begun.observed.host == 0
    ask = guest.vm.monitor.execute
    reset = guest.reset(by=by)
    assert reset.observed.boot is not None
    assert reset.observed.boot.host == 0
    assert reset.firmware == mine
    assert ask("query-migrate", deadline=Deadline.after(60))["status"] == "active"
    moved = guest.migrate(NEW)
    assert moved.up
    assert moved.observed.answer is not None
    assert (moved.observed.host, moved.observed.answer.boot) == (1, 2)
    assert guest.reset().firmware == store.qemu(NEW).firmware


SPOILED: list[tuple[dict[str, Any], str]] = [
    ({"by": "stream-cut", "seed": 7}, "cut after "),
    ({"by": "stream-cut", "seed": 4, "within": 256 << 10}, "cut after "),
    ({"by": "destination-refuses"}, "refused: machine-type: "),
]


@pytest.mark.parametrize(("how", "told"), SPOILED, ids=["cut", "cut-late", "refuses"])
def test_a_guest_whose_migration_is_spoiled_goes_on_with_its_nvram(
    lab: Lab, how: dict[str, Any], told: str
) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy="guest-owned", disk="virtio")
    mine = guest.start().firmware
    stayed = guest.migration_fails(NEW, **how)
    assert stayed.observed.answer is not None
    assert (stayed.observed.host, stayed.observed.answer.boot, stayed.rom) == (0, 1, mine)
    assert stayed.observed.ended is not None
    assert stayed.observed.ended.startswith(told), stayed.observed.ended
    if "within" in how:
        assert int(stayed.observed.ended.split()[2]) > CUT_WITHIN
    nvram = able(guest._guest.hosts, KeepsNvram).nvram
    assert isinstance(nvram, Nvram)
    assert nvram.header.moved is None
    moved = guest.migrate(NEW)
    assert moved.observed.nvram_equal
    assert guest.reset().firmware == mine


def test_a_paused_guest_goes_on_where_it_arrived(lab: Lab) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy="guest-owned", disk="virtio")
    mine = guest.start().firmware
    moved = guest.migrate(NEW, moves_as="paused")
    assert moved.up
    assert moved.observed.nvram_equal
    assert guest.reset().firmware == mine


def test_a_destination_s_firmware_is_what_it_read_at_its_launch(
    lab: Lab, store: ImageStore
) -> None:
    other = store.qemu(OTHER).firmware
    for policy, runs in (("machine-owned", store.qemu(NEW).firmware), ("reread", other)):
        guest = lab.guest(OLD, NEW, machine=MACHINE, policy=policy, disk="virtio")
        guest.start()
        guest.migration_begins(NEW)
        guest.upgrade_host(NEW, other)
        assert guest.migrate(NEW).up
        assert guest.reset().firmware == runs
