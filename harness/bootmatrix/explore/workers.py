"""Several processes that explore together: started, heard, and ended with whoever started them."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any, Self

from bootmatrix.ending import at_end_of_parent
from bootmatrix.errors import Status

_END_SECONDS = 30.0
_FINE = (Status.GREEN, Status.INTERRUPTED)


def ends_with_parent() -> None:
    """Have the kernel ask this process to end when its parent does, however that ends."""
    at_end_of_parent(signal.SIGTERM)
    if os.getppid() == 1:  # it has ended before
        os.kill(os.getpid(), signal.SIGTERM)


class Workers:
    """Processes by their command lines; what they say is a JSON object a line."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self._commands = commands
        self._processes: list[subprocess.Popen[bytes]] = []
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._ended = 0
        self._hear: Callable[[dict[str, Any]], None] = lambda said: None

    def __enter__(self) -> Self:
        for command in self._commands:
            # A group of its own: Ctrl-C is for the one that ends them all.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       start_new_session=True)
            self._processes.append(process)
            assert process.stdout is not None
            threading.Thread(target=self._listen, args=(process.stdout,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        """End them; what they say meanwhile is heard."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.terminate()
        with suppress(queue.Empty):
            while self._ended < len(self._processes):
                self._take(self._said.get(timeout=_END_SECONDS))
        for process in self._processes:
            if process.poll() is None and self._ended < len(self._processes):
                process.kill()
            process.wait()

    def _listen(self, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                with suppress(ValueError):
                    said = json.loads(line)
                    if isinstance(said, dict):
                        self._said.put(said)
        self._said.put(None)

    def hear(self, hear: Callable[[dict[str, Any]], None]) -> bool:
        """Hear them until all have ended; whether one has ended otherwise than it should."""
        self._hear = hear
        while self._ended < len(self._processes):
            self._take(self._said.get())
        return any(process.wait() not in _FINE for process in self._processes)

    def _take(self, said: dict[str, Any] | None) -> None:
        if said is None:
            self._ended += 1
        else:
            self._hear(said)
