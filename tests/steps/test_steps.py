"""A step of one's own is a file and a line in a table: everything else follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.boards import known_board
from bootmatrix.diagnose.reproduction.script import ScriptedQemu, ShellScript
from bootmatrix.diagnose.reproduction.steps import write
from bootmatrix.model import Arch, FirmwareBuild, GuestKind, Host, QemuBuild
from bootmatrix.policies import Policy
from bootmatrix.policies.base import HostFacts, PolicyModel
from bootmatrix.run.steps import DEEDS, do_step
from bootmatrix.steps import STEPS
from bootmatrix.steps.base import Choice, Flag, GuestState, Platform, Role, Step, StepError
from bootmatrix.steps.library import LIBRARY, parse, read_step, step_schema, written
from bootmatrix.steps.plan import plan
from bootmatrix.steps.start import Start
from bootmatrix.witnesses.observation import StepObserved

HOSTS = (HostFacts("5.2.0", "pc-5.2", "A"), HostFacts("11.1.3", "pc-11.1", "B"))


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Paint(Step):
    """A step that nobody knows but this file."""

    target: int
    colour: Colour = Colour.RED
    twice: bool = False

    kind = "paint"
    options = (Role("with", "target", beyond=True), Choice("colour", values=tuple(Colour)),
               Flag("twice"))
    running = True
    must_answer = "the guest is still wet"

    def problem(self, state: GuestState) -> str | None:
        return "it is wet" if state.booting and self.twice else None

    def apply(self, model: PolicyModel) -> str | None:
        model.running = f"{self.colour} {model.running}"
        return "no-paint" if self.twice else None

    def unsupported(self, platform: Platform, host: int) -> Iterator[str]:
        if self.colour is Colour.BLUE:
            yield f"{platform.guest_name} on {platform.board} cannot be blue"

    def by_hand(self, process: str) -> tuple[str, ...]:
        return (f"paint {process} {self.colour}",)


@pytest.fixture
def paint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEPS, Paint.kind, Paint)
    monkeypatch.setitem(
        DEEDS, Paint.kind, lambda guest, step, following: guest.observed(failed=step.colour))


@pytest.mark.usefixtures("paint")
def test_a_planted_step_is_read_planned_and_done() -> None:
    steps = parse("own", ["start", "paint", {"paint": {"colour": "blue", "with": "source"}}]).steps
    assert steps == (Start(0), Paint(1), Paint(0, Colour.BLUE))
    assert [read_step(written(step)) for step in steps] == list(steps)
    assert [each.firmware for each in plan(Policy.STOCK, HOSTS, "pc-5.2", steps)] == [
        "A", "red A", "blue red A"]
    (schema,) = (one for one in step_schema()["anyOf"] if one.get("required") == ["paint"])
    properties = schema["properties"]["paint"]["properties"]
    assert properties["colour"] == {"enum": ["red", "blue"]}
    assert properties["twice"] == {"type": "boolean"}
    host = Host("a", QemuBuild("q", "5.2.0", "", Path()), FirmwareBuild("f", "", 1, Path()))
    platform = Platform(known_board("q35", Arch.X86_64), [host], GuestKind.PROBE)
    assert list(steps[2].unsupported(platform, 0)) == [
        "a boot sector on pc-q35 (x86_64) cannot be blue"]


@pytest.mark.usefixtures("paint")
def test_a_planted_step_is_done_and_written_down() -> None:
    done: list[Step] = []
    guest: Any = SimpleNamespace(begin=done.append, explain=lambda: None, stopped=lambda: None,
                                 observed=lambda failed: StepObserved(done[-1], 0.1, failed=failed))
    assert do_step(guest, Paint(0)).failed == "red"
    script = ShellScript.__new__(ShellScript)
    script.hosts, script.lines, script.process = (), [], ScriptedQemu("1-source", 0)
    write(script, 2, Paint(0), None)
    assert script.lines == ["", "# ---- step 2: paint", "paint 1-source red"]


@pytest.mark.usefixtures("paint")
@pytest.mark.parametrize(("steps", "words"), [
    (["paint"], "the first step must be start"),
    (["start", "shutdown", "paint"], "paint needs a running guest"),
    (["start", {"paint": {"twice": True}}], "it is wet"),
    (["start", {"paint": {"colour": "green"}}], "not known: 'green'"),
    (["start", {"paint": {"with": "host-3"}}], "but never destination"),
])
def test_a_planted_step_has_its_place(steps: list[Any], words: str) -> None:
    with pytest.raises(StepError, match=words):
        parse("own", steps)


def test_a_plan_ends_at_a_planted_refusal() -> None:
    steps = [Start(0), Paint(0, twice=True), Paint(0)]
    assert [each.refusal for each in plan(Policy.STOCK, HOSTS, "q35", steps)] == [None, "no-paint"]


def test_it_is_gone_again() -> None:
    with pytest.raises(StepError, match="no step: 'paint'"):
        parse("own", ["start", "paint"])


# ---- all that there are -----------------------------------------------------------------------


def test_each_step_is_done_somewhere() -> None:
    assert list(DEEDS) == list(STEPS)


@pytest.mark.parametrize("kind", STEPS.values(), ids=list(STEPS))
def test_each_step_is_in_a_scenario_or_the_reader_s_tests(kind: type[Step]) -> None:
    used = {type(step) for scenario in LIBRARY.values() for step in scenario.steps}
    assert kind in used or kind.kind in (
        "clear-nvram", "guest-flash-power-loss")
