"""A QEMU that has a part of a processor only, whatever else its machine does.

How much of a processor a QEMU has can be made less on any machine, by anybody who may signal it;
to make it more is the scheduler's business.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from typing import Self

from bootmatrix.machines.qemu.able_clock import AbleClock

# It is let run until it has had so much, and looked at so often meanwhile. A scheduler lets a
# process run at once that did not for a while: a fixed part of the time would be no small share.
_SLICE_SECONDS = 0.01
_LOOK_SECONDS = 0.004


class Slowed:
    """Stops and continues a process until this is closed; its clock stands still meanwhile.

    ``share`` is for which part of the time it is able to run, at most, above 0 and below 1. What
    it waits for by the wall clock takes as long as ever, what it works longer. ``process`` is a
    pidfd (pidfd_open(2)), which its owner closes after this. A process that has ended, or that this
    user may not signal, is let alone.
    """

    def __init__(self, process: int, clock: AbleClock, share: float) -> None:
        self._process = process
        self._share = share
        self._clock = clock
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slowed", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let it run."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with suppress(OSError):
            while not self._over.is_set():
                begun, able = time.monotonic(), self._clock.look()
                while (had := self._clock.look() - able) < _SLICE_SECONDS:
                    if self._over.wait(_LOOK_SECONDS):
                        return
                pause = had / self._share - (time.monotonic() - begun)
                try:
                    signal.pidfd_send_signal(self._process, signal.SIGSTOP)
                    self._clock.hold(True)
                    self._over.wait(max(0.0, pause))
                finally:
                    self._clock.hold(False)
                    signal.pidfd_send_signal(self._process, signal.SIGCONT)
