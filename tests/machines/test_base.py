"""A board on a bench has a console and a power switch: it fits, and no step knows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import UserError
from bootmatrix.machines.base import ABILITIES, abilities
from bootmatrix.machines.console import Console
from bootmatrix.machines.fake import FakeClock, FakeHosts, FakeMachine
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.run.guest import Guest
from bootmatrix.run.steps import do_step
from bootmatrix.steps.base import Ability
from bootmatrix.steps.migrate import Migrate
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from bootmatrix.witnesses.refusal import Refusal
from helpers.fakes import VERSIONS, setup


class Board:
    """What every machine must be able to do, by way of a fake, and a power switch."""

    def __init__(self, behind: FakeMachine) -> None:
        self.name, self.host = "a board", behind.host
        self._behind = behind

    def __str__(self) -> str:
        return self.name

    @property
    def clock(self) -> FakeClock:
        return self._behind.clock

    @property
    def console(self) -> Console:
        return self._behind.console

    @property
    def alive(self) -> bool:
        return self._behind.alive

    def start(self, deadline: Deadline) -> None:
        self._behind.start(deadline)

    def outlives(self, deadline: Deadline) -> bool:
        return self._behind.outlives(deadline)

    def last_words(self) -> str:
        return ""

    def exit_status(self, deadline: Deadline) -> int:
        return 0

    def resets(self, deadline: Deadline) -> int:
        return 0

    def booted(self) -> Refusal | None:
        return None

    def check(self) -> None:
        """Nothing happens unseen."""

    def close(self) -> None:
        self._behind.close()

    def off(self, deadline: Deadline) -> None:
        self._behind.off(deadline)


class Bench:
    """Boards that can be switched on."""

    def __init__(self, directory: Path) -> None:
        self.setup: GuestSetup = setup(directory / "images")
        self.processes: list[dict[str, object]] = []
        self.rom_size = 0
        self._behind = FakeHosts(self.setup, directory / "scratch")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def close(self) -> None:
        self._behind.close()

    def check_engine(self) -> None:
        """There is none."""

    def launch(self, host: int, *, incoming: bool) -> Board:
        return Board(self._behind.launch(host, incoming=incoming))


def test_what_a_board_can_follows_from_its_methods() -> None:
    assert abilities(Bench, Board) == {Ability.START, Ability.POWER}
    assert set(ABILITIES) == set(Ability)


def test_it_boots_and_is_switched_off_and_its_memory_tells_nothing(tmp_path: Path) -> None:
    with Guest(Bench(tmp_path)) as guest:
        started = do_step(guest, Start(0))
        assert do_step(guest, Shutdown()).host is None
        again = do_step(guest, Start(0))
    for seen in (started, again):
        assert seen.boot is not None
        assert seen.boot.up is not None
        assert (seen.boot.banners, seen.boot.rom) == ((VERSIONS[0],), None)


@pytest.mark.parametrize("step", [Reset(), Migrate(1)])
def test_what_it_cannot_do_is_no_traceback(tmp_path: Path, step: Any) -> None:
    """A cell with such a step is unsupported; this is for who does it by hand."""
    with Guest(Bench(tmp_path)) as guest:
        do_step(guest, Start(0))
        with pytest.raises(UserError, match="a board cannot do that"):
            do_step(guest, step)
