"""The gdb stub's client, against a stub that is none of QEMU's."""

from __future__ import annotations

import socket
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import GdbError
from bootmatrix.machines.qemu import reactor
from bootmatrix.machines.qemu.gdb import Gdb
from helpers.gdb_stub import GdbStub

T = TypeVar("T")


def done(work: Coroutine[Any, Any, T]) -> T:
    return reactor.call(work, Deadline.after(60), "the stub")


@pytest.fixture
def session() -> Iterator[tuple[GdbStub, Gdb]]:
    ours, theirs = socket.socketpair()
    stub = GdbStub(theirs)
    gdb = done(Gdb.attach(ours))
    yield stub, gdb
    done(gdb.close())
    stub.join()


def test_a_breakpoint_is_set_and_taken_away(session: tuple[GdbStub, Gdb]) -> None:
    stub, gdb = session
    done(gdb.set_breakpoint(0xFFFFFFF0))
    assert stub.breakpoints == {0xFFFFFFF0}
    done(gdb.clear_breakpoint(0xFFFFFFF0))
    assert stub.breakpoints == set()
    assert stub.asked == [b"Z1,fffffff0,1", b"z1,fffffff0,1"]  # hardware: a ROM cannot hold others


@pytest.mark.parametrize("size", [0, 1, 2000, 2001, 256 << 10])
def test_memory_is_written_whole_in_packets_that_the_stub_takes(
    session: tuple[GdbStub, Gdb], size: int
) -> None:
    stub, gdb = session
    image = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    done(gdb.write((1 << 32) - size, image))
    assert stub.written((1 << 32) - size, size) == image
    assert all(len(packet) + 4 <= 4096 for packet in stub.asked)  # QEMU's MAX_PACKET_LENGTH


def test_a_stop_that_nobody_asked_for_is_no_answer(session: tuple[GdbStub, Gdb]) -> None:
    stub, gdb = session
    stub.say(b"T05thread:01;")
    stub.say(b"S05")
    done(gdb.set_breakpoint(0))
    assert stub.breakpoints == {0}


def test_it_steps_runs_and_is_told_of_the_stop(session: tuple[GdbStub, Gdb]) -> None:
    stub, gdb = session
    done(gdb.step())
    stub.resumed = lambda: stub.say(b"T05thread:01;")

    async def run() -> None:
        gdb.resume()
        await gdb.stopped()

    done(run())
    assert stub.asked == [b"s", b"c"]


def test_a_refusal_says_what_was_refused(session: tuple[GdbStub, Gdb]) -> None:
    stub, gdb = session
    stub.refuses = (b"Z1",)
    with pytest.raises(GdbError, match=r"b'E22' instead of b'OK' to b'Z1,fffffff0,1'"):
        done(gdb.set_breakpoint(0xFFFFFFF0))
    stub.refuses = (b"M",)
    with pytest.raises(GdbError, match="b'E22' instead of b'OK'"):
        done(gdb.write(0, bytes(100_000)))


@pytest.mark.parametrize("last", [b"", b"$T05", b"$T05#a"])
def test_a_connection_that_ends(last: bytes) -> None:
    ours, theirs = socket.socketpair()
    gdb = done(Gdb.attach(ours))
    theirs.sendall(last)
    theirs.close()
    with pytest.raises(GdbError, match="the connection ended"):
        done(gdb.stopped())
    done(gdb.close())


