from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model import Channel, Policy, ResetBy, ShutdownBy, Step, StepKind
from harness.scenarios import LIBRARY, StepError, applies_to, parse, step_schema, validate

K = StepKind
# The library of docs/model.md.
MODEL_MD = [
    "cold-boot", "reset", "migrate-reset", "migrate-reset-twice", "migrate-restart", "ping-pong",
    "chain", "move", "save-restore-reset", "migrate-during-post", "host-upgrade-reset",
    "host-upgrade-restart", "nvram-upgrade-reset", "nvram-upgrade-migrate-reset",
    "replace-disk-reset", "replace-disk-restart", "guest-flash-reset",
    "guest-flash-migrate-reset", "shutdown-by-guest-restart", "suspend-wake",
    "migrate-suspend-wake-reset", "variables-migrate-reset", "variables-migrate-restart",
    "variables-ping-pong", "variables-move", "variables-host-upgrade-restart",
    "variables-fill-migrate-reset",
]


def test_the_library_has_all_of_the_model_and_says_what_each_is() -> None:
    assert set(MODEL_MD) <= set(LIBRARY)
    assert all(scenario.summary and scenario.name == name for name, scenario in LIBRARY.items())
    for scenario in LIBRARY.values():
        validate(scenario.steps)
    assert len({scenario.steps for scenario in LIBRARY.values()}) == len(LIBRARY)


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("cold-boot", 1), ("reset", 1), ("reset-by-triple-fault", 1), ("replace-disk-reset", 1),
        ("migrate-reset", 2), ("move", 2), ("ping-pong", 2), ("save-restore-reset", 2),
        ("host-upgrade-reset", 2), ("nvram-upgrade-reset", 2), ("chain", 3),
    ],
)
def test_hosts_needed(name: str, needed: int) -> None:
    assert LIBRARY[name].hosts_needed == needed


def test_some_of_the_library_step_by_step() -> None:
    assert LIBRARY["ping-pong"].steps == (
        Step(K.START, 0), Step(K.MIGRATE, 1), Step(K.RESET), Step(K.MIGRATE, 0), Step(K.RESET),
    )
    assert LIBRARY["chain"].steps == (
        Step(K.START, 0), Step(K.MIGRATE, 1), Step(K.RESET), Step(K.MIGRATE, 2), Step(K.RESET),
    )
    assert LIBRARY["migrate-restart"].steps[-1] == Step(K.START, 1)
    assert LIBRARY["host-upgrade-restart"].steps == (
        Step(K.START, 0), Step(K.UPGRADE_HOST, 0, firmware_of=1), Step(K.SHUTDOWN),
        Step(K.START, 0),
    )
    assert LIBRARY["nvram-upgrade-reset"].steps[1] == Step(K.UPGRADE_NVRAM, firmware_of=1)
    assert LIBRARY["save-restore-reset"].steps[1].channel is Channel.FILE
    assert LIBRARY["migrate-during-post"].steps[1].during_post
    assert LIBRARY["migrate-reset-by-cf9"].steps[-1].by is ResetBy.CF9
    assert LIBRARY["migrate-reset-by-efi-warm"].steps[-1].by is ResetBy.EFI_WARM
    assert LIBRARY["shutdown-by-guest-restart"].steps == (
        Step(K.START, 0), Step(K.SHUTDOWN, shutdown_by=ShutdownBy.GUEST), Step(K.START, 0),
    )
    assert LIBRARY["migrate-suspend-wake-reset"].steps == (
        Step(K.START, 0), Step(K.MIGRATE, 1), Step(K.SUSPEND), Step(K.RESET),
    )
    assert LIBRARY["variables-ping-pong"].steps == (
        Step(K.START, 0), Step(K.WRITE_VARIABLE), Step(K.MIGRATE, 1), Step(K.RESET),
        Step(K.MIGRATE, 0), Step(K.RESET),
    )


@pytest.mark.parametrize("by", [by for by in ResetBy if by is not ResetBy.MONITOR])
def test_every_way_of_a_reset_by_the_guest_has_a_scenario(by: ResetBy) -> None:
    assert LIBRARY[f"reset-by-{by}"].steps == (Step(K.START, 0), Step(K.RESET, by=by))


def test_defaults_follow_the_guest() -> None:
    steps = parse("mine", ["start", {"migrate": None}, "shutdown", "clear-nvram", "start",
                           {"upgrade-host": {}}, "upgrade-nvram", "migrate"]).steps
    assert steps == (
        Step(K.START, 0), Step(K.MIGRATE, 1), Step(K.SHUTDOWN), Step(K.CLEAR_NVRAM),
        Step(K.START, 1), Step(K.UPGRADE_HOST, 1, firmware_of=2),
        Step(K.UPGRADE_NVRAM, firmware_of=2), Step(K.MIGRATE, 2),
    )


@pytest.mark.parametrize("policy", list(Policy))
def test_nvram_steps_apply_where_there_is_an_nvram(policy: Policy) -> None:
    cleared = parse("mine", ["start", "shutdown", "clear-nvram", "start"])
    for scenario in (LIBRARY["nvram-upgrade-reset"], cleared):
        assert applies_to(scenario, policy) == policy.keeps_nvram
    assert applies_to(LIBRARY["host-upgrade-reset"], policy)
    assert applies_to(LIBRARY["guest-flash-reset"], policy)  # that nothing changes is a claim, too


@pytest.mark.parametrize(
    ("steps", "where", "words"),
    [
        ([], (), "at least one step"),
        (["reset"], (0, "reset"), "first step must be start"),
        (["shutdown"], (0, "shutdown"), "first step must be start"),
        (["upgrade-nvram"], (0, "upgrade-nvram"), "first step must be start"),
        (["start", "start"], (1, "start"), "running already"),
        (["start", "shutdown", "reset"], (2, "reset"), "needs a running guest"),
        (["start", "shutdown", "migrate"], (2, "migrate"), "needs a running guest"),
        (["start", "shutdown", "shutdown"], (2, "shutdown"), "needs a running guest"),
        (["start", "clear-nvram"], (1, "clear-nvram"), "shut down"),
        (["guest-flash"], (0, "guest-flash"), "first step must be start"),
        (["start", "shutdown", "guest-flash"], (2, "guest-flash"), "needs a running guest"),
        (
            ["start", "guest-flash", {"guest-flash": {"firmware-of": "source"}}],
            (2, "guest-flash"),
            "flashes the firmware of destination already",
        ),
        (["start", {"migrate": {"to": "source"}}], (1, "migrate"), "on source already"),
        (
            ["start", "replace-disk", {"migrate": {"during-post": True}}],
            (2, "migrate"),
            "right after a start",
        ),
        (
            ["start", {"upgrade-host": {"firmware-of": "source"}}],
            (1, "upgrade-host"),
            "has that firmware already",
        ),
        (["start", {"migrate": {"to": "host-3"}}], (), "never destination"),
        ([{"start": {"on": "destination"}}], (), "never source"),
        (["boot"], (0,), "no step: 'boot'"),
        ([None], (0,), "no step"),
        ([{"reset": None, "start": None}], (0,), "one name"),
        ([{}], (0,), "one name"),
        ([{"start": "destination"}], (0, "start"), "write start: {on: ...}"),
        (["start", {"suspend": True}], (1, "suspend"), "takes no options"),
        (["start", {"shutdown": True}], (1, "shutdown"), "write shutdown: {by: ...}"),
        (["start", {"shutdown": {"by": "cf9"}}], (1, "shutdown", "by"), "not known: 'cf9'"),
        (["write-variable"], (0, "write-variable"), "first step must be start"),
        *(
            (["start", "shutdown", step], (2, step), "needs a running guest")
            for step in ("write-variable", "fill-variables", "suspend")
        ),
        (["start", {"reset": {"how": "cf9"}}], (1, "reset", "how"), "no option 'how'"),
        (["start", {"reset": {"by": "cf8"}}], (1, "reset", "by"), "not known: 'cf8'"),
        (["start", {"migrate": {"to": "host-2"}}], (1, "migrate", "to"), "'host-2'"),
        (["start", {"migrate": {"to": 1}}], (1, "migrate", "to"), "no host of a cell: 1"),
        (["start", {"migrate": {"during-post": 1}}], (1, "migrate", "during-post"), "true or"),
    ],
)
def test_lists_that_make_no_sense(
    steps: list[Any], where: tuple[str | int, ...], words: str
) -> None:
    with pytest.raises(StepError) as caught:
        parse("mine", steps)
    assert words in caught.value.message
    assert caught.value.where == where


@pytest.mark.parametrize(
    "steps",
    [
        [Step(K.START)],
        [Step(K.START, 0), Step(K.MIGRATE)],
        [Step(K.START, 0), Step(K.UPGRADE_HOST, 0)],
        [Step(K.START, 0), Step(K.GUEST_FLASH)],
        [Step(K.START, 0), Step(K.UPGRADE_NVRAM)],
        [Step(K.RESET)],
    ],
)
def test_steps_made_by_hand_are_checked_too(steps: list[Step]) -> None:
    with pytest.raises(StepError):
        validate(steps)


raw_steps = st.sampled_from(
    ["start", {"start": {"on": "destination"}}, "reset", "migrate", {"migrate": {"to": "source"}},
     {"migrate": {"during-post": True}}, "shutdown", "upgrade-host", "upgrade-nvram",
     "clear-nvram", "replace-disk", "write-variable", "fill-variables", "suspend",
     {"shutdown": {"by": "guest"}}]
)


@given(st.lists(raw_steps, max_size=6))
def test_what_is_accepted_makes_sense(raw: list[Any]) -> None:
    """The rules once more, as properties of whole lists and not as a walk along one."""
    try:
        scenario = parse("mine", ["start", *raw])
    except StepError:
        return
    kinds = [step.kind for step in scenario.steps]
    switches = [kind for kind in kinds if kind in (K.START, K.SHUTDOWN)]
    assert switches == [K.START, K.SHUTDOWN] * (len(switches) // 2) + [K.START] * (
        len(switches) % 2
    )
    hosts = [step.host for step in scenario.steps if step.kind in (K.START, K.MIGRATE)]
    moved = [step.kind is K.MIGRATE for step in scenario.steps
             if step.kind in (K.START, K.MIGRATE)]
    for before, after, migrated in zip(hosts, hosts[1:], moved[1:], strict=False):
        assert not migrated or before != after
    for previous, step in zip(scenario.steps, scenario.steps[1:], strict=False):
        if step.during_post:
            assert previous.kind in (K.START, K.RESET)


def test_the_schema_names_every_step() -> None:
    names, *mappings = step_schema()["anyOf"]
    assert names["enum"] == [kind.value for kind in StepKind]
    assert [mapping["required"] for mapping in mappings] == [[kind.value] for kind in StepKind]


def test_there_is_nothing_to_upgrade_in_a_cleared_nvram() -> None:
    steps = ["start", "shutdown", "clear-nvram", {"upgrade-nvram": {"firmware-of": "destination"}}]
    with pytest.raises(StepError, match="there is no nvram to upgrade after clear-nvram"):
        parse("own", [*steps, "start", {"migrate": {"to": "destination"}}])
