"""The invariants of docs/model.md, each on real QEMUs. The pure model's are in tests/policies."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.lab import Lab, LabGuest
from bootmatrix.nvram import Part, inspect

OLD, NEW = "debian-bullseye", "debian-sid"
MACHINE = "pc-i440fx-5.2"
GUEST_OWNED = ("guest-owned", "guest-owned-versioned")


def firmware_of(store: ImageStore, build: str) -> str:
    return store.qemu(build).firmware


def nvram_file(guest: LabGuest, role: str) -> Path:
    return guest.vm.scratch.cell.path / role / "nvram.bin"


def nvram(guest: LabGuest, role: str) -> bytes:
    """What QEMU maps out of the nvram file."""
    seen = inspect(nvram_file(guest, role))
    assert seen.problems == ()
    return seen.contents[Part.FIRMWARE]


@pytest.mark.parametrize("policy", GUEST_OWNED)
def test_1_no_step_but_the_users_changes_a_guests_firmware(
    lab: Lab, store: ImageStore, policy: str
) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy=policy)
    mine = guest.start().firmware
    assert mine == firmware_of(store, OLD)
    guest.upgrade_host(OLD, firmware_of(store, "debian-trixie"))
    assert guest.reset().firmware == mine
    assert guest.migrate(NEW).firmware == mine
    assert guest.reset(by="cf9").firmware == mine
    assert guest.reset(by="keyboard").firmware == mine
    guest.upgrade_host(NEW, firmware_of(store, "debian-bookworm"))
    assert guest.migrate(OLD).firmware == mine
    assert guest.reset(by="triple-fault").firmware == mine
    guest.shutdown()
    assert guest.start(NEW).firmware == mine


@pytest.mark.parametrize("policy", GUEST_OWNED)
def test_1_the_users_acts_do_change_it(lab: Lab, store: ImageStore, policy: str) -> None:
    wanted = firmware_of(store, "debian-trixie")
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy=policy)
    old = guest.start().firmware
    guest.upgrade_nvram(wanted)
    assert guest.migrate(NEW).firmware == old, "staged means: not before the next reset"
    assert guest.reset().firmware == wanted
    guest.shutdown()
    assert guest.start(OLD).firmware == wanted, "the upgrade is in the nvram, not in memory only"
    guest.shutdown()
    guest.clear_nvram()
    assert guest.start(NEW).firmware == firmware_of(store, NEW)


@pytest.mark.parametrize("policy", GUEST_OWNED)
def test_2_nvram_is_written_with_firmware_once(lab: Lab, policy: str) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy=policy)
    guest.start(OLD)
    before = nvram(guest, "source")
    guest.shutdown()
    guest.start(OLD)
    assert nvram(guest, "source") == before
    guest.shutdown()
    guest.start(NEW)
    assert nvram(guest, "destination") == before


# What was there is a matter of the file, whichever QEMU comes.
@pytest.mark.parametrize(("destination", "there_before"), [
    pytest.param(f"debian-{suite}", before, marks=(
        [] if suite == "sid" else [pytest.mark.thorough]))
    for before in ("nothing", "another firmware", "garbage")
    for suite in ("sid", "trixie", "bookworm", "bullseye")])
def test_3_the_destinations_nvram_becomes_the_sources(
    lab: Lab, store: ImageStore, destination: str, there_before: str
) -> None:
    source = NEW if destination == OLD else OLD
    guest = lab.guest(source, destination, machine=MACHINE, policy="guest-owned")
    guest.start()
    mine = nvram(guest, "source")
    target = nvram_file(guest, "destination")
    if there_before == "another firmware":
        target.write_bytes(store.firmware(firmware_of(store, "debian-trixie")).path.read_bytes())
    elif there_before == "garbage":
        target.write_bytes(b"\x5a" * len(mine))
    moved = guest.migrate(destination)
    assert moved.observed.nvram_equal is True
    assert nvram(guest, "destination") == mine


@pytest.mark.parametrize(
    ("machine", "destination", "expected"),
    [("default", NEW, NEW), (MACHINE, NEW, OLD), ("default", OLD, OLD)],
    ids=["another version without -M", "another version with -M", "the same version"],
)
def test_4_versioned_nvram_clears_itself_on_a_move_without_m(
    lab: Lab, store: ImageStore, machine: str, destination: str, expected: str
) -> None:
    guest = lab.guest(OLD, NEW, machine=machine, policy="guest-owned-versioned")
    guest.start(OLD)
    guest.shutdown()
    assert guest.start(destination).firmware == firmware_of(store, expected)


@pytest.mark.parametrize(("source", "destination", "machine"), [
    (OLD, NEW, MACHINE), (NEW, OLD, MACHINE),
    *(pytest.param(*way, marks=pytest.mark.thorough) for way in (
        ("debian-bookworm", "debian-trixie", MACHINE), (OLD, NEW, "pc-q35-5.2"),
        (NEW, OLD, "pc-q35-5.2"), ("debian-bookworm", "debian-trixie", "pc-q35-5.2")))])
def test_5_machine_owned_changes_at_the_first_reset_after_the_migration(
    lab: Lab, store: ImageStore, machine: str, source: str, destination: str
) -> None:
    guest = lab.guest(source, destination, machine=machine, policy="machine-owned", disk="virtio")
    old, new = firmware_of(store, source), firmware_of(store, destination)
    assert guest.start().firmware == old
    assert guest.migrate(destination).firmware == old
    assert guest.reset().firmware == new
    assert guest.reset(by="cf9").firmware == new


@pytest.mark.parametrize("policy", [
    "machine-owned", "guest-owned",
    *(pytest.param(policy, marks=pytest.mark.thorough)
      for policy in ("reread", "guest-owned-versioned"))])
def test_6_a_reset_gives_the_firmware_of_shutdown_and_start(lab: Lab, policy: str) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy=policy)
    guest.start()
    guest.migrate(NEW)
    after_reset = guest.reset().firmware
    guest.shutdown()
    assert guest.start(NEW).firmware == after_reset


def test_6_but_not_under_stock(lab: Lab) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy="stock")
    guest.start()
    guest.migrate(NEW)
    after_reset = guest.reset().firmware
    guest.shutdown()
    assert guest.start(NEW).firmware != after_reset


def test_7_reread_runs_the_file_of_that_moment(lab: Lab, store: ImageStore) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy="reread")
    guest.start()
    for build in ("debian-trixie", "debian-bookworm", NEW):
        guest.upgrade_host(OLD, firmware_of(store, build))
        assert guest.reset().firmware == firmware_of(store, build)
    guest.migrate(NEW)
    guest.upgrade_host(NEW, firmware_of(store, "debian-bookworm"))
    assert guest.reset().firmware == firmware_of(store, "debian-bookworm")


def test_7_machine_owned_does_not_reread(lab: Lab, store: ImageStore) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy="machine-owned")
    old = guest.start().firmware
    guest.upgrade_host(OLD, firmware_of(store, NEW))
    assert guest.reset().firmware == old
    guest.shutdown()
    assert guest.start().firmware == firmware_of(store, NEW)


@pytest.mark.parametrize("disk", [
    "ide", *(pytest.param(disk, marks=pytest.mark.thorough)
             for disk in ("ahci", "virtio", "floppy"))])
def test_8_a_reset_does_not_reopen_the_disk(lab: Lab, disk: str) -> None:
    guest = lab.guest(NEW, machine=MACHINE, disk=disk)
    assert guest.start().disk == "A"
    guest.replace_disk()
    assert guest.reset().disk == "A"
    guest.shutdown()
    assert guest.start().disk == "B"


@pytest.mark.parametrize("channel", ["unix", "tcp", "file"])
def test_a_migration_leaves_the_running_guest_alone(lab: Lab, channel: str) -> None:
    guest = lab.guest(OLD, NEW, machine=MACHINE, policy="machine-owned")
    old = guest.start()
    moved = guest.migrate(NEW, channel=channel)
    assert moved.up, "the guest answers on the destination"
    assert moved.rom == moved.console == old.firmware
    assert moved.observed.answer is not None
    assert moved.observed.answer.boot == 1, "the same boot goes on"
