"""A worker's process that boots nothing: each cell passes, but for those that a plan says more of.

Run as a program, with the slot's name; the plan is a JSON file that the environment names.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bootmatrix.cell import Cell
from bootmatrix.cluster.model import Task
from bootmatrix.cluster.slot import SentRig, main
from bootmatrix.errors import EngineError
from bootmatrix.model import Known, Verdict
from bootmatrix.records import rows
from bootmatrix.run.rig import Begun

PLAN = "BOOTMATRIX_TEST_PLAN"


class PlantedRig(SentRig):
    """Does with a cell what the plan says of its policy, and lets it pass."""

    def __init__(self, task: Task, run_dir: Path, worker: str, boards: Sequence[Path]) -> None:
        super().__init__(task, run_dir, worker, boards)
        self._run_dir = run_dir

    def begin(self, cell: Cell, known: Sequence[Known], repeat: int = 1) -> Begun:
        plan: dict[str, Any] = json.loads(Path(os.environ[PLAN]).read_text())
        deed = plan.get(cell.id) or plan.get(cell.policy.value) or plan.get("all", {})
        if log := plan.get("log"):
            with Path(log).open("a") as file:
                file.write(f"{os.environ.get('BOOTMATRIX_TEST_MACHINE', '')} {cell.id}\n")
        once = deed.get("once")
        if once is not None:
            try:
                Path(once).touch(exist_ok=False)
            except FileExistsError:
                deed = {}
        if seconds := deed.get("seconds", plan.get("seconds", 0)):
            time.sleep(seconds)
        if "signal_worker" in deed:
            os.kill(os.getppid(), deed["signal_worker"])
            signal.pause()
        if "signal_self" in deed:
            os.kill(os.getpid(), deed["signal_self"])
        if "engine" in deed:
            raise EngineError(deed["engine"])
        if "full_disk" in deed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        verdict = Verdict(deed.get("verdict", "pass"))
        place = Path("cells", self.matrix, cell.id)
        files = plan.get("files", True)
        if files:
            (self._run_dir / place / "1-source").mkdir(parents=True, exist_ok=True)
            (self._run_dir / place / "1-source" / "console.log").write_text(f"SeaBIOS {cell.id}\n")
        record = rows.record(
            self.describe(cell), verdict, deed.get("reason", ""), scenario=cell.scenario,
            declared=known, engine=self._engine_name or "planted", seconds=0.01,
            artifacts=str(place) if files else "")
        if "waits" in deed:
            until = time.monotonic() + deed["waits"]
            return Begun(None, lambda: time.monotonic() > until, lambda: record)
        return Begun(record)


if __name__ == "__main__":
    main(PlantedRig)
