"""Each mode of a migration on real QEMUs: is it the one that was asked for, and what runs after?"""

from __future__ import annotations

from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.lab import Lab
from bootmatrix.machines.qemu.migration import base, mapped
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import MigrationEnd, MigrationMode
from bootmatrix.modes import MODES
from bootmatrix.witnesses.refusal import Refusal

OLD, NEW = "debian-trixie", "debian-sid"


@pytest.mark.parametrize("mode", [mode for mode in MigrationMode if MODES[mode].capabilities])
def test_a_guest_moves_in_the_mode_and_keeps_its_firmware(
    lab: Lab, store: ImageStore, monkeypatch: pytest.MonkeyPatch, mode: MigrationMode
) -> None:
    done: list[dict[str, Any]] = []
    outcome = base.outcome

    def looked_at(vm: VM, since: int, deadline: Deadline) -> Refusal | None:
        refusal = outcome(vm, since, deadline)
        ask = vm.monitor.execute
        done.append({
            "ram": ask("query-migrate", deadline=deadline).get("ram", {}),
            "capabilities": {row["capability"] for row in
                             ask("query-migrate-capabilities", deadline=deadline) if row["state"]},
            "parameters": ask("query-migrate-parameters", deadline=deadline)})
        return refusal

    monkeypatch.setattr(base, "outcome", looked_at)
    monkeypatch.setattr(mapped, "outcome", looked_at)
    guest = lab.guest(OLD, NEW, machine="pc-i440fx-5.2", migration=mode.value)
    mine = guest.start().firmware
    moved = guest.migrate(NEW)
    assert moved.up
    assert moved.observed.answer is not None
    assert moved.observed.answer.boot == 1, "the same boot goes on"
    assert guest.reset().firmware == mine == store.qemu(OLD).firmware
    row = MODES[mode]
    assert len(done) == 2
    for side in done:
        assert {*row.capabilities, "events"} == side["capabilities"]
        assert dict(row.parameters).items() <= side["parameters"].items()
    sent = max(side["ram"].get("multifd-bytes", 0) for side in done)
    assert (sent > 0) is ("multifd" in row.capabilities)


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
