"""The one event loop: how a script asks it something."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import DeadlineExceeded
from bootmatrix.machines.qemu import reactor


async def answer(value: object) -> object:
    await asyncio.sleep(0)
    return value


def test_it_gives_what_the_work_returns() -> None:
    assert reactor.call(answer(7), Deadline.after(60), "an answer") == 7


def test_it_raises_what_the_work_raises_a_time_out_of_its_own_too() -> None:
    async def fails(error: Exception) -> None:
        raise error

    for error in (KeyError("planted"), TimeoutError("the work's own")):
        with pytest.raises(type(error), match=str(error.args[0])):
            reactor.call(fails(error), Deadline.after(60), "a failure")


def test_what_is_not_done_in_time_is_named_and_cancelled() -> None:
    cancelled = threading.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="not in time: Godot"):
        reactor.call(waits(), Deadline.after(0.01), "Godot")
    assert time.monotonic() - begun < 10
    assert cancelled.wait(20)


def test_what_was_cancelled_and_then_fails_is_nobody_s_concern() -> None:
    """As a black box does whose QEMU goes away while it is cut short."""
    complaints: list[dict[str, object]] = []
    loop, ended = reactor.loop(), threading.Event()
    loop.call_soon_threadsafe(loop.set_exception_handler, lambda _, what: complaints.append(what))

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
            raise ConnectionError("gone meanwhile")

    try:
        with pytest.raises(DeadlineExceeded):
            reactor.call(waits(), Deadline.after(0.01), "Godot")
        assert ended.wait(20)
        reactor.call(answer(0), Deadline.after(60), "all that was left")
        gc.collect()
        reactor.call(answer(0), Deadline.after(60), "a complaint")
        assert complaints == []
    finally:
        loop.call_soon_threadsafe(loop.set_exception_handler, reactor.complain)


def test_all_work_is_done_in_one_thread_whoever_asks() -> None:
    async def thread() -> int:
        return threading.get_ident()

    found: set[int] = set()
    asking = [
        threading.Thread(
            target=lambda: found.add(reactor.call(thread(), Deadline.after(60), "a thread"))
        )
        for _ in range(4)
    ]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert len(found) == 1
    assert found != {threading.get_ident()}
    assert reactor.loop() is reactor.loop()


def test_what_nobody_waits_for_is_no_complaint_and_all_else_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = reactor.loop()

    async def forgotten() -> None:
        loop.create_future().set_exception(EOFError())
        gathered = asyncio.gather(fails(), fails())
        while not gathered.done():
            await asyncio.sleep(0)
        del gathered
        gc.collect()
        loop.call_exception_handler({"message": "a callback of ours broke"})

    async def fails() -> None:
        raise EOFError

    with caplog.at_level(logging.ERROR, "asyncio"):
        reactor.call(forgotten(), Deadline.after(60), "it")
    assert [record.getMessage() for record in caplog.records] == ["a callback of ours broke"]
