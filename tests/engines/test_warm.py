"""Confinements that are lent: to whom again, for how long, and what ends them. They are fakes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.engines import warm as module
from bootmatrix.engines.warm import WARM, Confinement, WarmEngine, WarmSandbox
from bootmatrix.errors import EngineError
from bootmatrix.files.cell_files import CellDir
from bootmatrix.model import Grant, Limits, QemuBuild


class Process:
    """One that never ends by itself."""

    ended = False

    def __init__(self, last_words: Callable[[], str]) -> None:
        self.last_words = last_words

    def kill(self) -> None:
        self.ended = True


class Launcher:
    """What starts programs in a confinement, and says whether anything is left there."""

    def __init__(self) -> None:
        self.gone = False
        self.left = False
        self.ended = threading.Event()
        self.why = ""

    def launch(self, argv: tuple[str, ...], log: str, last_words: Callable[[], str]) -> Process:
        assert log.startswith("/cell/")
        return Process(last_words)

    def clean(self) -> bool:
        return not self.left

    def end(self, why: str) -> None:
        self.why = why
        self.ended.set()


class Fake(Confinement):
    """A confinement without anything."""

    def __init__(self, engine: Engine) -> None:
        self.launcher: Any = Launcher()
        self._engine = engine

    def shut(self) -> None:
        self._engine.did.append(("shut", self))

    def remove(self) -> None:
        self._engine.did.append(("remove", self))


class Engine(WarmEngine):
    """An engine of fakes; what was ended is in ``did``."""

    name = "fake"

    def __init__(self) -> None:
        super().__init__()
        self.started = 0
        self.did: list[tuple[str, Fake]] = []

    def _start(
        self, build: QemuBuild, cell_dir: Path, grants: Collection[Grant], shown: Path | None,
        limits: Limits,
    ) -> Confinement:
        self.started += 1
        return Fake(self)

    @property
    def removed(self) -> int:
        return sum(what == "remove" for what, _ in self.did)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


def launcher_of(sandbox: WarmSandbox) -> Launcher:
    launcher: Any = sandbox._confinement.launcher
    assert isinstance(launcher, Launcher)
    return launcher


def build(name: str = "q") -> QemuBuild:
    return QemuBuild(name, "1.0", f"digest-{name}", Path())


def test_the_next_cell_in_a_directory_finds_it_warm(engine: Engine, tmp_path: Path) -> None:
    for _ in range(3):
        with engine.sandbox(build(), tmp_path, keep=True):
            assert engine.started == 1
    assert engine.removed == 0
    engine.close()
    assert engine.removed == 1


@pytest.mark.parametrize("other", ["build", "directory", "kvm", "made anew"])
def test_what_differs_is_another(engine: Engine, tmp_path: Path, other: str) -> None:
    cell = tmp_path / "cell"
    cell.mkdir()
    with engine.sandbox(build(), cell, keep=True):
        pass
    if other == "made anew":
        cell.rename(tmp_path / "old")
        cell.mkdir()
    place = tmp_path if other == "directory" else cell
    with engine.sandbox(build("p" if other == "build" else "q"), place,
                        {Grant.KVM} if other == "kvm" else (), keep=True):
        assert engine.started == 2


def test_one_that_is_not_to_be_kept_ends_with_its_last_user(
    engine: Engine, tmp_path: Path
) -> None:
    first = engine.sandbox(build(), tmp_path, keep=True)
    second = engine.sandbox(build(), tmp_path)
    assert engine.started == 1
    second.close()
    second.close()
    assert engine.removed == 0, "the other uses it"
    first.close()
    assert engine.removed == 1


def test_one_in_which_something_is_left_serves_nobody_else(
    engine: Engine, tmp_path: Path
) -> None:
    with engine.sandbox(build(), tmp_path, keep=True) as sandbox:
        launcher_of(sandbox).left = True
    assert engine.removed == 1


def test_one_that_has_gone_is_replaced(engine: Engine, tmp_path: Path) -> None:
    with engine.sandbox(build(), tmp_path, keep=True) as sandbox:
        launcher_of(sandbox).gone = True
    with engine.sandbox(build(), tmp_path, keep=True):
        assert (engine.started, engine.removed) == (2, 1)


def test_no_more_than_so_many_wait_and_the_oldest_goes(engine: Engine, tmp_path: Path) -> None:
    for number in range(WARM + 3):
        with engine.sandbox(build(f"q{number}"), tmp_path, keep=True):
            pass
    assert engine.removed == 2, "the last one was lent while as many waited"
    with engine.sandbox(build("q0"), tmp_path, keep=True):
        assert engine.started == WARM + 4


def test_programs_of_one_sandbox_end_while_another_goes_on(
    engine: Engine, tmp_path: Path
) -> None:
    one, other = (engine.sandbox(build(), tmp_path, keep=True) for _ in range(2))
    mine: Any = one.launch(("a",), tmp_path / "1.log")
    theirs: Any = other.launch(("b",), tmp_path / "2.log")
    one.close()
    assert (mine.ended, theirs.ended) == (True, False)
    other.close()


def test_all_inputs_end_before_one_is_waited_for(engine: Engine, tmp_path: Path) -> None:
    for name in "abc":
        with engine.sandbox(build(name), tmp_path, keep=True):
            pass
    engine.close()
    assert [what for what, _ in engine.did] == ["shut"] * 3 + ["remove"] * 3


def test_last_words_are_the_end_of_the_log_and_none_of_a_later_cell_s(
    engine: Engine, tmp_path: Path
) -> None:
    with engine.sandbox(build(), tmp_path) as sandbox:
        process: Any = sandbox.launch(("a",), tmp_path / "log")
        (tmp_path / "log").write_text("".join(f"{number}\n" for number in range(100)))
        assert process.last_words().splitlines() == [str(number) for number in range(80, 100)]
    assert process.last_words() == ""


def test_who_writes_too_much_is_ended_by_name(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(CellDir, "excess", lambda self, *most: "9 GB")
    with engine.sandbox(build("a"), tmp_path) as one, engine.sandbox(build("b"), tmp_path) as two:
        for sandbox in (one, two):
            assert launcher_of(sandbox).ended.wait(60)
            assert launcher_of(sandbox).why == "a and b have left in /cell: 9 GB"


def test_a_directory_that_is_not_there(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"the cell's directory .*none: No such file"):
        engine.sandbox(build(), tmp_path / "none")
    assert engine.started == 0
