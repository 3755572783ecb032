"""A migration that ends half-way changes nothing."""

from __future__ import annotations

import pytest

from bootmatrix.boards import Loader
from bootmatrix.model import MigrationEnd
from bootmatrix.policies import Policy
from bootmatrix.steps.base import StepError
from bootmatrix.steps.library import parse
from bootmatrix.steps.migration_fails import CUT_WITHIN, MigrationFails
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


def test_a_stream_is_cut_where_its_seed_says() -> None:
    cuts = [MigrationFails(1, MigrationEnd.STREAM_CUT, seed).cut_at for seed in range(200)]
    assert cuts == [MigrationFails(1, MigrationEnd.STREAM_CUT, seed).cut_at for seed in range(200)]
    assert min(cuts) >= 1
    assert max(cuts) <= CUT_WITHIN
    assert len(set(cuts)) > 190
    (_, step) = parse("own", ["start", {"migration-fails": {"by": "stream-cut", "seed": 7}}]).steps
    assert step == MigrationFails(1, MigrationEnd.STREAM_CUT, 7)
    assert step.describe(platform().hosts) == (
        f"migration-fails: to destination (QEMU 11.1.3), stream-cut after {cuts[7]} bytes")


def test_a_long_stream_is_cut_anywhere_in_it() -> None:
    (_, step) = parse("own", ["start", {"migration-fails": {
        "by": "stream-cut", "seed": 7, "within": 16 << 20}}]).steps
    assert step == MigrationFails(1, MigrationEnd.STREAM_CUT, 7, 16 << 20)
    cuts = [MigrationFails(1, MigrationEnd.STREAM_CUT, seed, 16 << 20).cut_at
            for seed in range(200)]
    assert sorted(cuts)[10] > CUT_WITHIN
    assert 15 << 20 < max(cuts) <= 16 << 20
    assert {MigrationFails(1, MigrationEnd.STREAM_CUT, seed, 1).cut_at for seed in range(9)} == {1}


@pytest.mark.parametrize(("options", "words"), [
    ({"within": 7}, "within says where a stream is cut"),
    ({"by": "stream-cut", "within": 0}, "within its first byte at least"),
    ({"seed": 7}, "seed says where a stream is cut"),
    ({"by": "stream-cut", "seed": -1}, "a whole number from 0"),
    ({"by": "stream-cut", "seed": True}, "a whole number from 0"),
    ({"by": "stream-cut", "seed": 10**9}, "a whole number from 0"),
])
def test_what_a_seed_cannot_be(options: dict[str, object], words: str) -> None:
    with pytest.raises(StepError, match=words):
        parse("own", ["start", {"migration-fails": options}])
