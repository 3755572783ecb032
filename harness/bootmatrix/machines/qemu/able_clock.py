"""The time in which a QEMU was able to run: what its machine let it wait for does not count.

Linux tells of each thread how long it was ready to run and did not get a processor
(Documentation/scheduler/sched-stats.rst, "/proc/<pid>/schedstat"). A guest that is not up after
five seconds of the wall clock may have had half a second.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.deadline import Clock, Deadline, awake

PROC = Path("/proc")
UNSEEN = 4.0
"""So many times as long is waited for a QEMU of which nobody sees whether it could run."""

LONGEST_LOST = 900.0
"""So many seconds are made good to one QEMU. With processes beside it, one could wait for ever."""

# What was looked at is taken for true so long: to look takes a tenth of a millisecond.
_FRESH_SECONDS = 0.05
# A wait that was told late, after the time that it fell into, is made good; no more than so much.
_OWED_SECONDS = 1.0


@dataclass
class _Thread:
    """What was seen of a thread: seconds that it ran and that it waited, and how often it ran."""

    ran: float = 0.0
    waited: float = 0.0
    turns: int = 0


class _Threads:
    """The threads of a process, in its ``task`` directory.

    That is held open: what comes to have the same pid afterwards is another process. Of a process
    that is ``old`` what its threads did before they were first seen does not count.
    Raises OSError where they cannot be seen.
    """

    def __init__(self, pid: int, proc: Path, *, old: bool = False) -> None:
        self._old = old
        self._tasks = os.open(proc / str(pid) / "task", os.O_RDONLY | os.O_DIRECTORY)
        self._seen: dict[str, _Thread] = {}
        try:
            self._read(f"{pid}/schedstat")
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Look no more."""
        os.close(self._tasks)

    def all(self) -> Iterable[str]:
        """Their ids; none if the process has ended."""
        try:
            return os.listdir(self._tasks)  # noqa: PTH208  # Path takes no descriptor
        except OSError:
            return ()

    def look(self, ids: Iterable[str], seconds: float) -> list[tuple[float, float]]:
        """Seconds that each ran and waited since all were last looked at, ``seconds`` ago."""
        return [seen for thread in ids if (seen := self._look(thread, seconds)) is not None]

    def _look(self, thread: str, seconds: float) -> tuple[float, float] | None:
        try:
            ran, waited, turns = map(int, self._read(f"{thread}/schedstat").split())
            first = _Thread(ran / 1e9, waited / 1e9, turns) if self._old else _Thread()
            last = self._seen.get(thread, first)
            now = _Thread(ran / 1e9, max(last.waited, waited / 1e9), turns)
            # A wait is told once it is over: one that has taken all the time is still none.
            if turns and turns == last.turns and now.ran == last.ran and self._ready(thread):
                now.waited = last.waited + seconds
        except (OSError, ValueError):  # it has ended meanwhile
            return None
        self._seen[thread] = now
        return now.ran - last.ran, now.waited - last.waited

    def _ready(self, thread: str) -> bool:
        """Whether it would run if it were let."""
        return self._read(f"{thread}/stat").rpartition(b") ")[2].startswith(b"R")

    def _read(self, name: str) -> bytes:
        file = os.open(name, os.O_RDONLY, dir_fd=self._tasks)
        try:
            return os.read(file, 512)
        finally:
            os.close(file)


class AbleClock:
    """A clock that stands still while the machine keeps a QEMU waiting.

    Of the time between two looks is left out what the thread of QEMU waited that waited most, and
    what the threads here waited that the guest may stand still for: the one that asks, and those
    in ``helpers``. They wait in turn with QEMU, or at the same time: the sum is too much where
    they do so at the same time, so it never takes away what a thread of QEMU has run. And
    it never takes more than has passed, nor more than LONGEST_LOST in all.

    It was ``now`` at ``launched``, and falls behind it. ``seen`` is False where QEMU's threads
    cannot be: it then is ``now``, and more time is given (``limit``).
    """

    def __init__(
        self, pid: int, launched: float, helpers: Callable[[], Iterable[int]] = tuple,
        *, proc: Path = PROC, now: Clock = awake,
    ) -> None:
        self._now = now
        self._helpers = helpers
        self._lock = threading.Lock()
        self._at = self._able = launched
        self._owed = self._lost = 0.0
        self._held = False
        self._qemu: _Threads | None = None
        self._ours: _Threads | None = None
        self.seen = True
        try:
            self._qemu = _Threads(pid, proc)
            self._ours = _Threads(os.getpid(), proc, old=True)
        except OSError:
            self.close()
            self.seen = pid != 0 and not (proc / str(pid)).exists() and not _lives(pid)
            return
        self._look()
        self._owed = 0.0

    def hold(self, held: bool) -> None:
        """The QEMU is stopped from here, or runs again: that is no time of its own either."""
        with self._lock:
            self._look()
            self._held = held

    def close(self) -> None:
        """Look no more: from now on it goes on with all clocks."""
        with self._lock:
            for threads in (self._qemu, self._ours):
                if threads is not None:
                    threads.close()
            self._qemu = self._ours = None

    def __call__(self) -> float:
        """The time, or a little less."""
        with self._lock:
            if self._now() - self._at >= _FRESH_SECONDS:
                self._look()
            return self._able

    def look(self) -> float:
        """The time, exactly."""
        with self._lock:
            self._look()
            return self._able

    def limit(self, seconds: float) -> float:
        """How long is waited at most for what must be done in so many seconds."""
        return seconds if self.seen else seconds * UNSEEN

    def deadline(self, seconds: float) -> Deadline:
        """The deadline for what must be done in so many seconds."""
        with self._lock:
            # Who has not looked since takes that time for good: it is never too early.
            now = self._able + self._now() - self._at
        return Deadline(now + self.limit(seconds), self)

    def _look(self) -> None:
        now = self._now()
        passed, self._at = now - self._at, now
        ran = waited = 0.0
        if self._qemu is not None:
            threads = self._qemu.look(self._qemu.all(), passed)
            ran = min(passed, max((ran for ran, _ in threads), default=0.0))
            waited = max((waited for _, waited in threads), default=0.0)
            waited += self._look_at_ours(passed)
        if self._held:
            ran, waited = 0.0, passed
        self._owed += waited
        lost = min(self._owed, passed - ran, LONGEST_LOST - self._lost)
        self._owed = min(self._owed - lost, _OWED_SECONDS)
        self._lost += lost
        self._able += passed - lost

    def _look_at_ours(self, passed: float) -> float:
        assert self._ours is not None
        ids = {threading.get_native_id(), *self._helpers()}
        return sum(waited for _, waited in self._ours.look(map(str, ids), passed))


def _lives(pid: int) -> bool:
    """Whether there is such a process, even if nothing of it can be seen."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
