"""The end of a guest's process, by the monitor or by the guest itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bootmatrix.machines.fake import Script
from helpers.fakes import fake_guest, life

BY_GUEST = {"shutdown": {"by": "guest"}}


@pytest.mark.parametrize("how", ["shutdown", BY_GUEST])
def test_nothing_runs_and_the_next_start_is_another_process(tmp_path: Path, how: Any) -> None:
    guest = fake_guest(tmp_path)
    down, again = life(guest, ["start", how, "start"])[1:]
    assert (down.host, down.failed, down.limit) == (None, None, None)
    assert again.boot is not None
    assert again.boot.up is not None
    assert len(guest.hosts.processes) == 2


def test_a_guest_that_does_not_do_it_still_runs(tmp_path: Path) -> None:
    seen = life(fake_guest(tmp_path, script=Script(deaf=True)), ["start", BY_GUEST, "start"])
    assert len(seen) == 2
    assert seen[1].failed == "the machine still runs 0 s after the guest was told to shut down"
    assert seen[1].limit == 0.2
