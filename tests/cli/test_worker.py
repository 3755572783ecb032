"""``bootmatrix worker``: what it refuses, and how it waits for a scheduler."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bootmatrix.cli.main import main
from bootmatrix.errors import Status
from helpers.clusters import end


@pytest.mark.parametrize(("words", "told"), [
    (["scheduler"], "no address of a cluster"),
    (["local:2"], "a worker serves a scheduler"),
    (["tcp://10.0.0.1:8786"], "whoever reaches it can run code"),
    (["tls://10.0.0.1:8786"], "--cluster-tls DIR"),
    (["tls://10.0.0.1:8786", "--cluster-tls", "/nowhere"], "there is no ca.pem"),
    (["tcp://127.0.0.1:1", "--name", "two words"], "cannot be a worker's name"),
])
def test_what_cannot_be_is_told_in_a_line(
    words: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["worker", *words]) == Status.USER_ERROR
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1


def test_it_waits_for_a_scheduler_and_ends_when_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with subprocess.Popen(
            [sys.executable, "-m", "bootmatrix", "worker", "tcp://127.0.0.1:1", "--no-doctor",
             "--engine", "bubblewrap", "--name", "alone"], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        assert process.stdout.readline().decode().strip() == \
            "alone: no scheduler answers at tcp://127.0.0.1:1; it is tried again"
        end(process, signal.SIGTERM)
        assert process.returncode == Status.GREEN
        assert process.stdout.read() == b""
    assert not list((tmp_path / "bootmatrix/cluster-runs").iterdir())
