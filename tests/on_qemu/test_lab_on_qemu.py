"""Guests by hand on real QEMUs: the steps that no fake can do."""

from __future__ import annotations

from bootmatrix.lab import Lab


def test_a_guest_programs_the_flash_that_it_is_given(bootmatrix: Lab) -> None:
    guest = bootmatrix.guest("debian-bookworm", "debian-sid", machine="pc-i440fx-5.2",
                             policy="guest-owned", flash="seabios-1.17.0")
    old = guest.start().firmware
    flashed = guest.guest_flash()
    assert flashed.up
    assert flashed.observed.flash is not None
    assert flashed.observed.flash.result == "ok"
    new = guest.reset().firmware
    assert new.startswith("seabios-1.17.0-")
    assert new != old


def test_a_guest_writes_its_variables_and_shuts_itself_down(bootmatrix: Lab) -> None:
    guest = bootmatrix.guest("debian-sid", machine="pc-q35-5.2", disk="virtio", seconds=60.0,
                             firmware={"debian-sid": "ovmf-4m"})
    assert guest.start().up
    for step, result in ((guest.write_variable, "ok"), (guest.fill_variables, "full")):
        wrote = step().observed.wrote
        assert wrote is not None
        assert wrote.result == result
    assert guest.shutdown("guest").observed.failed is None
    assert guest.start().up
