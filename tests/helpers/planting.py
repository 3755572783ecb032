"""A rig for tests of the faces: it runs nothing, and every cell ends as the test planted it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from bootmatrix.cell import Cell
from bootmatrix.errors import EngineError, ImageError, UserError
from bootmatrix.matrix.expansion import Matrix
from bootmatrix.model import HostSpec, Known, Verdict, role_name
from bootmatrix.records import rows
from bootmatrix.records.model import BootRow, CellRow, Record
from bootmatrix.run.rig import Begun

QEMUS = {
    "debian-bullseye": ("5.2.0", "seabios-1.14.0-2"),
    "debian-bookworm": ("7.2.22", "seabios-1.16.2-1"),
    "debian-sid": ("11.1.3", "seabios-1.17.0-1"),
}
SAVED = QEMUS["debian-bookworm"]
"""Of guests that helpers.vaults has put into a vault."""
CONFTEST = """
import sys
sys.path.insert(0, {tests!r})
from helpers.planting import PlantedRig
from bootmatrix.plugin.session import rig_factory_key

def pytest_configure(config):
    config.stash[rig_factory_key] = PlantedRig
"""
MATRIX = """
schema: 1
hosts:
  bullseye: {qemu: debian-bullseye}
  sid: {qemu: debian-sid}
axes:
  source: bullseye
  destination: sid
  machine: [pc-i440fx-5.2, pc-q35-5.2]
  policy: [stock, guest-owned, machine-owned]
  scenario: migrate-reset
  disk: ahci
known:
  - when: {machine: pc-q35-5.2, policy: stock}
    verdict: silent
    reason: the old firmware hangs at its reset
"""
SILENT = {"verdict": "silent",
          "reason": "boot 2 (reset on destination): not a byte in 3.0 s"}


def cell_id(machine: str, policy: str) -> str:
    """The id of one of MATRIX's six cells."""
    return f"bullseye-to-sid,pc-{machine}-5.2,{policy},migrate-reset,ahci"


Q35_STOCK = cell_id("q35", "stock")
Q35_GUEST = cell_id("q35", "guest-owned")
I440FX_STOCK = cell_id("i440fx", "stock")


def plant(here: Path, **plan: Any) -> None:
    """Make a project whose cells end as planned; ``known`` cells as declared, others pass.

    ``verdicts`` maps cell ids to what their records are to have, ``images`` is an image error,
    ``hang`` the id of a cell that never ends, ``waits`` the ids of cells that are put off,
    ``unbuilt`` what is said where images are missing and not to be built,
    ``shell`` what happens during each cell.
    """
    tests = str(Path(__file__).parents[1])
    (here / "conftest.py").write_text(CONFTEST.format(tests=tests))
    (here / "pytest.ini").write_text("[pytest]\naddopts = -p no:hypothesispytest\n")
    (here / "matrices").mkdir()
    (here / "matrices" / "m.yaml").write_text(plan.pop("matrix", MATRIX))
    (here / "plan.json").write_text(json.dumps(plan))


def boot_row(n: int, step: str, host: str, firmware: str, up: bool = True) -> BootRow:
    """A boot of the firmware that is expected; silent, if it did not come up."""
    return {"n": n, "step": step, "host": host, "expected": firmware, "rom": firmware, "up": up,
            "console": firmware if up else None, "seconds": 0.041}


class PlantedRig:
    """Stands in for bootmatrix.run.rig.Rig."""

    matrix = ""

    def __init__(self, engine: str | None, run_dir: Path, worker: str) -> None:
        self.run_dir = run_dir
        self._engine = engine or "planted"
        self._plan = json.loads(Path("plan.json").read_text())
        self._log = Path("rig.log")
        self._worker = worker

    def check(self, matrix: Matrix) -> None:
        for name in matrix.qemu_names():
            if name not in QEMUS:
                raise UserError(f"no QEMU build is called {name!r}", file=matrix.path)

    def machines(
        self, host: HostSpec, progress: Callable[[str], None] = print, *, build: bool = True
    ) -> tuple[str, ...]:
        if "unbuilt" in self._plan:
            if not build:
                raise UserError(self._plan["unbuilt"])
            progress(f"{host.qemu}: building")
            self._note(f"build {host.qemu}")
        return ("pc-q35-5.2", "pc-i440fx-5.2")

    def prepare(self, hosts: Iterable[HostSpec], progress: Callable[[str], None] = print) -> None:
        if "images" in self._plan:
            raise ImageError(self._plan["images"])
        self._note("prepare " + " ".join(sorted({str(host.qemu) for host in hosts})))

    def describe(self, cell: Cell) -> CellRow:
        values: dict[str, Any] = {"id": cell.id}
        for index, host in enumerate(cell.hosts):
            version, firmware = QEMUS.get(str(host.qemu), SAVED)
            values[role_name(index)] = {
                "qemu": version, "build": str(host.qemu), "firmware": firmware, "host": host.name}
        return cast(CellRow, values | cell.values)

    def begin(self, cell: Cell, known: Sequence[Known], repeat: int = 1) -> Begun:
        if cell.id not in self._plan.get("waits", ()):
            return Begun(self._run(cell, known, repeat))
        self._note(f"put off {cell.id}")
        return Begun(None, lambda: False, lambda: self._run(cell, known, repeat))

    def _run(self, cell: Cell, known: Sequence[Known], repeat: int = 1) -> Record:
        self._note(f"run {cell.id}")
        if "shell" in self._plan:
            subprocess.run(self._plan["shell"], shell=True, check=True)
        if self._plan.get("hang") == cell.id:
            Path("hanging").touch()
            signal.pause()
        if self._plan.get("breaks") == cell.id:
            raise EngineError("docker: the container has ended")
        values = self.describe(cell)
        planned = {"verdict": "pass", "reason": "", **(
            SILENT if cell.id == Q35_STOCK else {}), **self._plan.get("verdicts", {}).get(
                f"{cell.id}#{repeat}" if repeat > 1 else cell.id, {})}
        verdict = Verdict(planned["verdict"])
        old, new = (str(values[role]["firmware"]) for role in ("source", "destination"))
        ran = new if cell.policy.value == "machine-owned" else old
        # As the real rig's: repeats run side by side.
        place = f"cells/{self.matrix}/{cell.id}" + (f",repeat-{repeat}" if repeat > 1 else "")
        artifacts = self.run_dir / place / "2-destination"
        artifacts.mkdir(parents=True, exist_ok=True)
        (artifacts / "console.log").write_text("SeaBIOS (version 1.14.0-2)\nthe last words\n")
        up = verdict is Verdict.PASS
        return rows.record(
            values, verdict, planned["reason"], scenario=cell.scenario, declared=known,
            boots=(boot_row(1, "start", "source", old),
                   boot_row(2, "reset", "destination", ran, up)),
            qemus=[{"role": role, "version": values[role]["qemu"],
                    "argv": ["/usr/bin/qemu-system-x86_64", "-name", f"guest {role}"]}
                   for role in ("source", "destination")],
            engine=self._engine, seconds=0.2, artifacts=place,
        )

    def close(self) -> None:
        self._note(f"close {self._worker}")

    def _note(self, line: str) -> None:
        with self._log.open("a") as log:
            log.write(line + "\n")
