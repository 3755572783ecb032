"""Guests by hand: names in, names out. The guest is a fake; tests/on_qemu has real ones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix import lab
from bootmatrix.errors import HarnessError, UserError
from bootmatrix.firmware.identity import KnownFirmware
from bootmatrix.lab import Lab, LabGuest, Seen
from bootmatrix.machines.fake import FakeHosts, Script
from bootmatrix.model import MigrationMode
from bootmatrix.run.guest import Guest
from bootmatrix.run.steps import DEEDS
from helpers.fakes import SECONDS, setup

OLD, NEW, THIRD = "seabios-1.14.0-2", "seabios-1.17.0-1", "seabios-1.16.2-1"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture(params=["guest-owned"])
def guest(request: pytest.FixtureRequest, tmp_path: Path, script: Script) -> Iterator[LabGuest]:
    made = setup(tmp_path / "images", request.param, seconds=5 * SECONDS)
    builds = {host.firmware.name: host.firmware for host in made.hosts}
    known: Any = SimpleNamespace(named_firmware=builds.__getitem__)
    with Guest(FakeHosts(made, tmp_path / "scratch", script)) as life:
        yield LabGuest(life, KnownFirmware(builds.values()), known, SECONDS)


def test_a_life_in_names(guest: LabGuest) -> None:
    seen = guest.start()
    assert (seen.firmware, seen.console, seen.rom, seen.disk) == (OLD, OLD, OLD, "A")
    assert seen.up
    assert not seen.late
    moved = guest.migrate("h1")
    assert moved.refusal is None
    assert moved.firmware == OLD
    assert guest.reset().firmware == OLD
    assert guest.reset("cf9").observed.boot is not None
    guest.shutdown()
    guest.clear_nvram()
    assert guest.start("h1").firmware == NEW


def test_firmware_is_upgraded_by_its_name(guest: LabGuest) -> None:
    guest.start("h0")
    assert guest.upgrade_host("h0", THIRD).refusal is None
    assert guest.reset().firmware == OLD, "the guest owns it"
    guest.upgrade_nvram(NEW)
    assert guest.reset().firmware == NEW


@pytest.mark.parametrize("guest", ["stock"], indirect=True)
def test_another_disk_is_seen_after_a_new_start(guest: LabGuest) -> None:
    assert guest.start().disk == "A"
    guest.replace_disk()
    guest.shutdown()
    assert guest.start().disk == "B"


def test_late_is_said_of_a_boot_that_came(guest: LabGuest, script: Script) -> None:
    script.waits = {1: 2 * SECONDS}
    seen = guest.start()
    assert seen.up
    assert seen.late


def test_what_is_not_up_has_no_firmware(guest: LabGuest, script: Script) -> None:
    script.hangs = {1}
    seen = guest.start()
    assert not seen.up
    with pytest.raises(AssertionError, match=f"not up; its console said {OLD}"):
        _ = seen.firmware


def seen(**changed: Any) -> Seen:
    plain: dict[str, Any] = {"up": True, "console": OLD, "rom": OLD, "disk": "A", "refusal": None,
                             "seconds": 0.1, "late": False,
                             "observed": SimpleNamespace(failed=None)}
    return Seen(**plain | changed)


@pytest.mark.parametrize(("changed", "why"), [
    ({"rom": NEW}, f"the console says {OLD}, the ROM is {NEW}"),
    ({"rom": None, "console": None}, "no witness named a firmware"),
    ({"refusal": "section: no"}, "QEMU refused it: section: no"),
])
def test_witnesses_that_disagree_name_none(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        _ = seen(**changed).firmware


def test_one_witness_is_enough() -> None:
    assert seen(console=None).firmware == seen(rom=None).firmware == OLD


def test_a_wrong_host_is_named_with_those_that_there_are(guest: LabGuest) -> None:
    with pytest.raises(UserError, match=r"no such host: 'h9' \(hosts: h0, h1, h2\)"):
        guest.migrate("h9")


@pytest.mark.parametrize(("axes", "said"), [
    ({"colour": "red"}, "no such axis of a guest: colour (accepted: "),
    ({"scenario": "reset"}, "no such axis of a guest: scenario"),
    ({"policy": "mine"}, "policy: no such choice: 'mine' (accepted: stock, guest-owned, "),
    ({"disk": "scsi"}, "disk: no such choice: 'scsi' (accepted: ahci, "),
    ({"guest": "mine"}, "guest: no such choice: 'mine' (accepted: probe, "),
    ({"smp": 0}, "smp is 0, which no matrix can hold"),
    ({"firmware": {"debian-ssid": "seabios-1.14.0"}},
     "firmware for 'debian-ssid', which is no host of this guest (hosts: debian-sid)"),
    ({"seconds": -1}, "seconds=-1, patience=None: nothing boots in no time"),
    ({"patience": 0}, "seconds=10.0, patience=0: nothing boots in no time"),
])
def test_axes_are_a_matrix_file_s(axes: dict[str, Any], said: str, tmp_path: Path) -> None:
    builds: Any = SimpleNamespace()
    with Lab(builds, builds, tmp_path) as lab, pytest.raises(UserError) as raised:
        lab.guest("debian-sid", machine="pc", **axes)
    assert str(raised.value).startswith(said)
    with pytest.raises(UserError, match="a guest of no build"):
        lab.guest(machine="pc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("step", "word", "accepted"), [
    ("reset", "button", "monitor, cf9, keyboard"), ("shutdown", "now", "monitor, guest"),
])
def test_how_a_step_is_done_is_one_of_a_few(
    guest: LabGuest, step: str, word: str, accepted: str
) -> None:
    guest.start()
    with pytest.raises(UserError, match=rf"no such choice: '{word}' \(accepted: {accepted}"):
        getattr(guest, step)(word)
    with pytest.raises(UserError, match=r"no such choice: 'tape' \(accepted: unix, tcp, file"):
        guest.migrate("h1", "tape")


def test_a_guest_that_leaves_while_its_firmware_runs_needs_time_for_it(guest: LabGuest) -> None:
    with pytest.raises(UserError, match=r"before it can leave \(make it with long_post=True\)"):
        guest.start(leaves_for="h1")


def test_a_guest_programs_its_flash(guest: LabGuest) -> None:
    guest._guest.setup.flash = guest._builds.named_firmware(NEW)
    guest.start()
    assert guest.guest_flash().up
    assert guest.reset().firmware == NEW
    guest.shutdown()
    assert guest.start().firmware == NEW


def test_a_reset_that_did_not_happen_has_run_no_firmware(guest: LabGuest, script: Script) -> None:
    guest.start()
    script.no_reset = True
    seen = guest.reset()
    assert seen.observed.answer is not None, "the guest goes on"
    assert not seen.up
    with pytest.raises(AssertionError, match="the machine was told to reset, and was not"):
        _ = seen.firmware


@pytest.mark.parametrize(("step", "words", "why"), [
    ("reset", ["acpi"], "reset cannot be done to this guest: reset by acpi needs a Linux guest"),
    ("reset", ["efi-cold"], "reset by efi-cold needs UEFI firmware"),
    ("suspend", [], "suspend needs a Linux guest"),
    ("write_variable", [], "write-variable"),
    ("write_boot_entry", ["boot-next"], "write-boot-entry"),
    ("enrol_keys", [], "enrol-keys"),
    ("shutdown", ["guest"], "shutdown by the guest: a boot sector cannot"),
])
def test_what_a_guest_cannot_do_is_told_and_not_tried(
    guest: LabGuest, step: str, words: list[str], why: str
) -> None:
    booted = guest.start()
    with pytest.raises(UserError, match=why):
        getattr(guest, step)(*words)
    assert guest.reset().firmware == booted.firmware, "it is as it was"


@pytest.mark.parametrize(("migration", "step", "words", "why"), [
    ("precopy", "migrate", {"recovers": True}, "only postcopy that has begun at once"),
    ("precopy", "migrate", {"capabilities": ["multifd"]}, "multifd is said by the axis"),
    ("precopy", "migrate", {"capabilities": "xbzrle"}, "must be a list of names"),
    ("precopy", "migrate", {"capabilities": ["pause-before-switchover"]}, "migrate-continue"),
    ("precopy", "migrate", {"parameters": {"mode": "cpr-reboot"}}, "mode is said by the axis"),
    ("postcopy", "migrate", {"parameters": {"max-bandwidth": 9}}, "postcopy says max-bandwidth"),
    ("postcopy", "migrate", {"moves_as": "paused"}, "a guest that is paused moves by precopy"),
    ("multifd", "migration_fails", {"by": "stream-cut"}, "the one stream that precopy has"),
    ("multifd", "migration_begins", {}, "is precopy's"),
    ("savevm", "migration_fails", {}, "is not ended half-way here"),
    ("precopy", "migration_fails", {"by": "stream-cut", "within": 0}, "its first byte at least"),
    ("precopy", "migration_fails", {"by": "stream-cut", "seed": -1}, "seed: must be a whole"),
])
def test_a_migration_is_refused_as_a_matrix_file_s(
    guest: LabGuest, migration: str, step: str, words: dict[str, Any], why: str
) -> None:
    guest._guest.setup.migration = MigrationMode(migration)
    booted = guest.start()
    with pytest.raises(UserError, match=why):
        getattr(guest, step)("h1", **words)
    assert guest.reset().firmware == booted.firmware, "it is as it was"


def test_a_guest_goes_elsewhere_and_once(guest: LabGuest) -> None:
    with pytest.raises(UserError, match="migrate: the guest does not run; start it first"):
        guest.migrate("h0")
    guest.start()
    for step in (guest.migrate, guest.migration_begins, guest.migration_fails):
        with pytest.raises(UserError, match="the guest is on h0 already"):
            step("h0")
    with pytest.raises(UserError, match="during-post must come right after a start or a reset"):
        guest.migrate("h1", during_post=True)
    assert guest.migrate("h1").up
    with pytest.raises(UserError, match="the guest is on h1 already"):
        guest.migrate("h1")
    assert guest.migration_begins("h0").up
    with pytest.raises(UserError, match="a migration to h0 has begun before"):
        guest.migration_begins("h2")
    with pytest.raises(UserError, match="a migration to h0 has begun: it goes there"):
        guest.migrate("h2")
    assert guest.migrate("h0").up


def test_a_guest_that_leaves_goes_where_it_was_told(guest: LabGuest) -> None:
    guest._guest.setup.post_ms = 100
    with pytest.raises(UserError, match="leaves_for: the guest is on h1 already"):
        guest.start("h1", leaves_for="h1")
    guest.start(leaves_for="h1")
    for step in (partial(guest.migrate, "h1"), guest.reset,
                 partial(guest.migrate, "h2", during_post=True),
                 partial(guest.upgrade_host, "h0", THIRD)):
        with pytest.raises(UserError, match=r"\(migrate\('h1', during_post=True\)\)"):
            step()


def test_a_guest_whose_rig_broke_is_none_any_more(
    guest: LabGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise HarnessError("the guest was up before it left")

    guest.start()
    with monkeypatch.context() as for_once:
        for_once.setattr(lab, "do_step", broken)
        with pytest.raises(HarnessError, match=r"^the guest was up"):
            guest.reset()
    for step in (guest.reset, partial(guest.migrate, "h1"), partial(guest.upgrade_nvram, NEW)):
        with pytest.raises(HarnessError, match="this guest has ended: the guest was up"):
            step()


def test_it_has_every_step_there_is() -> None:
    assert {kind.replace("-", "_") for kind in DEEDS} <= set(dir(LabGuest))
