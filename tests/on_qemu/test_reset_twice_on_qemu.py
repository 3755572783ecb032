"""A machine that is reset again while it stands at its reset vector, on real QEMUs."""

from __future__ import annotations

import threading

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.lab import Lab
from bootmatrix.machines.qemu.machine import QemuMachine

TRIES = 4
SECONDS = 60.0


@pytest.mark.parametrize("policy", ["stock", "machine-owned"])
def test_it_boots_and_with_the_policy_s_firmware(
    lab: Lab, store: ImageStore, policy: str
) -> None:
    """Two resets in a row: the second finds it stopped by a breakpoint, in a third of the tries."""
    guest = lab.guest("debian-bookworm", machine="pc-i440fx-5.2", policy=policy, seconds=SECONDS)
    guest.start()
    vm, machine = guest.vm, guest._guest.able(QemuMachine)

    def twice() -> None:
        for _ in range(2):
            vm.monitor.execute("system_reset", deadline=vm.clock.deadline(SECONDS))

    for _ in range(TRIES):
        asking = threading.Thread(target=twice)
        stopping = machine._stopping()
        assert stopping.reset_by(asking.start, vm.console, vm.clock.deadline(SECONDS))
        asking.join()
        seen = vm.console.wait_for_boot(vm.clock.deadline(SECONDS))
        assert seen.up is not None, vm.monitor.run_state(vm.clock.deadline(SECONDS))
        assert machine.rom_digest(vm.clock.deadline(SECONDS)) == (
            store.beside("debian-bookworm", "seabios").sha256)
        stopping.check()
