"""A machine's part in a cluster: what a run asks of it, by dask, and the process that serves.

The functions here are all that a run calls on a worker. What they take and give is data.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import bootmatrix
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.cell import AXES
from bootmatrix.cluster import quiet
from bootmatrix.cluster.address import Address, trouble
from bootmatrix.cluster.model import PROTOCOL, WorkerFacts
from bootmatrix.cluster.slots import WorkerMachine
from bootmatrix.engines import ENGINES
from bootmatrix.engines.confinement import kvm_complaint
from bootmatrix.errors import EngineError, HarnessError, UserError
from bootmatrix.model import BoardSource
from bootmatrix.run.workers import MEMINFO, available_mib

if TYPE_CHECKING:
    from distributed.security import Security

CONNECT_SECONDS = 10.0
BATCH_SECONDS = 0.5
"""After so long it begins no other of the cells that came together."""
_AGAIN_SECONDS = 1.0
_NONE: Mapping[str, BoardSource] = MappingProxyType({})
_serving: list[WorkerMachine] = []
Said = tuple[bytes, bytes, bytes]
"""What comes of a cell: the answer, its record, and its files."""


def topic(run: str) -> str:
    """Where workers say that they have begun a run's cell."""
    return f"bootmatrix-{run}"


def _machine() -> WorkerMachine:
    if not _serving:
        raise HarnessError("this is no worker of bootmatrix's")
    return _serving[0]


# ---- what a run calls ------------------------------------------------------------------------
# Those that take their time are coroutines: meanwhile the worker has to say that it lives.


def run_cells(tasks: list[bytes], run: str) -> tuple[float | None, list[Said]]:
    """Run cells, one after the other: the seconds of them all, and what came of each.

    Those of which nothing is said were not begun: the others have taken their time, the machine
    is at fault, or one waits for its guest. There are no seconds then, as they tell nothing.
    """
    import distributed

    worker: Any = distributed.get_worker()
    key = worker.get_current_task()
    leave_pool: Any = distributed.worker.secede
    begun, said, waited = time.monotonic(), list[Said](), False
    worker.log_event(topic(run), {"began": key, "worker": worker.address})

    def wanted() -> bool:
        return _wanted(worker, key)

    def waits() -> None:
        nonlocal waited
        waited = True
        worker.log_event(topic(run), {"waits": key, "said": list(said)})
        leave_pool()

    for task in tasks:
        answer, record, packed = _machine().run(run, task, wanted, waits)
        said.append((answer.model_dump_json().encode(), record, packed))
        if waited or answer.state != "done":
            return None, said
        if time.monotonic() - begun > BATCH_SECONDS:
            break
    return time.monotonic() - begun, said


def _wanted(worker: Any, key: Any) -> bool:
    """Whether somebody still waits for a task."""
    state = worker.state.tasks.get(key)
    return state is not None and state.state in ("executing", "long-running")


async def facts() -> bytes:
    """What this machine has."""
    facts = _machine().facts
    rows = await asyncio.to_thread(lambda: ImageStore().listing())
    roots = {row.name: row.digest for row in rows if row.built}
    return facts.model_copy(update={"roots": roots}).model_dump_json().encode()


async def prepare(run: str, table: bytes) -> list[str]:
    """Take a run's builds; the digests of those that this machine lacks."""
    return await asyncio.to_thread(_machine().prepare, run, table)


async def build(run: str, digest: str, name: str) -> bool:
    """Build a build of the catalogue; whether it has this digest."""
    return await asyncio.to_thread(_machine().build, run, digest, name)


async def receive(
    run: str, digest: str, is_tree: bool, offset: int, piece: bytes, last: bool
) -> None:
    """Take a piece of a build."""
    await asyncio.to_thread(_machine().receive, run, digest, is_tree, offset, piece, last)


async def ask(run: str) -> bool:
    """Say that a run is still wanted; whether it is known."""
    return _machine().ask(run)


async def forget(run: str) -> None:
    """Forget a run."""
    await asyncio.to_thread(_machine().forget, run)


# ---- the process that serves ------------------------------------------------------------------


def facts_of(
    name: str, slots: int, engine: str | None, boards: Mapping[str, BoardSource] = _NONE
) -> WorkerFacts:
    """What this machine has. Raises UserError for an engine that does not work here."""
    from bootmatrix.engines import choose

    engines = []
    for one in ENGINES if engine is None else [engine]:
        try:
            choose(one).close()
        except EngineError as error:
            if engine is not None:
                raise UserError(f"{engine} does not work here: {error.message}") from None
            continue
        engines.append(one)
    return WorkerFacts(
        protocol=PROTOCOL, axes=list(AXES), version=bootmatrix.__version__, name=name,
        machine=platform.machine(),
        slots=slots, kvm=kvm_complaint() or "", memory=_memory(), engines=engines, roots={},
        boards={digest: str(source) for digest, source in boards.items()})


def _memory(meminfo: Path = MEMINFO) -> int:
    found = re.search(r"^MemTotal: +(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    return int(found[1]) >> 10 if found else available_mib(meminfo)


def serve(
    address: Address, security: Security | None, machine: WorkerMachine,
    progress: Callable[[str], None],
) -> None:
    """Serve a scheduler until this process is asked to end.

    Where the scheduler goes, or cannot be reached, what runs ends, and it is tried again.
    """
    quiet.settle()
    _serving[:] = [machine]
    try:
        asyncio.run(_serve(address, security, machine, progress))
    finally:
        _serving.clear()


async def _serve(
    address: Address, security: Security | None, machine: WorkerMachine,
    progress: Callable[[str], None],
) -> None:
    from distributed import Worker

    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked.set)
    last = ""
    facts = machine.facts
    while not asked.is_set():
        worker = Worker(
            address.text, nthreads=facts.slots, name=f"{facts.name}-{os.urandom(4).hex()}",
            resources=facts.resources, memory_limit=0, security=security, dashboard=False,
            local_directory=str(machine.home), death_timeout=CONNECT_SECONDS, silence_logs=False)
        begun = asyncio.ensure_future(_until_end(worker, lambda: progress(
            f"{facts.name}: serves {address.text}, {facts.slots} cells side by side")))
        over = asyncio.ensure_future(asked.wait())
        await asyncio.wait({begun, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        served = False
        if begun.done():
            served = begun.exception() is None
        with contextlib.suppress(Exception):
            await asyncio.wait_for(worker.close(nanny=False), 5)
        begun.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await begun
        await asyncio.to_thread(machine.end_all)
        if asked.is_set():
            break
        if served:
            progress(f"{facts.name}: {address.text} has gone; it is tried again")
            last = ""
        else:
            wrong = await asyncio.to_thread(trouble, address, security)
            line = (f"{facts.name}: no scheduler answers at {address.text}"
                    f"{wrong and f': {wrong}'}; it is tried again")
            if line != last:
                progress(line)
            last = line
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asked.wait(), _AGAIN_SECONDS)


async def _until_end(worker: Any, connected: Callable[[], None]) -> None:
    await worker
    connected()
    await worker.finished()


def end_with(file: int) -> None:
    """Ask this process to end when nobody holds the other end of a pipe any more."""
    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(file, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()

