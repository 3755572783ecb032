"""One event loop in a thread of its own, for the connections that must be served at any moment.

The runner reads like a script: it blocks on the console until a guest says something. While it
does, monitor events arrive and a guest may reset itself and stop at the reset vector. The loop
here serves those; ``call`` is how the script asks it something.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from bootmatrix.deadline import Deadline
from bootmatrix.errors import DeadlineExceeded

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None


def thread() -> tuple[int, ...]:
    """The id that the kernel gives to the loop's thread, in a row of none before it runs."""
    return () if _thread is None or _thread.native_id is None else (_thread.native_id,)


def loop() -> asyncio.AbstractEventLoop:
    """The process's one background loop, started at first use."""
    global _loop, _thread
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            _loop.set_exception_handler(complain)
            # A daemon: it owns no resource that outlives its connections, and each of those
            # is closed by the context manager that opened it.
            _thread = threading.Thread(target=_loop.run_forever, name="reactor", daemon=True)
            _thread.start()
        return _loop


def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncio's complaints, but for that of a failure that nobody waited for.

    A connection that ends while it is being closed, as by Ctrl-C, has such ones within qemu.qmp:
    who has to know of its end is told by what it asks for.
    """
    if not (isinstance(context.get("future"), asyncio.Future)
            and str(context.get("message", "")).endswith("exception was never retrieved")):
        loop.default_exception_handler(context)


def call(work: Coroutine[Any, Any, T], deadline: Deadline, what: str) -> T:
    """Run ``work`` in the loop and return its result.

    Raises DeadlineExceeded, naming ``what`` was waited for; the work is then cancelled.
    """
    future = asyncio.run_coroutine_threadsafe(_watched(work), loop())
    while True:
        try:
            return future.result(deadline.remaining)
        except concurrent.futures.TimeoutError:
            if future.done():  # just now, or this is its own TimeoutError
                return future.result()
            if deadline.expired:
                future.cancel()
                raise DeadlineExceeded(f"not in time: {what}") from None


def heard(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """The task, of whose failure asyncio is not to complain if nobody waits for it any more."""
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    return task


async def _watched(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    heard(task)  # one that is cancelled can end by another error, which goes to nobody
    return await work
