"""One look after the other at a step, until one tells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.engines.confinement import Priority
from bootmatrix.errors import EngineError
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import FirmwareBuild, Host, QemuBuild
from bootmatrix.policies import Policy
from bootmatrix.run.looks import Looks
from bootmatrix.run.patience import Patience, Watch
from bootmatrix.steps.reset import Reset
from bootmatrix.witnesses.observation import BootObserved, StepObserved
from bootmatrix.witnesses.probe_line import ProbeLine

UP = ProbeLine("up", 1, None, "SeaBIOS", "1.17.0-1", "A")
DOWN = StepObserved(Reset(), 5.0, 0, boot=BootObserved(0, (), None, "ab", 5.01, 5.0))
Ended = Callable[[Callable[[], None]], None]


def came(seconds: float, wall: float) -> StepObserved:
    assert DOWN.boot is not None
    return replace(DOWN, boot=replace(DOWN.boot, up=UP, seconds=seconds, wall=wall))


class Watched:
    """Guests that are seen so; with what each was begun, and when there have been so many."""

    def __init__(self, *seen: Sequence[StepObserved]) -> None:
        self.begun: list[tuple[str, GuestSetup, Priority]] = []
        self._seen = list(seen)
        self.all = threading.Event()

    def __call__(self, name: str, setup: GuestSetup, priority: Priority) -> Watch:
        def watch(can_be_ended_by: Ended) -> Sequence[StepObserved]:
            self.begun.append((name, setup, priority))
            if len(self.begun) == len(self._seen):
                self.all.set()
            return self._seen[len(self.begun) - 1]

        return watch


def looks(directory: Path, watched: Watched, own: StepObserved, *, ours: bool = True) -> Looks:
    qemu = QemuBuild("q", "7.2.0", "digest", directory, catalogued=ours)
    host = Host("h", qemu, FirmwareBuild("f", "sha", 4, directory, catalogued=ours))
    setup = GuestSetup([host], "pc-q35-5.2", Policy.STOCK, [], seconds=5.0)
    patience = Patience(directory / "run", directory / "kept")
    return Looks(patience, watched, setup, 1, "key", own, 5.0, 120.0)


@pytest.mark.parametrize(("own", "seen", "is_late", "numbers"), [
    (DOWN, [(33.0, 33.0)], True, "1"),
    (DOWN, [(3.0, 33.0), (30.0, 33.0)], True, "12"),
    (DOWN, [(3.0, 33.0), (3.0, 4.0)], False, "12"),
    (DOWN, [(3.0, 33.0), (4.0, 33.0), (0.3, 44.0)], True, "123"),
    (DOWN, [(0.6, 9.0), (2.08, 8.0), (1.2, 60.0)], False, "123"),
    (DOWN, [(3.0, 33.0), (4.0, 33.0), (3.5, 440.0)], False, "123"),
    (DOWN, [(3.0, 33.0), (4.0, 33.0), (4.0, 33.0)], False, "123"),
    (came(3.0, 33.0), [(3.0, 4.0)], False, "2"),
    (came(3.0, 33.0), [(4.0, 33.0), (0.3, 44.0)], True, "23"),
])  # fmt: skip
def test_there_are_as_many_as_it_takes(
    tmp_path: Path, own: StepObserved, seen: list[tuple[float, float]], is_late: bool,
    numbers: str,
) -> None:
    watched = Watched(*([came(*times)] for times in seen))
    at = looks(tmp_path, watched, own)
    answer = at.first.answer()
    # The next is begun when this one has not told, and not when somebody asks for the verdict.
    assert watched.all.wait(60)
    assert at.late(answer) == (is_late, (own, *(
        replace(came(*times), slowed=number == "3")
        for times, number in zip(seen, numbers, strict=True))))
    assert [name for name, _, _ in watched.begun] == [f"key-{number}" for number in numbers]
    at.patience.close()


def test_one_is_beside_the_others_one_before_them_and_one_is_slowed_down(tmp_path: Path) -> None:
    watched = Watched(*([came(*times)] for times in ((3.0, 30.0), (6.0, 30.0), (0.3, 44.0))))
    at = looks(tmp_path, watched, DOWN)
    assert at.late(at.first.answer())[0]
    assert [priority for _, _, priority in watched.begun] == [
        Priority.LOW, Priority.HIGH, Priority.HIGH]
    setups = [setup for _, setup, _ in watched.begun]
    assert [setup.urgent for setup in setups] == [False, True, True]
    assert [setup.share for setup in setups][:2] == [0.0, 0.0]
    assert 0 < setups[2].share < 0.2 / 9, "so much less that a factor of three tells"
    assert all((setup.seconds, setup.least) == (120.0, 120.0) for setup in setups)
    at.patience.close()


def test_no_build_of_the_user_s_comes_before_others(tmp_path: Path) -> None:
    watched = Watched([came(3.0, 30.0)], [came(3.0, 30.0)], [came(0.3, 40.0)])
    at = looks(tmp_path, watched, DOWN, ours=False)
    assert at.late(at.first.answer())[0]
    assert [priority for _, _, priority in watched.begun] == [
        Priority.LOW, Priority.USUAL, Priority.USUAL]
    at.patience.close()


def test_what_did_not_come_or_went_otherwise_tells_nothing(tmp_path: Path) -> None:
    watched = Watched([came(3.0, 33.0)], [DOWN], [])
    at = looks(tmp_path, watched, DOWN)
    assert at.late(at.first.answer()) == (False, (DOWN, came(3.0, 33.0), DOWN))
    assert len(watched.begun) == 3
    at.patience.close()


def test_an_answer_is_kept_though_nothing_more_can_be_looked_at(tmp_path: Path) -> None:
    at = looks(tmp_path, Watched([came(3.0, 33.0)], [came(3.0, 33.0)], [came(0.3, 44.0)]), DOWN)
    assert at.late(at.first.answer())[0]

    class Closed(Watched):
        def __call__(self, name: str, setup: GuestSetup, priority: Priority) -> Watch:
            watch = super().__call__(name, setup, priority)

            def closed(can_be_ended_by: Ended) -> Sequence[StepObserved]:
                at.patience._closed = True  # as when the run ends at this moment
                return watch(can_be_ended_by)

            return closed

    last = Looks(at.patience, Closed([came(3.0, 33.0)]), at.setup, 1, "other", DOWN, 5.0, 120.0)
    assert last.first.answer() == (came(3.0, 33.0),)
    with pytest.raises(EngineError):
        last.late(last.first.answer())
    at.patience.close()
