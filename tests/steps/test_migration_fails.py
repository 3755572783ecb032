"""A migration that ends half-way changes nothing."""

from __future__ import annotations

import pytest

from bootmatrix.boards import Loader
from bootmatrix.model import MigrationEnd
from bootmatrix.policies import Policy
from bootmatrix.steps.base import StepError
from bootmatrix.steps.library import parse
from bootmatrix.steps.migration_fails import MigrationFails
from bootmatrix.steps.plan import plan
from bootmatrix.steps.reset import Reset
from helpers.lives import Q35, START, loaded
from helpers.platforms import SECTOR, platform, why


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("by", list(MigrationEnd))
def test_what_runs_next_is_what_would_have_run(policy: Policy, by: MigrationEnd) -> None:
    hosts = loaded(Loader.FLASH)
    without = plan(policy, hosts, Q35, (START, Reset()))
    started, failed, reset = plan(policy, hosts, Q35, (START, MigrationFails(1, by), Reset()))
    assert not failed.boots
    assert (failed.firmware, failed.rom, failed.variables) == (
        started.firmware, started.rom, started.variables)
    assert (reset.firmware, reset.rom) == (without[1].firmware, without[1].rom)


def test_it_goes_to_the_next_host_and_stays() -> None:
    steps = parse("own", ["start", "migration-fails", {"migration-fails": {
        "by": "destination-killed"}}, "migrate", "reset"]).steps
    assert steps[1:3] == (MigrationFails(1), MigrationFails(1, MigrationEnd.DESTINATION_KILLED))
    with pytest.raises(StepError, match="the guest is on source already"):
        parse("own", ["start", {"migration-fails": {"to": "source"}}])


def test_not_between_versions_of_a_microvm() -> None:
    assert why(MigrationFails(1), SECTOR) is None
    assert why(MigrationFails(1), platform(machine="microvm")) == (
        "microvm does not migrate between versions of QEMU")
