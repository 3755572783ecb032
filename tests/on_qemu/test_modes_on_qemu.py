"""Each mode of a migration on real QEMUs: is it the one that was asked for, and what runs after?"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.lab import Lab
from bootmatrix.machines.qemu import command_line, machine
from bootmatrix.machines.qemu.migration import base, cpr_transfer, mapped
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import Grant, MigrationEnd, MigrationMode, QemuSource
from bootmatrix.modes import MODES
from bootmatrix.witnesses.refusal import Refusal
from helpers.own_builds import unpacked

OLD, NEW = "debian-trixie", "debian-sid"


MIGRATING = [
    pytest.param(mode, marks=[pytest.mark.userfaultfd] * (Grant.USERFAULTFD in MODES[mode].grants))
    for mode in MigrationMode
    if mode is not MigrationMode.PRECOPY
    and not MODES[mode].leaves_first and not MODES[mode].in_place]


@pytest.mark.parametrize("mode", MIGRATING)
def test_a_guest_moves_in_the_mode_and_keeps_its_firmware(
    lab: Lab, store: ImageStore, monkeypatch: pytest.MonkeyPatch, mode: MigrationMode
) -> None:
    done: dict[str, dict[str, Any]] = {}
    outcome = base.outcome

    def looked_at(vm: VM, since: int, deadline: Deadline) -> Refusal | None:
        refusal = outcome(vm, since, deadline)
        ask = vm.monitor.execute
        done[vm.name] = {
            "ram": ask("query-migrate", deadline=deadline).get("ram", {}),
            "capabilities": {row["capability"] for row in
                             ask("query-migrate-capabilities", deadline=deadline) if row["state"]},
            "parameters": ask("query-migrate-parameters", deadline=deadline)}
        return refusal

    for way in (base, mapped, cpr_transfer):
        monkeypatch.setattr(way, "outcome", looked_at)
    guest = lab.guest(OLD, NEW, machine="pc-i440fx-5.2", migration=mode.value)
    mine = guest.start().firmware
    moved = guest.migrate(NEW)
    assert moved.up
    assert moved.observed.answer is not None
    assert moved.observed.answer.boot == 1, "the same boot goes on"
    assert guest.reset().firmware == mine == store.qemu(OLD).firmware
    row = MODES[mode]
    source, destination = done["1-source"], done["2-destination"]
    for side, own in ((source, row.source), (destination, row.destination)):
        assert {*row.capabilities, "events"} == side["capabilities"]
        told = {**row.parameters, **own}
        if row.passes:
            told.pop("max-bandwidth", None)  # it has gone slower at the end of the pass
        assert told.items() <= side["parameters"].items()
    sent = max(side["ram"].get("multifd-bytes", 0) for side in done.values())
    assert (sent > 0) is ("multifd" in row.capabilities)
    assert source["ram"].get("dirty-sync-count", 0) > row.passes


@pytest.mark.parametrize(("old", "policy"), [("debian-bullseye", "stock"), (OLD, "guest-owned")])
def test_a_snapshot_brings_a_guest_with_its_firmware_to_another_qemu(
    lab: Lab, store: ImageStore, old: str, policy: str
) -> None:
    """By the human monitor of 5.2; by a job, which has the flash as memory."""
    guest = lab.guest(old, NEW, machine="pc-i440fx-5.2", policy=policy, migration="savevm",
                      disk="virtio")
    mine = guest.start().firmware
    moved = guest.migrate(NEW)
    assert moved.observed.answer is not None
    assert moved.observed.answer.boot == 1
    assert moved.rom == mine
    assert moved.observed.nvram_equal is (None if policy == "stock" else True)
    assert guest.reset().firmware == mine == store.qemu(old).firmware


def test_what_a_step_tells_a_qemu_it_has_or_refuses(lab: Lab) -> None:
    guest = lab.guest(OLD, NEW, machine="pc-i440fx-5.2")
    guest.start()
    refused = guest.migrate(NEW, capabilities=["x-rdma-or-so"])
    assert refused.refusal is not None
    assert refused.refusal.kind == "missing-feature"
    moved = guest.migrate(NEW, capabilities=["xbzrle"], parameters={"xbzrle-cache-size": 1 << 20})
    assert moved.up
    asked = guest.vm.monitor.execute(
        "query-migrate-parameters", deadline=guest.vm.clock.deadline(60))
    assert asked["xbzrle-cache-size"] == 1 << 20


# Not multifd whose destination dies: a source does not always come back from that
# (docs/stock-qemu.md).
@pytest.mark.parametrize(("mode", "by"), [
    (MigrationMode.PRECOPY, MigrationEnd.CANCELLED),
    (MigrationMode.PRECOPY, MigrationEnd.DESTINATION_KILLED),
    (MigrationMode.MULTIFD, MigrationEnd.CANCELLED),
])
def test_a_guest_whose_migration_fails_goes_on_and_can_migrate_again(
    lab: Lab, store: ImageStore, mode: MigrationMode, by: MigrationEnd
) -> None:
    guest = lab.guest(OLD, NEW, machine="pc-i440fx-5.2", policy="machine-owned",
                      migration=mode.value)
    mine = guest.start().firmware
    stayed = guest.migration_fails(NEW, by=by.value)
    assert stayed.observed.answer is not None
    assert stayed.observed.answer.boot == 1
    assert stayed.rom == mine
    assert guest.reset().firmware == mine, "it has not been there"
    assert guest.migrate(NEW).up
    assert guest.reset().firmware == store.qemu(NEW).firmware


@pytest.fixture
def one_root(store: ImageStore, tmp_path: Path) -> tuple[QemuSource, QemuSource]:
    """Two programs in one root, as two builds of QEMU that were installed side by side."""
    theirs, sid = tmp_path / "theirs", store.qemu(NEW)
    unpacked(sid.root, theirs)
    shutil.copy2(theirs / sid.binary.lstrip("/"), theirs / "usr/bin/mine")
    return (QemuSource(root=theirs, program=sid.binary.lstrip("/"), name="old"),
            QemuSource(root=theirs, program="usr/bin/mine", name="new"))


def test_a_process_replaces_itself_by_another_program_of_its_root(
    lab: Lab, store: ImageStore, one_root: tuple[QemuSource, QemuSource]
) -> None:
    """Under the policy that swaps at each reset: the new program's, in a process that had one."""
    files = {"new": store.qemu(OLD).firmware}
    guest = lab.guest(*one_root, machine="pc-i440fx-5.2", policy="reread", disk="virtio",
                      migration="cpr-exec", firmware=files)
    mine, process = guest.start().firmware, guest.vm.pid
    assert guest.reset().firmware == mine
    moved = guest.migrate("new")
    assert moved.observed.answer is not None
    assert (moved.observed.host, moved.observed.answer.boot, moved.rom) == (1, 2, mine)
    assert guest.vm.pid == process, "the process stays"
    if process:
        argv = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        assert argv[0] == b"/usr/bin/mine"
    assert guest.reset().firmware == files["new"] != mine
    back = guest.migrate("old")
    assert back.observed.answer is not None
    assert (back.observed.host, back.observed.answer.boot) == (0, 3)
    assert guest.reset(by="cf9").firmware == mine
    assert guest.shutdown().observed.refusal is None
    assert guest.start("new").firmware == files["new"]


@pytest.mark.parametrize(("changed", "kind", "goes_on"), [
    pytest.param(("/usr/bin/mine", "/usr/bin/none"), "other", True, marks=pytest.mark.thorough),
    (("pc-i440fx-5.2", "pc-q35-5.2"), "machine-type", False),
], ids=["no-program", "another-machine"])
def test_a_program_that_cannot_take_the_place_of_the_source(
    lab: Lab, one_root: tuple[QemuSource, QemuSource], changed: tuple[str, str], kind: str,
    goes_on: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:
    guest = lab.guest(*one_root, machine="pc-i440fx-5.2", disk="virtio", migration="cpr-exec")
    mine = guest.start().firmware
    launched = command_line.qemu_argv
    monkeypatch.setattr(machine, "qemu_argv", lambda launch: tuple(
        word.replace(*changed) for word in launched(launch)))
    refused = guest.migrate("new").refusal
    assert refused is not None
    assert refused.kind == kind, refused
    assert guest.vm.alive is goes_on
    if goes_on:
        assert guest.reset().firmware == mine


@pytest.mark.userfaultfd
@pytest.mark.parametrize(("old", "policy"), [
    ("debian-bullseye", "machine-owned"),
    pytest.param(OLD, "guest-owned", marks=pytest.mark.thorough)])
def test_a_postcopy_whose_connection_breaks_goes_on_by_another(
    lab: Lab, store: ImageStore, old: str, policy: str
) -> None:
    guest = lab.guest(old, NEW, machine="pc-i440fx-5.2", policy=policy, disk="virtio",
                      migration="postcopy")
    mine = guest.start().firmware
    source = guest.vm
    since = source.monitor.mark()
    moved = guest.migrate(NEW, recovers=True)
    assert moved.observed.answer is not None
    assert (moved.observed.host, moved.observed.answer.boot, moved.rom) == (1, 1, mine)
    assert moved.observed.nvram_equal is (True if policy == "guest-owned" else None)
    said = [event.data["status"] for event in source.monitor._since(since)
            if event.name == "MIGRATION"]
    assert "postcopy-paused" in said[:said.index("postcopy-recover")]
    assert guest.reset().firmware == (mine if policy == "guest-owned" else store.qemu(NEW).firmware)
