"""A sandbox's launcher: the shell that starts the programs in it, and the connection to it.

The shell reads what to start from its standard input. The end of that input is the end of the
shell and so of the sandbox: when the owner dies, by whatever means, the kernel closes its
connection, and nothing is left.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.deadline import Deadline
from harness.engines.confinement import FILE_BYTES, tail
from harness.errors import DeadlineExceeded, EngineError

KILL_SECONDS = 10.0

# A line of input is a command of this shell: `run NUMBER LOG PROGRAM ARGUMENT...` or `kill ...`.
# Each line of output is `started NUMBER PID` or `ended NUMBER STATUS`. A program has a process
# group of its own, and its children end with it.
# No file grows beyond the limit, a QEMU's log least of all; it is not killed for it, but its
# write fails. busybox counts in blocks of 512 bytes.
SCRIPT = f"""
trap '' XFSZ
ulimit -f {FILE_BYTES >> 9}
""" + """
NL='
'
run() {
  number=$1 log=$2
  shift 2
  ( /bin/busybox setsid "$@" </dev/null >>"$log" 2>&1 &
    echo "started $number $!"
    wait $!
    status=$?
    kill -9 -$! 2>/dev/null
    echo "ended $number $status" ) &
}
while IFS= read -r line; do
  eval "$line"
done
"""


class LaunchedProcess:
    """A program that a launcher started (the Process of harness.engines)."""

    def __init__(self, launcher: Launcher, number: int, argv: tuple[str, ...], log: Path):
        self.argv = argv
        self.log = log
        self.number = number
        self._launcher = launcher
        self._started = threading.Event()
        self._ended = threading.Event()
        self._pid: int | None = None
        self._status: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._ended.is_set()

    def poll(self) -> int | None:
        """See Process."""
        return self._outcome() if self.ended else None

    def wait(self, deadline: Deadline) -> int:
        """See Process."""
        if not self._ended.wait(deadline.remaining):
            raise DeadlineExceeded(
                f"not in time: the end of {self.argv[0]}", argv=self.argv, tail=tail(self.log)
            )
        return self._outcome()

    def kill(self) -> None:
        """See Process."""
        deadline = Deadline.after(KILL_SECONDS)
        if self._started.wait(deadline.remaining) and not self._ended.is_set():
            with contextlib.suppress(EngineError):  # the sandbox has just ended: told below
                self._launcher.send(f"kill -9 {self._pid}")
        if not self._ended.wait(deadline.remaining):
            raise EngineError(
                f"{self.argv[0]} lives {KILL_SECONDS:.0f} s after SIGKILL", argv=self.argv
            )

    def tell_started(self, pid: int) -> None:
        """The launcher has started it."""
        self._pid = pid
        self._started.set()

    def tell_ended(self, status: int | None) -> None:
        """It has ended; with None, the whole sandbox did."""
        self._status = status
        self._ended.set()
        self._started.set()

    def _outcome(self) -> int:
        if self._status is None:
            raise EngineError(
                f"{self._launcher.name} of {self.argv[0]} has ended{self._launcher.complaint}",
                argv=self.argv, tail=tail(self.log),
            )
        return self._status


class Launcher:
    """The shell in one sandbox.

    ``name`` says whose it is, for messages. ``output`` gives the (stream, data) pieces that it
    writes, 1 for its standard output and 2 for its standard error, and ends when it does;
    ``give`` writes to its standard input, and ``hang_up`` ends that.
    """

    def __init__(
        self,
        name: str,
        output: Iterator[tuple[int, bytes]],
        give: Callable[[bytes], None],
        hang_up: Callable[[], None],
    ) -> None:
        self.name = name
        self._output = output
        self._give = give
        self._hang_up = hang_up
        self._lock = threading.Lock()
        self._processes: dict[int, LaunchedProcess] = {}
        self._count = 0
        self._gone = False
        self._errors = b""
        self._reader = threading.Thread(target=self._read, name="launcher", daemon=True)
        self._reader.start()

    @property
    def gone(self) -> bool:
        """Whether the connection to the shell has ended, and so the sandbox."""
        return self._gone

    @property
    def complaint(self) -> str:
        """What the launcher itself wrote on its standard error, as the end of a sentence."""
        text = self._errors.decode(errors="replace").strip()
        return f": {text}" if text else ""

    def launch(self, argv: tuple[str, ...], log: Path, log_inside: str) -> LaunchedProcess:
        """Have the launcher start a program."""
        with self._lock:
            self._count += 1
            process = LaunchedProcess(self, self._count, argv, log)
            self._processes[process.number] = process
            gone = self._gone
        if gone:
            raise EngineError(f"{self.name} has ended{self.complaint}", argv=argv)
        self.send(" ".join(["run", str(process.number), *map(_quote, (log_inside, *argv))]))
        return process

    def send(self, line: str) -> None:
        """Give the launcher a line. Raises EngineError if it does not take it."""
        with self._lock:
            try:
                self._give(os.fsencode(line) + b"\n")
            except OSError as error:
                raise EngineError(f"{self.name} takes no commands: {error}") from error

    def hang_up(self) -> None:
        """End the launcher's input, and so the sandbox."""
        with contextlib.suppress(OSError):
            self._hang_up()

    def join(self) -> None:
        """Wait until its output has ended, too."""
        self._reader.join(KILL_SECONDS)

    def _read(self) -> None:
        """The thread that hears the launcher, to the end of the connection."""
        lines = b""
        try:
            for stream, data in self._output:
                if stream != 1:
                    self._errors = (self._errors + data)[-2000:]
                    continue
                *whole, lines = (lines + data).split(b"\n")
                for line in whole:
                    self._hear(line.decode(errors="replace"))
        except (KeyError, ValueError):
            self._errors += f"the launcher said {lines or whole!r}".encode()
        finally:
            with self._lock:
                self._gone = True
                left = list(self._processes.values())
                self._processes.clear()
            for process in left:
                process.tell_ended(None)

    def _hear(self, line: str) -> None:
        word, number, value = line.split(" ")
        with self._lock:
            process = self._processes[int(number)]
            if word == "ended":
                del self._processes[int(number)]
        if word == "started":
            process.tell_started(int(value))
        else:
            process.tell_ended(int(value))


def _quote(argument: str) -> str:
    """An argument as a word on a launcher's line: without a newline of its own."""
    return shlex.quote(argument).replace("\n", "'\"$NL\"'")
