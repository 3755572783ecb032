"""The nvram of a guest that is down is emptied."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.machines.base import KeepsNvram, able
from bootmatrix.nvram import Nvram
from bootmatrix.run.steps import do_step
from bootmatrix.steps.clear_nvram import ClearNvram
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from helpers.fakes import fake_guest


def test_it_is_empty_and_not_while_the_guest_runs(tmp_path: Path) -> None:
    with fake_guest(tmp_path, "guest-owned") as guest:
        do_step(guest, Start(0))
        with pytest.raises(UserError, match="the nvram of a running guest cannot be cleared"):
            do_step(guest, ClearNvram())
        nvram = able(guest.hosts, KeepsNvram).nvram
        assert isinstance(nvram, Nvram)
        do_step(guest, Shutdown())
        assert nvram.initialised
        do_step(guest, ClearNvram())
        assert not nvram.initialised


def test_a_guest_without_one_has_nothing_to_clear(tmp_path: Path) -> None:
    with fake_guest(tmp_path) as guest:
        assert do_step(guest, ClearNvram()).refusal is None
