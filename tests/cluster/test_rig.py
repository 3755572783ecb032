"""The rig of a run on a cluster: what it makes of answers, and of cells that no worker can run."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.cluster.client import GivenCell
from bootmatrix.cluster.model import CellAnswer, Needs
from bootmatrix.cluster.rig import ClusterRig
from bootmatrix.cluster.wishes import ClusterWishes
from bootmatrix.errors import HarnessError
from bootmatrix.model import HostSpec, Verdict
from bootmatrix.policies import Policy
from bootmatrix.records import rows
from bootmatrix.records.jsonl import as_line
from bootmatrix.steps.library import LIBRARY

CELL = Cell((HostSpec("old", "debian-bullseye"), HostSpec("new", "debian-bookworm")),
            "pc-i440fx-5.2", Policy.STOCK, LIBRARY["migrate-reset"])


class Lacking(SimpleNamespace):
    """A cluster whose one worker lacks something for each cell."""

    ready = ("one",)

    def lacking(self, needs: Needs) -> str:
        return f"one has no engine {needs.engine}"

    def close(self) -> None:
        pass


def made(run_dir: Path, engine: str | None = None) -> ClusterRig:
    rig = ClusterRig(ClusterWishes("tcp://127.0.0.1:1"), engine, run_dir)
    rig.matrix = "m.yaml"
    rig.prepare(dict.fromkeys(CELL.hosts))
    return rig


def test_a_cell_that_no_worker_can_run_is_told_first_and_is_unsupported(
    store: ImageStore, tmp_path: Path
) -> None:
    said: list[str] = []
    with closing(made(tmp_path, "docker")) as rig:
        rig._cluster = Lacking()  # type: ignore[assignment]
        rig._tell_of_homeless([CELL, CELL], said.append)
        assert said == ["2 cells can run on no worker: one has no engine docker"]
        record = rig.begin(CELL, ()).record()
    assert record["verdict"] == "unsupported"
    assert record["reason"] == "no worker can run it: one has no engine docker"


def test_what_a_worker_says_is_checked(store: ImageStore, tmp_path: Path) -> None:
    with closing(made(tmp_path)) as rig:
        record: Any = rows.record(rig.describe(CELL), Verdict.PASS, "", scenario=CELL.scenario,
                                  engine="planted", seconds=0.1)
        taken = rig._record(answered(record), CELL, ())
        assert (taken["verdict"], taken["worker"]) == ("pass", "one")
        assert "attempts" not in taken
        for wrong in ({"cell": {**record["cell"], "machine": "pc-q35-5.2"}}, {"schema": 99},
                      {"verdict": "fine"}):
            with pytest.raises(HarnessError, match="one: "):
                rig._record(answered({**record, **wrong}), CELL, ())
        with pytest.raises(HarnessError, match="no place of a cell"):
            rig._record(answered({**record, "artifacts": "../../home"}, b"x"), CELL, ())


def answered(record: dict[str, Any], packed: bytes = b"") -> GivenCell:
    """What has come of a cell from a worker that is not to be believed."""
    task: Any = None
    return GivenCell(task, Needs(machine="x86_64"), None, 60.0, over=True, worker="one",
                     packed=packed, answer=CellAnswer(state="done"), record=as_line(record))


def test_nobody_answers_is_told(store: ImageStore, tmp_path: Path) -> None:
    rig = ClusterRig(ClusterWishes("tcp://127.0.0.1:1"), None, tmp_path)
    rig.prepare(dict.fromkeys(CELL.hosts))
    with closing(rig):
        for _ in range(2):  # the second time at once
            with pytest.raises(HarnessError, match=r"tcp://127\.0\.0\.1:1: no scheduler answers"):
                rig.open([CELL], lambda line: None)
