"""What steps have in common: their options, what they run on, how a scenario is made of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.files import yaml_file
from bootmatrix.model import Arch, Channel, GuestKind, role_index, role_name
from bootmatrix.policies import Policy
from bootmatrix.steps.base import (
    Choice,
    Flag,
    GuestState,
    Names,
    Number,
    Option,
    Platform,
    Role,
    Scenario,
    Settings,
    Step,
    StepError,
    at_host,
)
from bootmatrix.steps.migrate import Migrate
from helpers.lives import HOSTS, Q35, RESET, START
from helpers.platforms import (
    ARM,
    BIOS_LINUX,
    OPENSBI,
    RISCV,
    SECTOR,
    UEFI_LINUX,
    UEFI_PROBE,
    hosts,
    platform,
)

WHERE = (1, "migrate", "to")


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


COLOUR = Choice("colour", values=tuple(Colour))


@pytest.mark.parametrize(("option", "value", "words"), [
    (Names("n"), "xbzrle", "must be a list of names, not 'xbzrle'"),
    (Names("n"), ["xbzrle", 7], "no name of QEMU's: 7"),
    (Names("n"), ["a b"], "no name of QEMU's: 'a b'"),
    (Settings("s"), ["a"], r"must be a mapping of names to values, not \['a'\]"),
    (Settings("s"), {"a": 1.5}, "must be a text, a whole number, true or false, not 1.5"),
    (Settings("s"), {7: 1}, "no name of QEMU's: 7"),
])
def test_what_qemu_cannot_be_told(option: Option, value: Any, words: str) -> None:
    with pytest.raises(StepError, match=words):
        option.read(WHERE, value)


def test_what_qemu_is_told_is_written_as_it_was_read() -> None:
    names, settings = ["auto-converge", "xbzrle"], {"max-bandwidth": 1 << 20, "announce-max": "x"}
    assert Names("n").written(Names("n").read(WHERE, names)) == names
    read = Settings("s").read(WHERE, settings)
    assert hash(read), "a step can be a key"
    assert Settings("s").written(read) == settings


def test_an_option_goes_to_the_field_of_its_name() -> None:
    assert Flag("during-post").field == "during_post"
    assert Role("to", "host").field == "host"


@pytest.mark.parametrize(("option", "text", "value"), [
    (Role("to"), "source", 0), (Role("to"), "destination", 1), (Role("to"), "host-3", 2),
    (Flag("twice"), True, True), (Flag("twice"), False, False),
    (COLOUR, "blue", Colour.BLUE),
])
def test_what_is_read_is_what_was_written(option: Option, text: Any, value: Any) -> None:
    assert option.read(WHERE, text) == value
    assert option.written(value) == text


def test_numbers_that_yaml_writes_otherwise_are_numbers(tmp_path: Path) -> None:
    """ruamel has kinds of its own for them, which no worker can send."""
    path = tmp_path / "m.yaml"
    path.write_text("{a: 0, b: 0x10, c: 1_000, d: true}")
    given = yaml_file.parse(path, path.read_text())
    read = dict(Settings("s").read(WHERE, given))
    assert read == {"a": 0, "b": 16, "c": 1000, "d": True}
    assert [type(value) for value in read.values()] == [int, int, int, bool]
    for name in "abc":
        number = Number("n").read(WHERE, given[name])
        assert (type(number), number) == (int, read[name])
    with pytest.raises(StepError, match="must be a whole number from 0"):
        Number("n").read(WHERE, given["d"])


@pytest.mark.parametrize(("option", "raw", "words", "found", "accepted"), [
    (Role("to"), "host-2", "no host of a cell: 'host-2'", "host-2",
     ("source", "destination", "host-3")),
    (Role("to"), 1, "no host of a cell: 1", "1", ("source", "destination", "host-3")),
    (Flag("twice"), 1, "must be true or false, not 1", None, ()),
    (Flag("twice"), "true", "must be true or false, not 'true'", None, ()),
    (COLOUR, "green", "not known: 'green'", "green", ("red", "blue")),
    (COLOUR, None, "not known: None", "None", ("red", "blue")),
])
def test_what_cannot_be_read(
    option: Option, raw: Any, words: str, found: str | None, accepted: tuple[str, ...]
) -> None:
    with pytest.raises(StepError) as caught:
        option.read(WHERE, raw)
    error = caught.value
    assert str(error) == words
    assert (error.where, error.message, error.found, error.accepted) == (
        WHERE, words, found, accepted)


def test_the_schema_of_each_option() -> None:
    assert Flag("twice").schema == {"type": "boolean"}
    assert COLOUR.schema == {"enum": ["red", "blue"]}
    pattern = Role("to").schema["pattern"]
    assert all(re.fullmatch(pattern, role_name(index)) for index in range(120))
    assert not any(re.fullmatch(pattern, text) for text in ("host-1", "host-2", "host-03", "host"))


def test_an_option_says_itself_what_it_is() -> None:
    plain = Option("x")
    assert plain.written(3) == 3
    with pytest.raises(NotImplementedError):
        plain.schema  # noqa: B018
    with pytest.raises(NotImplementedError):
        plain.read(WHERE, 3)


@pytest.mark.parametrize(("on", "uefi", "boot_sector", "name"), [
    (SECTOR, False, True, "a boot sector"),
    (BIOS_LINUX, False, False, "a linux guest"),
    (UEFI_PROBE, True, False, "a probe guest"),
    (UEFI_LINUX, True, False, "a linux guest"),
    (ARM, True, False, "a probe guest"),
    # U-Boot behind OpenSBI offers UEFI, whatever the firmware's own interface is
    (RISCV, True, False, "a probe guest"),
    (platform(OPENSBI, guest=GuestKind.LINUX_KERNEL), False, False, "a linux-kernel guest"),
])
def test_what_a_guest_is_on_a_platform(
    on: Platform, uefi: bool, boot_sector: bool, name: str
) -> None:
    assert (on.uefi, on.boot_sector, on.guest_name) == (uefi, boot_sector, name)


@dataclass(frozen=True)
class Wait(Step):
    """A step that says nothing of itself."""

    kind = "wait"


def test_a_step_that_says_nothing_can_be_done_always_and_changes_nothing() -> None:
    step, state, model = Wait(), GuestState(running=True), Policy.STOCK.model(HOSTS, Q35)
    before = replace(state)
    step.advance(state)
    assert (step.roles, step.needs, step.problem(state), state) == ((), frozenset(), None, before)
    assert list(step.unsupported(SECTOR, 0)) == []
    assert (step.by_hand("1-source"), step.describe(hosts())) == ((), "wait")
    assert step.apply(model) is None
    assert model == Policy.STOCK.model(HOSTS, Q35)


def test_the_hosts_that_steps_name() -> None:
    move = Migrate(2, Channel.FILE)
    assert (move.roles, RESET.roles) == ((2,), ())
    assert Scenario("s", (START, move, RESET)).hosts_needed == 3
    assert Scenario("s", (START,)).hosts_needed == 1
    assert Scenario("s", (Wait(),)).hosts_needed == 1
    assert Scenario("s", (Wait(), Migrate(0))).hosts_needed == 1
    assert at_host(1, hosts(OPENSBI)) == "destination (QEMU 11.1.3)"
    assert role_index(role_name(2)) == 2


def test_an_architecture_without_a_bios_is_uefi_s() -> None:
    assert platform(OPENSBI, "virt", Arch.RISCV64).uefi
    assert not platform(OPENSBI).uefi
