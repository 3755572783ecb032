"""A test of your own: does my guest come back from a reset after a live migration?

Run it with ``pytest examples/test_own_guest.py``. The fixture ``bootmatrix`` comes with the
plugin; the guests' consoles and QEMU's logs are kept in the run's directory.
"""

from __future__ import annotations

from bootmatrix.lab import Lab


def test_stock_qemu_keeps_the_old_firmware(bootmatrix: Lab) -> None:
    guest = bootmatrix.guest("debian-bullseye", "debian-sid", machine="pc-i440fx-5.2")
    old = guest.start().firmware

    moved = guest.migrate("debian-sid")
    assert moved.firmware == old, "a live migration changed the firmware under the guest"

    assert guest.reset().firmware == old

    guest.shutdown()
    assert guest.start("debian-sid").firmware != old, "a new process takes its host's file"


def test_the_machine_brings_its_firmware(bootmatrix: Lab) -> None:
    guest = bootmatrix.guest(
        "debian-bullseye", "debian-sid", machine="pc-i440fx-5.2", policy="machine-owned"
    )
    old = guest.start().firmware
    assert guest.migrate("debian-sid", channel="tcp").firmware == old
    new = guest.reset(by="cf9").firmware
    assert new != old

    # Beyond the steps there is QEMU itself: its monitor and its serial console.
    assert guest.vm.console.tail().count("SeaBIOS") >= 1
