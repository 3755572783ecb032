"""The rig: opened at first need, opened anew where the engine failed, and broken for good."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.errors import EngineError, HarnessError, ImageError, SandboxLost
from bootmatrix.model import HostSpec, QemuSource
from bootmatrix.run.rig import Rig
from helpers.cells import cell

CELL = cell("bullseye sid", "stock")


class Planted(Rig):
    """Each runner that is opened ends its cells with the next of ``ends``."""

    def __init__(self, run_dir: Path, *ends: Any) -> None:
        super().__init__("planted", run_dir)
        self.ends = list(ends)
        self.opened = 0
        self.lost: list[object] = []

    @property
    def _runner(self) -> Any:
        if "_opened_runner" not in self.__dict__:
            self.opened += 1
            self.__dict__["_opened_runner"] = SimpleNamespace(begin=self._next, run=self._once_more)
        return self.__dict__["_opened_runner"]

    def _once_more(self, cell: object, known: object, repeat: int, lost: object) -> Any:
        self.lost.append(lost)
        return self._next()

    def _next(self, *arguments: object) -> Any:
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


def record(**values: Any) -> dict[str, Any]:
    return {"verdict": "pass", **values}


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    rig = Rig(None, tmp_path)
    rig.close()
    assert not {"store", "builds", "engine", "_opened_runner"} & set(rig.__dict__)


def test_a_record_is_there_at_once(tmp_path: Path) -> None:
    rig = Planted(tmp_path, record())
    begun = rig.begin(CELL, ())
    assert not begun.waits
    assert begun.record()["verdict"] == "pass"


@pytest.mark.parametrize("failure", [EngineError("docker: gone"), SandboxLost("it has ended")])
def test_a_cell_whose_engine_failed_is_run_once_more(tmp_path: Path, failure: EngineError) -> None:
    rig = Planted(tmp_path, failure, record())
    assert rig.run(CELL, ())["retried"] == failure.message
    assert rig.opened == 2
    assert rig.lost == [failure if isinstance(failure, SandboxLost) else None]


def test_a_rig_that_broke_for_good_stays_broken(tmp_path: Path) -> None:
    rig = Planted(tmp_path, EngineError("gone"), EngineError("still gone"), record())
    for _ in range(2):
        with pytest.raises(HarnessError, match="still gone"):
            rig.run(CELL, ())
    assert len(rig.ends) == 1


def test_images_that_cannot_be_made_are_tried_once(tmp_path: Path) -> None:
    asked = []

    def prepare(*arguments: object) -> None:
        asked.append(arguments)
        raise ImageError("mmdebstrap failed")

    rig = Planted(tmp_path)
    rig.__dict__["builds"] = SimpleNamespace(prepare=prepare, close=lambda: None)
    for _ in range(2):
        with pytest.raises(ImageError):
            rig.prepare(CELL.hosts)
    assert len(asked) == 1
    with pytest.raises(ImageError):
        rig.run(CELL, ())
    rig.close()


def test_a_qemu_of_ones_own_that_is_asked_is_told_while_it_is_made(tmp_path: Path) -> None:
    rig = Rig(None, tmp_path)
    rig.__dict__["builds"] = SimpleNamespace(
        alone=lambda sources, say: say(f"building {sources[0]}"),
        machines=lambda host: (str(host.qemu),))
    said: list[str] = []
    host = HostSpec("a", QemuSource(suite="forky"))
    assert rig.machines(host, said.append) == ("suite:forky",)
    assert said == ["building suite:forky"]
