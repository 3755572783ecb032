"""A command that is asked to end does so as by Ctrl-C, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from bootmatrix.ending import ENDING

WAITS = """
import sys, time
from bootmatrix.ending import end_tidily
end_tidily()
try:
    print("ready", flush=True)
    while True:
        time.sleep(0.01)  # a pause does not hear what comes just before it
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


IGNORES = """
import signal, time
from bootmatrix.ending import asked_to_end, end_tidily
end_tidily()

class Ignoring:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

try:
    del (made := [Ignoring()])[:]
    ignored = asked_to_end()
    while True:
        time.sleep(0.01)  # a pause does not hear what comes just before it
except KeyboardInterrupt:
    print("interrupted", ignored)
"""


def test_one_that_python_ignores_is_asked_for_again() -> None:
    """As in a weak reference's callback, or a validator's: it can come anywhere."""
    done = subprocess.run([sys.executable, "-c", IGNORES], capture_output=True, text=True,
                          timeout=60)
    assert (done.stdout, done.stderr) == ("interrupted True\n", "")


OF_ANOTHERS = """
import signal, time
from bootmatrix.ending import insist

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
insist()

class Ignoring:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
try:
    del (made := [Ignoring()])[:]
    while True:
        time.sleep(0.01)  # a pause does not hear what comes just before it
except KeyboardInterrupt:
    now = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    print("interrupted", before == now)
"""


def test_one_that_python_ignores_in_a_worker_of_pytests_is_asked_for_again() -> None:
    """It has handlers of its own."""
    done = subprocess.run([sys.executable, "-c", OF_ANOTHERS], capture_output=True, text=True,
                          timeout=60)
    assert (done.stdout, done.stderr) == ("interrupted True\n", "")


SLOW = """
import sys, signal
from bootmatrix import ending
ending._SILENT_SECONDS = 0.01
ending.end_tidily()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    sys.stdin.readline()
"""


def test_an_end_that_takes_long_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", SLOW], stdin=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == "bootmatrix: ending what runs ...\n"
        child.communicate("\n")
    assert child.returncode == 0


ENDS = """
import signal, sys
from bootmatrix.__main__ import main
from bootmatrix.cli import main as commands

class Late:
    def __del__(self):  # when Python has set all handlers back
        import os
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

sys.late = Late()
commands.main = lambda: 4
sys.exit(main())
"""


def test_a_command_that_is_over_keeps_its_status() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (4, "")


FINISHES = """
import signal
from bootmatrix.ending import asked_to_end, end_tidily, finishing
end_tidily()
try:
    with finishing():
        signal.raise_signal(signal.SIGTERM)
        print("told", asked_to_end(), flush=True)
        signal.raise_signal(signal.SIGINT)
        print("never told")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_what_is_all_but_told_is_told_unless_asked_twice() -> None:
    done = subprocess.run([sys.executable, "-c", FINISHES], capture_output=True, text=True,
                          timeout=60)
    assert (done.stdout, done.stderr) == ("told False\ninterrupted\n", "")


def test_one_that_comes_where_it_is_asked_for_again_is_not_lost() -> None:
    """A machine so busy that the next comes before its timer has begun."""
    slow = """
import threading
start, busy = threading.Timer.start, [True]
def begin(timer):
    start(timer)
    if busy:
        busy.clear()
        time.sleep(0.5)
threading.Timer.start = begin
insist()
"""
    done = subprocess.run([sys.executable, "-c", OF_ANOTHERS.replace("insist()\n", slow, 1)],
                          capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("interrupted True\n", "")
