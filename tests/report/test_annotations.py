"""Failed cells as what GitHub and GitLab show beside a change."""

from __future__ import annotations

import json

from bootmatrix.report.annotations import github, gitlab
from helpers.records import record


def test_what_the_machine_did_is_told() -> None:
    loops = record(verdict="silent", reason="nothing") | {"black_box": "loops in 0x10"}
    assert "::silent: nothing%0Ablack box: loops in 0x10%0Aagain: " in github([loops])
    (finding,) = json.loads(gitlab([loops]))
    assert finding["description"].endswith(": silent: nothing; black box: loops in 0x10")
