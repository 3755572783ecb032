from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bootmatrix.model import (
    Channel,
    ResetBy,
    ShutdownBy,
)
from bootmatrix.policies import Policy
from bootmatrix.steps import STEPS
from bootmatrix.steps.base import Step, StepError
from bootmatrix.steps.clear_nvram import ClearNvram
from bootmatrix.steps.library import (
    LIBRARY,
    StepData,
    applies_to,
    parse,
    read_step,
    step_schema,
    validate,
    written,
)
from bootmatrix.steps.migrate import Migrate, leaves_during_post
from bootmatrix.steps.reset import Reset
from bootmatrix.steps.shutdown import Shutdown
from bootmatrix.steps.start import Start
from bootmatrix.steps.suspend import Suspend
from bootmatrix.steps.upgrade_host import UpgradeHost
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from bootmatrix.steps.write_variable import WriteVariable

# The library of docs/model.md.
MODEL_MD = [
    "cold-boot", "reset", "migrate-reset", "migrate-reset-twice", "migrate-restart", "ping-pong",
    "chain", "move", "save-restore-reset", "migrate-during-post", "host-upgrade-reset",
    "host-upgrade-restart", "nvram-upgrade-reset", "nvram-upgrade-migrate-reset",
    "replace-disk-reset", "replace-disk-restart", "guest-flash-reset",
    "guest-flash-migrate-reset", "shutdown-by-guest-restart", "suspend-wake",
    "migrate-suspend-wake-reset", "variables-migrate-reset", "variables-migrate-restart",
    "variables-ping-pong", "variables-move", "variables-host-upgrade-restart",
    "variables-fill-migrate-reset", "boot-entry-migrate-reset", "boot-entry-move",
    "boot-next-migrate-reset", "keys-migrate-reset", "keys-move",
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
        Start(0), Migrate(1), Reset(), Migrate(0), Reset(),
    )
    assert LIBRARY["chain"].steps == (
        Start(0), Migrate(1), Reset(), Migrate(2), Reset(),
    )
    assert LIBRARY["migrate-restart"].steps[-1] == Start(1)
    assert LIBRARY["host-upgrade-restart"].steps == (
        Start(0), UpgradeHost(0, firmware_of=1), Shutdown(),
        Start(0),
    )
    assert LIBRARY["nvram-upgrade-reset"].steps[1] == UpgradeNvram(firmware_of=1)
    assert LIBRARY["save-restore-reset"].steps[1] == Migrate(1, Channel.FILE)
    assert LIBRARY["migrate-during-post"].steps[1] == Migrate(1, during_post=True)
    assert LIBRARY["migrate-reset-by-cf9"].steps[-1] == Reset(ResetBy.CF9)
    assert LIBRARY["migrate-reset-by-efi-warm"].steps[-1] == Reset(ResetBy.EFI_WARM)
    assert LIBRARY["shutdown-by-guest-restart"].steps == (
        Start(0), Shutdown(by=ShutdownBy.GUEST), Start(0),
    )
    assert LIBRARY["migrate-suspend-wake-reset"].steps == (
        Start(0), Migrate(1), Suspend(), Reset(),
    )
    assert LIBRARY["variables-ping-pong"].steps == (
        Start(0), WriteVariable(), Migrate(1), Reset(),
        Migrate(0), Reset(),
    )


@pytest.mark.parametrize("by", [by for by in ResetBy if by is not ResetBy.MONITOR])
def test_every_way_of_a_reset_by_the_guest_has_a_scenario(by: ResetBy) -> None:
    assert LIBRARY[f"reset-by-{by}"].steps == (Start(0), Reset(by=by))


def test_defaults_follow_the_guest() -> None:
    steps = parse("mine", ["start", {"migrate": None}, "shutdown", "clear-nvram", "start",
                           {"upgrade-host": {}}, "upgrade-nvram", "migrate"]).steps
    assert steps == (
        Start(0), Migrate(1), Shutdown(), ClearNvram(),
        Start(1), UpgradeHost(1, firmware_of=2),
        UpgradeNvram(firmware_of=2), Migrate(2),
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
        (["guest-flash"], (0, "guest-flash"), "first step must be start"),
        (["start", "shutdown", "guest-flash"], (2, "guest-flash"), "needs a running guest"),
        (["start", {"migrate": {"to": "source"}}], (1, "migrate"), "on source already"),
        (
            ["start", "replace-disk", {"migrate": {"during-post": True}}],
            (2, "migrate"),
            "right after a start",
        ),
        (["start", {"migrate": {"to": "host-3"}}], (), "never destination"),
        ([{"start": {"on": "destination"}}], (), "never source"),
        (["boot"], (0,), "no step: 'boot'"),
        ([None], (0,), "no step"),
        ([{"reset": None, "start": None}], (0,), "one name"),
        ([{}], (0,), "one name; this one has none"),
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
        [],
        [Reset()],
        [Start(1)],
        [Start(0), Migrate(0)],
        [Start(0), Migrate(2)],
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
    kinds = [type(step) for step in scenario.steps]
    switches = [kind for kind in kinds if kind in (Start, Shutdown)]
    assert switches == [Start, Shutdown] * (len(switches) // 2) + [Start] * (len(switches) % 2)
    hosts = [step.host for step in scenario.steps if isinstance(step, (Start, Migrate))]
    moved = [isinstance(step, Migrate) for step in scenario.steps
             if isinstance(step, (Start, Migrate))]
    for before, after, migrated in zip(hosts, hosts[1:], moved[1:], strict=False):
        assert not migrated or before != after
    for previous, step in zip(scenario.steps, scenario.steps[1:], strict=False):
        if leaves_during_post(step):
            assert isinstance(previous, (Start, Reset))


def test_the_schema_names_every_step() -> None:
    names, *mappings = step_schema()["anyOf"]
    assert names["enum"] == list(STEPS)
    assert [mapping["required"] for mapping in mappings] == [[name] for name in STEPS]
    for mapping in mappings:  # and nothing else
        (body,) = mapping["properties"].values()
        assert mapping["additionalProperties"] is body["additionalProperties"] is False


@pytest.mark.parametrize("name", LIBRARY)
def test_a_step_survives_being_written(name: str) -> None:
    data = TypeAdapter(tuple[StepData, ...])
    steps = LIBRARY[name].steps
    assert data.validate_json(data.dump_json(steps)) == steps


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_no_data_breaks_the_reader(data: Any) -> None:
    with suppress(ValidationError):
        TypeAdapter(StepData).validate_python(data)


def test_a_step_is_written_with_each_option_said() -> None:
    assert written(Suspend()) == "suspend"
    assert written(Migrate(1, Channel.FILE)) == {
        "migrate": {"to": "destination", "channel": "file", "during-post": False, "as": "running",
                    "recovers": False}}
    assert read_step(written(UpgradeHost(1, 2))) == UpgradeHost(1, 2)
    # What is not said is so of a guest on the source.
    assert (read_step("start"), read_step("migrate")) == (Start(0), Migrate(1))
