"""A fake is a machine: it has every ability, and its guest does what QEMU's does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import EngineError, HarnessError, UserError
from bootmatrix.firmware.identity import sha256
from bootmatrix.machines.base import Migrates, Resets, abilities, able
from bootmatrix.machines.fake import FakeHosts, FakeMachine, Script
from bootmatrix.machines.qemu.machine import QemuHosts, QemuMachine
from bootmatrix.model import Channel
from bootmatrix.steps.base import Ability
from helpers.fakes import setup


def soon() -> Deadline:
    """From now on: a module's own deadline is over before its tests have their turn."""
    return Deadline.after(60)


@pytest.fixture
def fakes(tmp_path: Path) -> FakeHosts:
    return FakeHosts(setup(tmp_path / "images"), tmp_path / "scratch")


def test_a_fake_can_all_and_qemu_all_but_to_lose_its_power() -> None:
    assert abilities(FakeHosts, FakeMachine) == set(Ability)
    assert abilities(QemuHosts, QemuMachine) == set(Ability) - {Ability.POWER_LOSS}


def test_a_class_without_the_methods_has_not_the_ability() -> None:
    class Board:
        def reset_by(self, keys: bytes, deadline: Deadline) -> bool:
            return True

        def reset(self, deadline: Deadline) -> None:
            """There is a button."""

    class Bench:
        def launch(self, host: int, *, incoming: bool) -> Board:
            return Board()

    assert abilities(Bench, Board) == {Ability.CONSOLE, Ability.RESET, Ability.START}
    assert able(Board(), Resets)
    with pytest.raises(UserError, match="cannot do that"):
        able(Board(), Migrates)


def test_it_boots_says_who_it_is_and_answers(fakes: FakeHosts) -> None:
    with fakes:
        machine = fakes.launch(0, incoming=False)
        with pytest.raises(HarnessError, match="not connected yet"):
            _ = machine.console
        machine.start(soon())
        seen = machine.console.wait_for_boot(soon())
        assert seen.banners == ("1.14.0-2",)
        assert seen.up is not None
        assert (seen.up.boot, seen.up.disk, seen.up.host) == (1, "A", "source 5.2.0 q-5.2.0")
        here = machine.console.ask(soon())
        assert here is not None
        assert here.nonce is not None
        image = fakes.setup.hosts[0].firmware.path.read_bytes()
        assert machine.rom_digest(soon()) == sha256(image)
    assert not machine.alive
    assert machine.console.log.read_text().startswith("SeaBIOS (version 1.14.0-2)")


def test_all_of_a_console_after_a_reset_is_of_the_next_boot(fakes: FakeHosts) -> None:
    with fakes:
        machine = fakes.launch(0, incoming=False)
        machine.start(soon())
        machine.reset(soon())  # nobody has read the first boot
        assert machine.resets(soon()) == 1
        seen = machine.console.wait_for_boot(soon())
        assert len(seen.banners) == 1
        assert seen.up is not None
        assert seen.up.boot == 2
        assert machine.booted() is None
        assert machine.resets(soon()) == 0


def test_a_guest_moves_with_its_firmware_and_its_count(fakes: FakeHosts) -> None:
    with fakes:
        source = fakes.launch(0, incoming=False)
        target = fakes.launch(1, incoming=True)
        for machine in (source, target):
            machine.start(soon())
        assert source.console.wait_for_boot(soon()).up
        assert source.migrate(target, Channel.UNIX, soon()) is None
        here = target.console.ask(soon())
        assert here is not None
        assert (here.boot, here.bios_version, here.host) == (
            1, "1.14.0-2", "destination 11.1.3 q-11.1.3")
        assert target.rom_digest(soon()) == source.rom_digest(soon())


def test_a_deaf_guest_does_nothing(fakes: FakeHosts) -> None:
    fakes.script.deaf = True
    with fakes:
        machine = fakes.launch(0, incoming=False)
        machine.start(soon())
        assert not machine.reset_by(b"c", Deadline.after(0.01))
        assert machine.console.ask(Deadline.after(0.01)) is None


def test_its_clock_stands_still_until_its_guest_has_done_what_it_was_typed(
    fakes: FakeHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine nobody may let its thread run for a while."""
    does = FakeMachine._do

    def slowly(machine: FakeMachine, key: bytes, nonce: str) -> None:
        time.sleep(0.6)
        does(machine, key, nonce)

    monkeypatch.setattr(FakeMachine, "_do", slowly)
    with fakes:
        machine = fakes.launch(0, incoming=False)
        machine.start(soon())
        assert machine.console.ask(machine.clock.deadline(0.05))
        assert machine.reset_by(b"c", machine.clock.deadline(0.05))


def test_an_engine_that_has_lost_its_machines(tmp_path: Path) -> None:
    hosts = FakeHosts(setup(tmp_path / "images"), tmp_path / "scratch", Script(lost=True))
    with hosts, pytest.raises(EngineError, match="lost its machines"):
        hosts.check_engine()
