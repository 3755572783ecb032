"""What an exploration runs lives with: the rig of every run, and the files of its directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bootmatrix.builds.host import Builds
from bootmatrix.cell import Cell
from bootmatrix.errors import CellError
from bootmatrix.explore.home import Home, Lines
from bootmatrix.explore.lives import World, places_of
from bootmatrix.explore.search import Search
from bootmatrix.files.cell_files import remove_tree
from bootmatrix.matrix.expansion import Matrix
from bootmatrix.model import Verdict
from bootmatrix.records.model import Record
from bootmatrix.records.times import now
from bootmatrix.run.directory import RECORDS
from bootmatrix.run.resume import fingerprint
from bootmatrix.run.rig import Rig
from bootmatrix.run.runner import Runner


class _LivesRig(Rig):
    """The rig with the builds that are there already."""

    def __init__(self, builds: Builds, engine: str | None, run_dir: Path, worker: str) -> None:
        super().__init__(engine, run_dir, worker)
        self.__dict__["builds"] = builds


def world_of(builds: Builds, cells: Sequence[Cell]) -> World:
    """Where lives can be lived: on the cells' hosts, which are built."""
    places, _ = places_of(cells)
    hosts = dict.fromkeys(host for place in places for host in place.hosts)
    return World(places, {host: builds.host(host) for host in hosts}, builds.known_firmware,
                 Runner.abilities)


@contextmanager
def searching(
    run_dir: Path, worker: int, engine: str | None, builds: Builds, matrix: Matrix,
    cells: Sequence[Cell], tell: Callable[[str], None],
) -> Iterator[Search]:
    """A search in a run's directory, with all that it needs."""
    builds.prepare(tuple(dict.fromkeys(host for cell in cells for host in cell.hosts)))
    world = world_of(builds, cells)
    rig = _LivesRig(builds, engine, run_dir, f"explore-{worker}")
    home, records = Home(run_dir, worker), Lines(run_dir / RECORDS)
    try:
        yield Search(world, matrix, Lived(rig, matrix), home, records.add, tell, seed=0,
                     worker=worker)
    finally:
        home.close()
        records.close()
        rig.close()


class Lived:
    """Runs a life's cell. Of one that passed nothing is kept."""

    def __init__(self, rig: Rig, matrix: Matrix) -> None:
        self._rig = rig
        self._known = matrix.known

    def __call__(self, cell: Cell, hasty: bool, repeat: int) -> Record:
        """Its record; in a hurry nothing is waited for that can be compared without."""
        self._rig.hasty = hasty
        record = self._rig.run(cell, self._known, repeat)
        record["ended"] = now()
        record["fingerprint"] = fingerprint(cell)
        if record["verdict"] == Verdict.PASS and record.get("artifacts"):
            with suppress(OSError, CellError):
                remove_tree(self._rig.run_dir / record["artifacts"])
            record["artifacts"] = ""
        return record
