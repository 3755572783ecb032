"""What is said to the shell in a sandbox, and heard of it, by a shell that the test plays."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Iterator

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.engines.launcher import LaunchedProcess, Launcher, argv
from bootmatrix.errors import CellError, DeadlineExceeded, SandboxLost

Piece = tuple[int, bytes] | None


class Shell:
    """The other end of a launcher."""

    def __init__(self) -> None:
        self.said: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        self.heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.launcher = Launcher("the sandbox", self._output(), self.heard.put, self.end)

    def _output(self) -> Iterator[tuple[int, bytes]]:
        while (piece := self.said.get()) is not None:
            yield piece

    def say(self, text: bytes, stream: int = 1) -> None:
        self.said.put((stream, text))

    def end(self) -> None:
        self.said.put(None)

    def launch(self, *words: str) -> LaunchedProcess:
        return self.launcher.launch(words, "log", lambda: "its last words")


@pytest.fixture
def shell() -> Iterator[Shell]:
    made = Shell()
    yield made
    made.end()
    made.launcher.join()


def test_a_program_is_started_and_its_end_is_told(shell: Shell) -> None:
    process = shell.launch("/bin/qemu", "-name", "two words")
    assert shell.heard.get(timeout=60) == b"run 1 log /bin/qemu -name 'two words'\n"
    assert process.poll() is None
    shell.say(b"started 1 4")
    shell.say(b"7\nended 1 3\n")  # pieces end where they will
    assert process.wait(Deadline.after(60)) == 3
    assert process.poll() == 3


def test_no_argument_ends_a_line(shell: Shell) -> None:
    shell.launch("printf", "one\ntwo", "it's")
    line = shell.heard.get(timeout=60)
    assert line.count(b"\n") == 1
    assert line == b"run 1 log printf 'one'\"$NL\"'two' 'it'\"'\"'s'\n"


def test_what_is_not_over_in_time_is_named(shell: Shell) -> None:
    process = shell.launch("/bin/qemu")
    with pytest.raises(DeadlineExceeded, match="not in time: the end of /bin/qemu") as caught:
        process.wait(Deadline.after(0.01))
    assert caught.value.tail == "its last words"


def test_it_is_killed_by_its_number_in_there(shell: Shell) -> None:
    process = shell.launch("/bin/qemu")
    assert shell.heard.get(timeout=60).startswith(b"run 1 ")
    shell.say(b"started 1 47\n")
    killer = threading.Thread(target=process.kill)
    killer.start()
    assert shell.heard.get(timeout=60) == b"kill -9 -47 47 2>/dev/null\n"
    shell.say(b"ended 1 137\n")
    killer.join(60)
    assert process.poll() == 128 + signal.SIGKILL
    process.kill()
    assert shell.heard.empty(), "nothing is said of one that has ended"


def test_a_sandbox_that_ends_takes_all_with_it_and_says_why(shell: Shell) -> None:
    process = shell.launch("/bin/qemu")
    shell.say(b"bwrap: no space left\n", stream=2)
    shell.end()
    with pytest.raises(SandboxLost, match="the sandbox has ended: bwrap: no space left"):
        process.wait(Deadline.after(60))
    shell.launcher.join()
    assert shell.launcher.gone
    with pytest.raises(SandboxLost):
        shell.launch("/bin/qemu")


def test_a_sandbox_that_is_ended_for_what_was_written_is_the_cell_s(shell: Shell) -> None:
    process = shell.launch("/bin/qemu")
    shell.launcher.end("more than 1 GiB was written")
    with pytest.raises(CellError, match="more than 1 GiB was written"):
        process.wait(Deadline.after(60))


@pytest.mark.parametrize("line", [b"ended\n", b"ended one 3\n", b"ended 1 x\n", b"\n"])
def test_a_shell_that_talks_otherwise_is_lost(shell: Shell, line: bytes) -> None:
    process = shell.launch("/bin/qemu")
    shell.say(line)
    with pytest.raises(SandboxLost, match="the launcher said"):
        process.wait(Deadline.after(60))


def test_what_was_not_asked_for_is_not_heard(shell: Shell) -> None:
    process = shell.launch("/bin/qemu")
    shell.say(b"ended 7 1\nended 1 0\n")
    assert process.wait(Deadline.after(60)) == 0


@pytest.mark.parametrize(("left", "clean"), [(1, True), (2, False)])
def test_a_clean_sandbox_has_the_shell_alone(shell: Shell, left: int, clean: bool) -> None:
    process = shell.launch("/bin/qemu")
    shell.say(b"clean 0 %d\n" % left)
    assert shell.launcher.clean() is clean
    assert process.wait(Deadline.after(60)) == 128 + signal.SIGKILL


def test_which_processes_are_a_program_s_needs_its_namespace(shell: Shell) -> None:
    process = shell.launch("/bin/qemu")
    assert process.includes(os.getpid(), Deadline.after(0.01)) is None, "nothing is told"
    shell.say(b"started 1 %d\n" % os.getpid())
    assert process.includes(os.getpid(), Deadline.after(60)) is None, "the same pid is in each"
    shell.say(b"namespace 0 7\nended 1 0\n")
    assert process.wait(Deadline.after(60)) == 0
    assert process.includes(os.getpid(), Deadline.after(60)) is False, "of this host"


def test_what_yields_is_nice_to_other_sessions() -> None:
    assert "autogroup" not in " ".join(argv("/busybox"))
    words = argv("/busybox", "ulimit -v 1\n", yields=True)
    assert words[:3] == ["/busybox", "sh", "-c"]
    assert words[3].startswith("ulimit -v 1\nFIRST=")
    assert "echo 10" in words[3]
