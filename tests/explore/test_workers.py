"""Processes that explore together: heard, and ended with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.explore.workers import Workers

SAYS = ("import json,sys; print('no json'); print(json.dumps({'say': sys.argv[1]}), "
        "flush=True)")


def command(program: str, word: str = "x") -> list[str]:
    return [sys.executable, "-c", program, word]


def test_what_they_say_is_heard_until_all_have_ended() -> None:
    heard: list[dict[str, Any]] = []
    with Workers([command(SAYS, "one"), command(SAYS, "two")]) as workers:
        assert not workers.hear(heard.append)
    assert sorted(said["say"] for said in heard) == ["one", "two"]


@pytest.mark.parametrize(("status", "broken"), [(0, False), (130, False), (3, True)])
def test_how_one_has_ended(status: int, broken: bool) -> None:
    with Workers([command(f"raise SystemExit({status})"), command(SAYS)]) as workers:
        assert workers.hear(lambda said: None) is broken


def test_who_is_interrupted_ends_them_and_hears_their_last_words() -> None:
    last = ("import signal,sys,json,time\n"
            "def end(*_): print(json.dumps({'counts': 3}), flush=True); sys.exit(130)\n"
            "signal.signal(signal.SIGTERM, end)\n"
            "print(json.dumps({'say': 'up'}), flush=True)\ntime.sleep(600)")
    heard: list[dict[str, Any]] = []

    def hear(said: dict[str, Any]) -> None:
        heard.append(said)
        if said == {"say": "up"}:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Workers([command(last)]) as workers:
        workers.hear(hear)
    assert heard[-1] == {"counts": 3}


def test_they_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    child = ("import os,time; from bootmatrix.explore.workers import ends_with_parent; "
             "ends_with_parent(); print(os.getpid(), flush=True); time.sleep(600)")
    parent = f"import subprocess,sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    started = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    assert started.stdout is not None
    pid = int(started.stdout.readline())
    gone = os.pidfd_open(pid)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    import select

    assert select.select([gone], [], [], 30)[0], "it goes on"
    os.close(gone)
    started.stdout.close()
