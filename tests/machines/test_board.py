"""What a bench has, by its environment file; tests/on_qemu has boards that are switched on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bootmatrix.errors import UserError
from bootmatrix.machines.base import Machine
from bootmatrix.machines.board import (
    BoardClock,
    BoardFacts,
    BoardHosts,
    BoardMachine,
    _within,
    facts,
)
from bootmatrix.model import BoardSource
from bootmatrix.steps.base import Ability

SERIAL = {"RawSerialPort": {"port": "/dev/null"}}


def described(directory: Path, drivers: Any, **more: Any) -> BoardSource:
    """A board with these drivers."""
    file = directory / "env.yaml"
    with file.open("w") as opened:
        YAML().dump({"targets": {"main": {"resources": SERIAL, "drivers": drivers, **more}}},
                    opened)
    return BoardSource(env=file)


def test_a_serial_port_alone(tmp_path: Path) -> None:
    found = facts(described(tmp_path, {"SerialDriver": {}}))
    assert found == BoardFacts(console="SerialDriver")
    assert found.abilities == {Ability.CONSOLE}


def test_what_each_driver_makes_possible(tmp_path: Path) -> None:
    found = facts(described(
        tmp_path, [
            {"SerialDriver": {}},
            {"ExternalPowerDriver": {"cmd_on": "true", "cmd_off": "true"}},
            {"FlashromDriver": {}},
            {"FileDigitalOutputDriver": {"name": "clear-cmos", "filepath": "/dev/null"}},
            {"FileDigitalOutputDriver": {"name": "reset", "filepath": "/dev/null"}},
            {"DigitalOutputResetDriver": {"bindings": {"output": "reset"}}},
        ], options={"bootmatrix-live-flash": True, "bootmatrix-update": "update.bin"}))
    assert found == BoardFacts(
        console="SerialDriver", power="ExternalPowerDriver", reset="DigitalOutputResetDriver",
        programmer="FlashromDriver", clear_cmos=True, live=True, update=tmp_path / "update.bin")
    assert found.abilities == {
        Ability.CONSOLE, Ability.START, Ability.POWER, Ability.POWER_LOSS, Ability.RESET,
        Ability.REPLACE_FIRMWARE, Ability.NVRAM}
    assert not BoardFacts(console="x", power="x").abilities & {Ability.NVRAM, Ability.MIGRATE}


def test_a_place_is_its_coordinators(tmp_path: Path) -> None:
    source = described(tmp_path, {"SerialDriver": {}}, resources={"RemotePlace": {"name": "apu2"}})
    assert facts(source).place == "apu2"


@pytest.mark.parametrize(("drivers", "words"), [
    ({"ExternalPowerDriver": {"cmd_on": "true", "cmd_off": "true"}}, "main has no console"),
    ({"SerialDrivr": {}}, "labgrid has no driver 'SerialDrivr'"),
], ids=["no console", "mistyped"])
def test_mistakes(tmp_path: Path, drivers: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        facts(described(tmp_path, drivers))


def test_a_board_keeps_to_what_machines_are() -> None:
    promised = {name for name in dir(Machine) if not name.startswith("_")} - {"host", "name"}
    assert promised <= {*dir(BoardMachine), "clock", "alive"}
    assert BoardHosts.machine is BoardMachine


def test_its_clock_stands_still_while_the_bench_works() -> None:
    clock = BoardClock()
    with clock.stopped():
        before = clock()
        with clock.stopped():
            assert clock() == before
        assert clock() == before
    assert clock.look() >= before
    assert clock.limit(5) == 5
    assert not clock.deadline(5).expired


@pytest.mark.parametrize(("options", "told"), [
    ([1], "main: options: must be names with values"),
    ({"bootmatrix-updat": "x"}, "no such option: bootmatrix-updat (accepted: bootmatrix"),
    ({"bootmatrix-live-flash": "often"}, "bootmatrix-live-flash is 'often' (it is true or false)"),
    ({"bootmatrix-update": [1]}, "bootmatrix-update is [1] (it is a file)"),
])
def test_an_option_that_means_nothing_is_refused(
    tmp_path: Path, options: Any, told: str
) -> None:
    with pytest.raises(UserError) as raised:
        facts(described(tmp_path, {"SerialDriver": {}}, options=options))
    assert told in str(raised.value)


def test_a_command_of_the_bench_is_not_waited_for_without_end() -> None:
    done: list[int] = []
    _within(60.0, lambda: done.append(1))
    assert done == [1]
    with pytest.raises(OSError, match="no such outlet"):
        _within(60.0, failing)
    never = threading.Event()
    with pytest.raises(TimeoutError, match="its command has not ended in 0 s"):
        _within(0.05, never.wait)
    never.set()


def failing() -> None:
    raise OSError("no such outlet")
