"""What a pytest session with planted verdicts has done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# pytester forgets what a session imports: what stays here is not imported in each again.
import bootmatrix.matrix.expansion
import bootmatrix.report.summary  # noqa: F401

M = "matrices/m.yaml"
PUT_OFF = ("late", "boot 2 (reset on destination): not up within 5.0 s (up after 32.6 s)")


def records(path: Path) -> list[dict[str, Any]]:
    """The lines of a records file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def ran(here: Path) -> list[str]:
    """The cells that the planted rig has run, in order."""
    log = here / "rig.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.removeprefix("run ") for line in lines if line.startswith("run ")]
