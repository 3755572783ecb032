"""A command that is asked to end does so as by Ctrl-C, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from bootmatrix.ending import ENDING

WAITS = """
import signal, sys
from bootmatrix.ending import end_tidily
end_tidily()
try:
    print("ready", flush=True)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.stdin.readline()  # until the second signal was sent
    print("tidied up", flush=True)
"""


@pytest.mark.parametrize("number", ENDING)
def test_the_first_is_an_interrupt_and_the_second_is_heard_already(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, number)
        assert child.stdout.readline() == "interrupted\n"
        for ending in ENDING:
            os.kill(child.pid, ending)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "tidied up\n"
    assert child.returncode == 0
