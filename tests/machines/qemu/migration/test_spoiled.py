"""A relay between two QEMUs: so much passes, or something else than was sent."""

from __future__ import annotations

import socket
from threading import Thread
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration import spoiled
from bootmatrix.machines.qemu.migration.spoiled import relay

# As QEMU's stream begins: magic, version 3, its configuration section, and a name's length.
STREAM = b"QEVM\0\0\0\3\7\0\0\0\rpc-i440fx-5.2" + bytes(range(256)) * 1000


class Ends:
    """Keeps the ends that two QEMUs are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ends: list[socket.socket] = []

        def give(vm: Any, end: socket.socket, deadline: Deadline) -> str:
            self.ends.append(end)
            return "fd:migration"

        monkeypatch.setattr(spoiled, "give", give)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    return Ends(monkeypatch)


def send(sock: socket.socket) -> tuple[Thread, list[OSError]]:
    failed: list[OSError] = []

    def work() -> None:
        try:
            sock.sendall(STREAM)
        except OSError as error:
            failed.append(error)

    thread = Thread(target=work)
    thread.start()
    return thread, failed


def received(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


SOME_VM: Any = object()


def soon() -> Deadline:
    return Deadline.after(60)


@pytest.mark.parametrize("cut_at", [1, 13, 4096, 4097, 40_000])
def test_it_is_cut_at_the_byte(ends: Ends, cut_at: int) -> None:
    uri, made = relay(SOME_VM, SOME_VM, soon(), cut_at=cut_at)
    assert uri == "fd:migration"
    source, destination = ends.ends
    with source, destination:
        sending, failed = send(source)
        assert received(destination) == STREAM[:cut_at]
        sending.join()
        assert failed, "the source sees it, too"
        made.join()
    assert made.passed == cut_at


def test_another_machine_type_arrives(ends: Ends) -> None:
    _, made = relay(SOME_VM, SOME_VM, soon(), foreign=True)
    source, destination = ends.ends
    with source:
        sending, _ = send(source)
        there = destination.recv(30, socket.MSG_WAITALL)
        assert there == STREAM[:13] + b"q" + STREAM[14:30]
        destination.close()
        sending.join()
        made.join()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            source.sendall(b"a destination that refuses closes it for both")


def test_what_is_held_back_waits_for_its_release(ends: Ends) -> None:
    _, made = relay(SOME_VM, SOME_VM, soon(), hold_at=5000)
    source, destination = ends.ends
    with source, destination:
        sending, failed = send(source)
        assert destination.recv(5000, socket.MSG_WAITALL) == STREAM[:5000]
        destination.setblocking(False)
        with pytest.raises(BlockingIOError):
            destination.recv(1)
        assert sending.is_alive(), "no more than a little of it lies in the socket"
        destination.setblocking(True)
        made.release()
        left = len(STREAM) - 5000
        assert destination.recv(left, socket.MSG_WAITALL) == STREAM[5000:]
        sending.join()
        assert not failed
        source.shutdown(socket.SHUT_WR)
        assert destination.recv(1) == b""
        made.join()


@pytest.mark.parametrize("hold_at", [None, 5000])
def test_nothing_is_left_when_either_side_ends(ends: Ends, hold_at: int | None) -> None:
    _, made = relay(SOME_VM, SOME_VM, soon(), hold_at=hold_at)
    source, destination = ends.ends
    with source:
        sending, _ = send(source)
        destination.recv(5000, socket.MSG_WAITALL)
        destination.close()
        made.join()
        sending.join()
    made.release()
