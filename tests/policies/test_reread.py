"""The machine's firmware, read again at each boot."""

from __future__ import annotations

import pytest

from bootmatrix.policies.base import (
    ModelProcess,
    PolicyModel,
)
from bootmatrix.policies.reread import Reread
from helpers.lives import (
    EVERY,
    Life,
    Make,
    Property,
    a_start_finds_what_is_on_that_host,
    named,
    reset_is_a_restart,
    search,
    walk,
)


def file_of_that_moment(make: Make, life: Life) -> None:
    """7. reread: the file on disk at that moment runs."""
    for moment in walk(make, life):
        if moment.planned.boots:
            assert moment.planned.host is not None
            assert moment.planned.firmware == moment.files[moment.planned.host]


class RereadKeepsTheImage(Reread):
    def at_reset(self, process: ModelProcess) -> str:
        return process.image


class RereadForgetsUpgrades(Reread):
    def at_reset(self, process: ModelProcess) -> str:
        return self.hosts[process.host].firmware


@pytest.mark.parametrize("check", [
    file_of_that_moment, reset_is_a_restart, a_start_finds_what_is_on_that_host, *EVERY,
], ids=named)
def test_invariant(check: Property) -> None:
    search(check, Reread, nvram_steps=False)


@pytest.mark.parametrize(("mutant", "check"), [
    (RereadKeepsTheImage, reset_is_a_restart),
    (RereadKeepsTheImage, file_of_that_moment),
    (RereadForgetsUpgrades, file_of_that_moment),
], ids=named)
def test_a_planted_defect_is_caught(mutant: type[PolicyModel], check: Property) -> None:
    with pytest.raises(AssertionError):
        search(check, mutant, nvram_steps=False, lives_tried=500)
