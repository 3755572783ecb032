"""The rig of a run on a cluster: what it makes of answers, and of cells that no worker can run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.cluster.client import Given
from bootmatrix.cluster.model import Answer, Needs
from bootmatrix.cluster.rig import ClusterRig
from bootmatrix.cluster.wishes import Wishes
from bootmatrix.errors import HarnessError
from bootmatrix.model import HostSpec
from bootmatrix.policies import Policy
from bootmatrix.steps.library import LIBRARY
from helpers.clusters import Loopback

CELL = Cell((HostSpec("old", "debian-bullseye"), HostSpec("new", "debian-bookworm")),
            "pc-i440fx-5.2", Policy.STOCK, LIBRARY["migrate-reset"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, store: ImageStore) -> Iterator[Loopback]:
    with Loopback(tmp_path_factory.mktemp("loopback")) as cluster:
        cluster.worker("one", 1)
        yield cluster


def opened(cluster: Loopback, run_dir: Path, engine: str | None = None) -> ClusterRig:
    rig = ClusterRig(Wishes(cluster.scheduler.address), engine, run_dir)
    rig.matrix = "m.yaml"
    rig.prepare(dict.fromkeys(CELL.hosts))
    return rig


def test_a_cell_that_no_worker_can_run_is_told_first_and_is_unsupported(
    cluster: Loopback, tmp_path: Path
) -> None:
    said: list[str] = []
    with closing(opened(cluster, tmp_path, "docker")) as rig:
        rig.open([CELL, CELL], said.append)
        assert said[-1] == "2 cells can run on no worker: one has no engine docker"
        record = rig.begin(CELL, ()).record()
    assert record["verdict"] == "unsupported"
    assert record["reason"] == "no worker can run it: one has no engine docker"


def test_what_a_worker_says_is_checked(cluster: Loopback, tmp_path: Path) -> None:
    with closing(opened(cluster, tmp_path)) as rig:
        rig.open([CELL], lambda line: None)
        record: Any = rig.begin(CELL, ()).record()
        assert (record["verdict"], record["worker"]) == ("pass", "one")
        assert "attempts" not in record
        for wrong in ({"cell": {**record["cell"], "machine": "pc-q35-5.2"}}, {"schema": 99},
                      {"verdict": "fine"}):
            with pytest.raises(HarnessError, match="one: "):
                rig._record(answered({**record, **wrong}), CELL, ())
        with pytest.raises(HarnessError, match="no place of a cell"):
            rig._record(answered({**record, "artifacts": "../../home"}, b"x"), CELL, ())


def answered(record: dict[str, Any], packed: bytes = b"") -> Given:
    """What has come of a cell from a worker that is not to be believed."""
    task: Any = None
    return Given(task, Needs(machine="x86_64"), None, over=True, worker="one", packed=packed,
                 answer=Answer(state="done", record=record))


def test_nobody_answers_is_told(store: ImageStore, tmp_path: Path) -> None:
    rig = ClusterRig(Wishes("tcp://127.0.0.1:1"), None, tmp_path)
    rig.prepare(dict.fromkeys(CELL.hosts))
    with closing(rig):
        for _ in range(2):  # the second time at once
            with pytest.raises(HarnessError, match=r"tcp://127\.0\.0\.1:1: no scheduler answers"):
                rig.open([CELL], lambda line: None)
