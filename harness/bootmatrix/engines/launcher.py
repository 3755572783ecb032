"""A sandbox's launcher: the shell that starts the programs in it, and the connection to it.

The shell reads what to start from its standard input. The end of that input is the end of the
shell and so of the sandbox: when the owner dies, by whatever means, the kernel closes its
connection, and nothing is left.

It is process 1 of the sandbox's own process namespace, so no signal from inside reaches it, and
its program can be executed but not read, so nobody inside can trace it or open what it holds
(ptrace(2), "Ptrace access mode checking"). What it says can be believed, therefore, whatever ran
there.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator

from bootmatrix.deadline import Deadline
from bootmatrix.engines.confinement import FILE_BYTES, OPEN_FILES
from bootmatrix.engines.peers import descends
from bootmatrix.errors import (
    CellError,
    DeadlineExceeded,
    EngineError,
    HarnessError,
    SandboxLost,
)

KILL_SECONDS = 10.0
_LOOK_SECONDS = 1.0
_BROKEN = "was broken by what ran in it: it has killed what watched over it"


# A line of input is a command of this shell: `run NUMBER LOG PROGRAM ARGUMENT...`, `kill ...`,
# `look NUMBER` or `clean`. A line of output is `namespace 0 INODE` (of pids, at its begin),
# `started NUMBER PID`, `ended NUMBER STATUS`, `lost NUMBER 0` or `clean 0 LEFT`. A program has a
# process group of its own, and its children end with it.
#
# Beside each program waits a watcher, which a program can stop or kill: `look` lets it go on, or
# says that nobody knows the status any more. `clean` kills all but itself, at once (kill(2): a fork
# is either seen or fails), and LEFT is how many processes there are then (1: it alone). `jobs`
# buries who has died.
#
# No file grows beyond the limit, a QEMU's log least of all; it is not killed for it, but its
# write fails. busybox counts in blocks of 512 bytes. The kernel counts the descriptors that are on
# their way through sockets for each user, and compares them with the sender's limit on open files:
# below ours, a program in a sandbox cannot use up what a harness that is not root needs of them.
_SCRIPT = f"""
LAUNCHER=$0
trap '' XFSZ
ulimit -c 0
ulimit -n {OPEN_FILES}
""" + """
NL='
'
namespace=$($LAUNCHER readlink /proc/self/ns/pid)
namespace=${namespace#pid:[}
echo "namespace 0 ${namespace%]}"
run() {
  number=$1 log=$2
  shift 2
  [ "$FIRST" ] && set -- /bin/busybox sh -c "$FIRST"'exec "$@"' sh "$@"
  ( $LAUNCHER setsid "$@" </dev/null >>"$log" 2>&1 &
    echo "started $number $!"
    wait $!
    status=$?
    kill -9 -$! 2>/dev/null
    echo "ended $number $status" ) &
  eval "watcher_$number=$!"
}
look() {
  jobs >/dev/null
  eval "kill -CONT \\$watcher_$1" 2>/dev/null || echo "lost $1 0"
}
clean() {
  kill -9 -1 2>/dev/null
  tries=0
  while [ $tries -lt 400 ]; do
    tries=$((tries + 1))
    jobs >/dev/null
    set -- /proc/[0-9]*
    [ $# = 1 ] && break
    $LAUNCHER usleep 5000
  done
  echo "clean 0 $#"
}
while IFS= read -r line; do
  eval "$line"
done
"""


# Between sessions nice does nothing where the scheduler makes a group of each (sched(7), "The
# autogroup feature"): it is the group that has to be nice, and one of all is told so at a time.
_NICE_SESSION = """
for try in 1 2 3 4 5; do
  [ ! -w /proc/self/autogroup ] || echo 10 2>/dev/null >/proc/self/autogroup && break
  usleep 110000
done
"""


def argv(
    busybox: str, before: str = "", *, yields: bool = False, file_bytes: int = FILE_BYTES
) -> list[str]:
    """The launcher's command line. ``busybox`` is where that lies inside, not to be read.

    ``file_bytes`` is the size of the largest file that its programs can write.

    With ``yields`` the sessions of its programs leave the processor to others, as far as the
    scheduler shares it among sessions.
    """
    if yields:
        before += f"FIRST={shlex.quote(_NICE_SESSION)}\n"
    limit = f"ulimit -f {file_bytes >> 9}\n"
    return [busybox, "sh", "-c", before + limit + _SCRIPT, busybox]


class LaunchedProcess:
    """A program that a launcher started (the Process of bootmatrix.engines)."""

    def __init__(
        self, launcher: Launcher, number: int, argv: tuple[str, ...], last_words: Callable[[], str]
    ) -> None:
        self.argv = argv
        self.number = number
        self._last_words = last_words
        self._launcher = launcher
        self._started = threading.Event()
        self._ended = threading.Event()
        self._looked = time.monotonic()
        self._pid: int | None = None
        self._status: int | None = None
        self._fate = ""

    @property
    def ended(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._ended.is_set()

    def poll(self) -> int | None:
        """See Process."""
        if self.ended:
            return self._outcome()
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._look()
        return None

    def wait(self, deadline: Deadline) -> int:
        """See Process."""
        while not self._ended.wait(min(_LOOK_SECONDS, deadline.remaining)):
            if not deadline.expired:
                self._look()
                continue
            raise DeadlineExceeded(
                f"not in time: the end of {self.argv[0]}", argv=self.argv,
                tail=self._last_words(),
            )
        return self._outcome()

    def kill(self) -> None:
        """See Process."""
        deadline = Deadline.after(KILL_SECONDS)
        if self._started.wait(deadline.remaining) and not self._ended.is_set():
            # Its group at once: children that never rest would keep from it the processor that it
            # needs to end. It alone, too, where it has not yet come to have a group.
            with contextlib.suppress(EngineError):  # the sandbox has just ended: told below
                self._launcher.send(f"kill -9 -{self._pid} {self._pid} 2>/dev/null")
        while not self._ended.wait(min(_LOOK_SECONDS, deadline.remaining)):
            if deadline.expired:
                # Its watcher is stopped again and again, or the engine is broken.
                raise SandboxLost(
                    f"{self._launcher.name} was broken by what ran in it, or by its engine: "
                    f"{KILL_SECONDS:.0f} s after SIGKILL {self.argv[0]} has not ended",
                    argv=self.argv,
                )
            self._look()

    def _look(self) -> None:
        """Ask whether its end will be told; the answer comes as an end, if it will not."""
        self._looked = time.monotonic()
        with contextlib.suppress(EngineError):
            self._launcher.send(f"look {self.number}")

    def includes(self, pid: int, deadline: Deadline) -> bool | None:
        """See Process."""
        self._started.wait(deadline.remaining)
        namespace = self._launcher.namespace
        if self._pid is None or namespace is None:
            return None
        return descends(pid, self._pid, namespace)

    def tell_started(self, pid: int) -> None:
        """The launcher has started it."""
        self._pid = pid
        self._started.set()

    def tell_ended(self, status: int | None, fate: str = "") -> None:
        """It has ended; with None, nobody knows how, and ``fate`` is what became of its sandbox."""
        self._status = status
        self._fate = fate
        self._ended.set()
        self._started.set()

    def _outcome(self) -> int:
        if self._status is None:
            raise self._launcher.loss(self._fate, self.argv, self._last_words())
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
        self._excess: str | None = None
        self._left: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.namespace: int | None = None  # the inode of the sandbox's pid namespace, once told
        self._errors = b""
        self._reader = threading.Thread(target=self._read, name="launcher", daemon=True)
        self._reader.start()

    @property
    def gone(self) -> bool:
        """Whether the connection to the shell has ended, and so the sandbox."""
        return self._gone

    @property
    def fate(self) -> str:
        """How the sandbox has ended."""
        text = self._errors.decode(errors="replace").strip()
        return "has ended" + (f": {text}" if text else "")

    def loss(self, fate: str, argv: tuple[str, ...], last_words: str = "") -> HarnessError:
        """The error for a program whose end nobody has seen, in a sandbox of this fate."""
        if self._excess is not None:
            return CellError(self._excess, argv=argv, tail=last_words)
        return SandboxLost(f"{self.name} {fate}", argv=argv, tail=last_words)

    def launch(
        self, argv: tuple[str, ...], log: str, last_words: Callable[[], str]
    ) -> LaunchedProcess:
        """Have the launcher start a program; ``last_words`` reads what it wrote to ``log``."""
        with self._lock:
            self._count += 1
            process = LaunchedProcess(self, self._count, argv, last_words)
            self._processes[process.number] = process
            gone = self._gone
        if gone:
            raise self.loss(self.fate, argv)
        self.send(" ".join(["run", str(process.number), *map(_quote, (log, *argv))]))
        return process

    def send(self, line: str) -> None:
        """Give the launcher a line. Raises SandboxLost if it does not take it."""
        with self._lock:
            try:
                self._give(os.fsencode(line) + b"\n")
            except OSError as error:
                raise SandboxLost(f"{self.name} takes no commands: {error}") from error

    def clean(self) -> bool:
        """Kill all that runs in the sandbox; whether it is then as it was in the beginning."""
        try:
            self.send("clean")
            return self._left.get(timeout=KILL_SECONDS) == 1
        except (EngineError, queue.Empty):
            return False

    def hang_up(self) -> None:
        """End the launcher's input, and so the sandbox."""
        with contextlib.suppress(OSError):
            self._hang_up()

    def end(self, excess: str) -> None:
        """End the sandbox for what was written in it."""
        self._excess = excess
        self.hang_up()

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
                process.tell_ended(None, self.fate)
            self._left.put(0)

    def _hear(self, line: str) -> None:
        word, *rest = line.split(" ")
        number, value = map(int, rest)  # before a process is let go of, which would never end
        if word == "namespace":
            self.namespace = value
            return
        if word == "clean":
            self._hear_clean(value)
            return
        with self._lock:
            process = self._processes.get(number)
            if word != "started":
                self._processes.pop(number, None)
        if process is None:  # it was lost already, or ended before it was looked for
            return
        if word == "started":
            process.tell_started(value)
        else:
            process.tell_ended(value if word == "ended" else None, _BROKEN)

    def _hear_clean(self, left: int) -> None:
        with self._lock:
            killed = list(self._processes.values())
            self._processes.clear()
        for process in killed:
            process.tell_ended(128 + signal.SIGKILL)
        self._left.put(left)


def _quote(argument: str) -> str:
    """An argument as a word on a launcher's line: without a newline of its own."""
    return shlex.quote(argument).replace("\n", "'\"$NL\"'")
