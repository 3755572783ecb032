"""A migration that has begun: whose reset it is meanwhile, and what the destination has read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootmatrix.boards import Loader
from bootmatrix.policies import Policy
from bootmatrix.steps.base import StepError
from bootmatrix.steps.library import LIBRARY, parse
from bootmatrix.steps.migration_begins import MigrationBegins
from bootmatrix.steps.plan import plan
from helpers.lives import HOSTS, MIGRATE, Q35, RESET, SHUTDOWN, START, loaded
from helpers.platforms import SECTOR, platform, why

BEGINS = MigrationBegins(1)
OTHER = LIBRARY["destination-upgrade-before-arrival"].steps
AFTER = LIBRARY["destination-upgrade-after-arrival"].steps


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("loader", [Loader.ROM, Loader.FLASH, Loader.MEMORY])
def test_a_reset_meanwhile_is_the_source_s(policy: Policy, loader: Loader) -> None:
    hosts = [replace(host, label=f"on {host.firmware}") for host in loaded(loader)]
    without = plan(policy, hosts, Q35, (START, RESET, MIGRATE, RESET))
    start, begun, reset, moved, last = plan(
        policy, hosts, Q35, (START, BEGINS, RESET, MIGRATE, RESET))
    assert (begun.host, begun.firmware, begun.boots) == (0, start.firmware, False)
    assert (reset.host, reset.label, reset.boots) == (0, "on A", True)
    for mine, other in zip((reset, moved, last), without[1:], strict=True):
        assert (mine.firmware, mine.rom, mine.variables, mine.host) == (
            other.firmware, other.rom, other.variables, other.host)


# HOSTS have A, B, and C to lend; the destination's file becomes C.
@pytest.mark.parametrize(("policy", "before", "after"), [
    (Policy.STOCK, "A", "A"), (Policy.GUEST_OWNED, "A", "A"), (Policy.MACHINE_OWNED, "B", "B"),
    (Policy.REREAD, "C", "C"),
])
def test_what_the_destination_read_at_its_launch_is_its_image(
    policy: Policy, before: str, after: str
) -> None:
    assert plan(policy, HOSTS, Q35, OTHER)[-1].firmware == before
    assert plan(policy, HOSTS, Q35, AFTER)[-1].firmware == after
    # Launched when the guest comes, it has read the new one.
    late = (START, OTHER[2], MIGRATE, RESET)
    assert plan(policy, HOSTS, Q35, late)[-1].firmware == {"B": "C"}.get(before, before)


def test_a_guest_that_is_shut_down_meanwhile_goes_nowhere() -> None:
    hosts = loaded(Loader.FLASH)
    for policy in Policy:
        without = plan(policy, hosts, Q35, (START, SHUTDOWN, START))[-1]
        assert plan(policy, hosts, Q35, (START, BEGINS, SHUTDOWN, START))[-1] == without


@pytest.mark.parametrize(("steps", "words"), [
    ([{"migration-begins": {"to": "source"}}], "the guest is on source already"),
    (["migration-begins", "migration-begins"], "a migration to destination has begun before"),
    (["migration-begins", "migration-fails"], "a migration to destination has begun before"),
    (["migration-begins", {"migrate": {"to": "host-3"}}], "has begun: it goes there"),
    (["migration-begins", {"migrate": {"capabilities": ["xbzrle"]}}], "is told nothing more"),
    (["migration-begins", {"migrate": {"channel": "tcp"}}], "has its channel"),
    (["migration-begins", "reset", {"migrate": {"during-post": True}}], "has its channel"),
])
def test_where_it_makes_no_sense(steps: list[object], words: str) -> None:
    with pytest.raises(StepError, match=words):
        parse("own", ["start", *steps])
    assert parse("own", ["start", "migration-begins", "shutdown", "start", "migrate"])


def test_not_between_versions_of_a_microvm() -> None:
    assert why(BEGINS, SECTOR) is None
    assert why(BEGINS, platform(machine="microvm")) == (
        "microvm does not migrate between versions of QEMU")
