"""The same cells in both engines: the same verdicts, the same firmware, the same reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import Cell
from bootmatrix.engines import Engine, choose
from bootmatrix.model import Verdict
from bootmatrix.records.model import Record
from bootmatrix.run.runner import Runner
from bootmatrix.witnesses.moment import repeatable
from helpers.cells import cell

CELLS = [
    cell("bullseye sid", "stock"),
    cell("bullseye sid", "guest-owned", "migrate-restart"),
    cell("trixie bookworm", "guest-owned-versioned", "nvram-upgrade-migrate-reset"),
    cell("bullseye sid", "machine-owned", "migrate-reset-by-triple-fault", disk="virtio"),
    cell("sid bullseye", "reread", "ping-pong", disk="floppy"),
    cell("sid sid", "reread", "save-restore-reset"),
    cell("bullseye sid trixie", "machine-owned", "chain"),
    cell("sid trixie", "stock", "migrate-during-post"),
    cell("bullseye sid", "stock", machine="default"),
    cell("bullseye sid", "guest-owned", machine="pc-q35-5.2", disk="ahci", seconds=1),
    cell("bullseye sid", "stock", machine="pc-q35-10.0"),
]


def told(record: Record) -> dict[str, object]:
    """What a record says of the firmware, without what differs from run to run."""
    return {
        "verdict": record["verdict"],
        "reason": repeatable(record["reason"]),
        "boots": [(boot["step"], boot["host"], boot["console"], boot["rom"], boot["up"])
                  for boot in record["boots"]],
        "steps": [(step["step"], step["outcome"]) for step in record["steps"]],
        "argv": [qemu["argv"] for qemu in record["qemus"]],
    }


@pytest.mark.docker
@pytest.mark.parametrize("cells", [
    CELLS[:1] + CELLS[-2:], pytest.param(CELLS[1:-2], marks=pytest.mark.thorough)], ids=len)
def test_the_engines_agree(store: ImageStore, tmp_path: Path, cells: list[Cell]) -> None:
    def run(name: str) -> list[Record]:
        with choose(name) as engine, Runner(Builds(store), engine, tmp_path / name) as runner:
            return [runner.run(cell) for cell in cells]

    pairs = list(zip(run("bubblewrap"), run("docker"), strict=True))
    for one, other in pairs:
        assert told(one) == told(other)
        assert (one["engine"], other["engine"]) == ("bubblewrap", "docker")
    assert {one["verdict"] for one, _ in pairs} == (
        {Verdict.PASS, Verdict.SILENT, Verdict.UNSUPPORTED} if cells[-1] is CELLS[-1]
        else {Verdict.PASS})


def test_each_engine_alone(store: ImageStore, engine: Engine, tmp_path: Path) -> None:
    with Runner(Builds(store), engine, tmp_path) as runner:
        record = runner.run(CELLS[2])
    assert record["verdict"] == Verdict.PASS, record["reason"]
    kept = {path.name for path in (tmp_path / record["artifacts"]).rglob("*.log")}
    assert kept == {"console.log", "qemu.log"}
    assert not list(tmp_path.glob("scratch-*")), "nothing but the artifacts stays"
