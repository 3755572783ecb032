"""bootmatrix repro: the cell that list names, and a step that is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.diagnose.attach import steps_until
from bootmatrix.errors import UserError
from helpers.cells import cell

MATRIX = Path(__file__).parents[2] / "matrices" / "quickstart.yaml"
SILENT = "bullseye-to-sid,pc-q35-5.2,stock,migrate-reset,ahci"


def test_a_step_that_is_not_there() -> None:
    wanted = cell("sid trixie", "stock", "ping-pong")
    assert len(steps_until(wanted, "reset:2")) == 5
    assert len(steps_until(wanted, "2")) == 2
    for until in ("reset:3", "6", "shutdown", "reset:x", "reset:0"):
        with pytest.raises(UserError, match=f"--until {until}: no such step"):
            steps_until(wanted, until)


def test_the_json_of_list_names_what_repro_takes(store: ImageStore) -> None:
    listed = subprocess.run(
        [sys.executable, "-c", "import sys; from bootmatrix.__main__ import main; sys.exit(main())",
         "list", str(MATRIX), "--json"], capture_output=True, text=True, timeout=300)
    assert SILENT in [row["id"] for row in json.loads(listed.stdout)]
