"""A cluster of this machine alone, to try one: a scheduler and workers that end with this process.

Each holds the end of a pipe whose other end only this process has: the kernel tells them when it
is gone, even by SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bootmatrix.cluster import quiet
from bootmatrix.cluster.address import Address
from bootmatrix.errors import HarnessError
from bootmatrix.machines.bench.seat import CHIP_SECONDS

WORKER = (sys.executable, "-m", "bootmatrix", "worker")
_SCHEDULER = (sys.executable, "-m", "bootmatrix.cluster.local")
_END_SECONDS = 10.0
ALLOWED_FAILURES = 2
"""dask's own bound: a task whose worker was lost is run again so often."""


class LocalCluster:
    """A scheduler and so many workers, each with ``slots`` cells side by side.

    The first has the boards of these environment files.
    """

    def __init__(
        self, workers: int, slots: int, engine: str | None, boards: Iterable[Path] = ()
    ) -> None:
        self._workers = workers
        self._slots = slots
        self._engine = engine
        self._boards = list(boards)
        self._processes: list[subprocess.Popen[bytes]] = []

    def open(self) -> Address:
        """Start them; the scheduler's address. Raises HarnessError."""
        scheduler = self._start(_SCHEDULER, subprocess.PIPE)
        assert scheduler.stdout is not None
        address = scheduler.stdout.readline().decode().strip()
        if not address:
            self.close()
            raise HarnessError("a scheduler cannot be started on this machine")
        for number in range(1, self._workers + 1):
            words = [*WORKER, address, "-n", str(self._slots), "--name", f"local-{number}",
                     "--with-stdin"]
            if self._engine:
                words += ["--engine", self._engine]
            if number == 1:
                words += [word for file in self._boards for word in ("--board", str(file))]
            self._start(words, subprocess.DEVNULL)
        return Address(address, self._workers)

    def _start(self, command: Sequence[str], stdout: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout,
                                   start_new_session=True)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End them: the workers first."""
        processes, self._processes = self._processes[::-1], []
        for process in processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        for process in processes:
            try:
                process.wait(CHIP_SECONDS if self._boards else _END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _schedule(host: str, port: int) -> None:
    from distributed import Scheduler

    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, over.set)
    loop.add_reader(0, over.set)  # nothing is ever written there: it is its end
    scheduler: Any = Scheduler(host=host, port=port, dashboard_address=f"{host}:0",
                               allowed_failures=ALLOWED_FAILURES)
    async with scheduler:
        sys.stdout.write(f"{scheduler.address}\n")
        sys.stdout.flush()
        await over.wait()


def main(port: int = 0) -> None:
    """Be the scheduler, until nobody holds the other end of the standard input."""
    quiet.settle()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_schedule("127.0.0.1", port))


if __name__ == "__main__":
    main()
