"""The qtest client against a server that answers as QEMU does, and as it should not."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import DeadlineExceeded, QtestError
from bootmatrix.machines.qemu import qtest
from bootmatrix.machines.qemu.qtest import Qtest
from helpers.descriptors import many_open

Server = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(server: Server, seconds: float = 10.0) -> Iterator[Qtest]:
    """A client, and a thread that plays the server."""
    mine, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, contextlib.suppress(OSError):
            server(theirs)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with Qtest(mine, "a qemu", Deadline.after(seconds)) as qtest:
            yield qtest
    finally:
        thread.join()


def answering(answer: Callable[[list[str]], str]) -> Server:
    """Each line gets an answer, until the client goes."""
    def server(sock: socket.socket) -> None:
        for line in sock.makefile("r", encoding="ascii", newline="\n"):
            sock.sendall(answer(line.split()).encode())

    return server


def saying(text: bytes, linger: bool = False) -> Server:
    """Whatever is asked, this is said; then the connection ends, or stays silent."""
    def server(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(text)
        while linger and sock.recv(100):
            pass

    return server


def memory_of_ones(words: list[str]) -> str:
    if words[0] == "b64read":
        return "OK " + base64.b64encode(b"\x01" * int(words[2], 16)).decode() + "\n"
    return "OK 0x0001\n" if words[0].startswith("in") else "OK\n"


def test_the_words_are_those_of_the_protocol() -> None:
    seen: list[str] = []

    def note(words: list[str]) -> str:
        seen.append(" ".join(words))
        return memory_of_ones(words)

    with serving(answering(note)) as qtest:
        qtest.outb(0x70, 1)
        qtest.outw(0x510, 0x19)
        qtest.outl(0x518, 0x1000)
        qtest.write(0x100000, b"\x00\xff")
        assert qtest.inb(0x511)() == 1
        assert qtest.inl(0x514)() == 1
        assert qtest.read(0x100000, 3)() == b"\x01\x01\x01"
    assert seen == ["outb 0x70 0x1", "outw 0x510 0x19", "outl 0x518 0x1000",
                    "write 0x100000 0x2 0x00ff", "inb 0x511", "inl 0x514", "b64read 0x100000 0x3"]


def test_a_thousand_reads_cost_one_wait() -> None:
    with serving(answering(memory_of_ones)) as qtest:
        values = [qtest.inb(0x511) for _ in range(1000)]
        assert [value() for value in values] == [1] * 1000
        assert (qtest.requests, qtest.waits) == (1000, 1)


def test_a_connection_beyond_the_descriptors_of_select() -> None:
    with many_open(), serving(answering(memory_of_ones)) as qtest:
        assert qtest.inb(0x511)() == 1


def test_a_value_is_asked_for_once() -> None:
    with serving(answering(memory_of_ones)) as qtest:
        value = qtest.inb(0x511)
        assert value() == value() == 1
        assert (qtest.requests, qtest.waits) == (1, 1)


def test_a_megabyte_each_way_does_not_lock_up() -> None:
    """More than the sockets' buffers hold: both sides must be served at once."""
    def echo(words: list[str]) -> str:
        return memory_of_ones(words)

    with serving(answering(echo)) as qtest:
        reads = []
        for number in range(20):
            qtest.write(number << 16, bytes(1 << 16))
            reads.append(qtest.read(number << 16, 1 << 16))
        assert sum(len(read()) for read in reads) == 20 << 16


def test_nothing_is_asked_for_nothing() -> None:
    with serving(answering(memory_of_ones)) as qtest:
        qtest.write(0, b"")
        assert qtest.read(0, 0)() == b""
        assert qtest.requests == 0


def test_interrupts_that_nobody_asked_for_are_skipped() -> None:
    with serving(answering(lambda words: "IRQ raise 3\nOK 0x0007\n")) as qtest:
        assert qtest.inb(0x511)() == 7


def test_the_connection_ends_mid_read() -> None:
    with serving(saying(b"OK 0x00")) as qtest:
        value = qtest.inb(0x511)
        with pytest.raises(QtestError, match="a qemu: qtest: the connection") as caught:
            value()
        assert "\n" not in str(caught.value)
        with pytest.raises(QtestError):  # and it stays broken, instead of waiting for ever
            value()
        with pytest.raises(QtestError):
            qtest.inb(0x511)()


@pytest.mark.parametrize(("answer", "said"), [
    (b"FAIL Unknown command 'inb'\n", r"FAIL Unknown command 'inb'.* to 'inb 0x511'"),
    (b"ERR invalid argument size\n", "ERR invalid argument size"),
    (b"OK\n", "instead of a number"),
    (b"OK zz\n", "'zz' instead of a number"),
    (b"\xff\xfe\n", "to 'inb 0x511'"),
    (b"OK 0x1\nOK 0x2\n", "nobody asked for"),
])
def test_an_answer_that_is_none(answer: bytes, said: str) -> None:
    with serving(saying(answer)) as qtest, pytest.raises(QtestError) as caught:
        qtest.inb(0x511)()
    assert re.search(said, str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("answer", [b"OK AAA=\n", b"OK ?\n", b"OK\n"])
def test_memory_of_another_size_than_asked_for(answer: bytes) -> None:
    with serving(saying(answer)) as qtest, pytest.raises(QtestError, match="bytes instead of 7"):
        qtest.read(0, 7)()


def test_the_deadline() -> None:
    with serving(saying(b"OK 0x", linger=True), seconds=0.1) as qtest, \
            pytest.raises(DeadlineExceeded, match="a qemu: qtest: an answer to 'inb 0x511'"):
        qtest.inb(0x511)()


@pytest.mark.parametrize("flood", [b"IRQ raise 1\n" * 5000, b"x" * 65536], ids=["lines", "no line"])
def test_a_flood_does_not_outlast_the_deadline(
    flood: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is always something to read of one."""
    monkeypatch.setattr(qtest, "_ANSWER", 1 << 40)

    def server(sock: socket.socket) -> None:
        while True:
            sock.sendall(flood)

    with serving(server, seconds=0.3) as client, pytest.raises(DeadlineExceeded):
        client.inb(0x510)()


def test_an_answer_without_an_end_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qtest, "_ANSWER", 1 << 20)

    def server(sock: socket.socket) -> None:
        while True:
            sock.sendall(b"x" * 65536)

    with serving(server) as client, pytest.raises(QtestError, match="more than 1 MiB"):
        client.inb(0x510)()
