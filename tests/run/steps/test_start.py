"""A new machine, and the boot in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.machines.fake import Script
from bootmatrix.run.steps import do_step
from bootmatrix.steps.start import Start
from helpers.fakes import fake_guest, life


def test_a_refused_start_has_qemus_words(tmp_path: Path) -> None:
    words = "qemu-system-x86_64: unsupported machine type\n"
    (seen,) = life(fake_guest(tmp_path, script=Script(refuses_start=words)), ["start", "reset"])
    assert seen.refusal is not None
    assert "unsupported machine type" in str(seen.refusal)
    assert seen.host is None


def test_a_guest_runs_once(tmp_path: Path) -> None:
    with fake_guest(tmp_path) as guest:
        do_step(guest, Start(0))
        with pytest.raises(UserError, match="the guest runs already"):
            do_step(guest, Start(0))
