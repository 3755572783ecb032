"""Guests by hand on real QEMUs: the steps that no fake can do."""

from __future__ import annotations

from typing import Any

import pytest

from bootmatrix.errors import UserError
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


@pytest.mark.slow
def test_a_guest_writes_and_fills_its_variables_and_shuts_itself_down(bootmatrix: Lab) -> None:
    # 56 KiB for variables, not 256: the firmware programs its flash byte by byte.
    guest = bootmatrix.guest("debian-sid", machine="pc-q35-5.2", disk="virtio", seconds=120.0,
                             firmware={"debian-sid": "ovmf-2m-2022.11"})
    assert guest.start().up
    assert guest.shutdown("guest").observed.failed is None
    assert guest.start().up
    filled = guest.fill_variables().observed.wrote
    assert filled is not None
    assert filled.count is not None
    assert 2 <= filled.count <= 8, "in 56 KiB, of which the firmware's own are some"
    assert (filled.size, filled.result) == (7168 * filled.count, "full")
    written = guest.write_variable().observed.wrote
    assert written is not None
    assert (written.value, written.result) == ("boot-2", "ok"), "what is small has room"


@pytest.mark.parametrize(("axes", "why"), [
    ({"tpm": "tis"}, "tpm tis is read through UEFI firmware"), ({"disk": "own"}, "disk: own"),
    ({"machine": "pc-q35-99.0"}, "has no machine pc-q35-99.0")])
def test_a_guest_that_there_cannot_be_is_none(lab: Lab, axes: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=f"there can be no such guest: .*{why}"):
        lab.guest("debian-sid", **{"machine": "pc-q35-5.2"} | axes)
    assert not lab.made
