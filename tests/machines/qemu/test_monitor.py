"""The monitor's session: it ends, whatever its QEMU does."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import DeadlineExceeded
from bootmatrix.machines.qemu import monitor
from bootmatrix.machines.qemu.monitor import Monitor


def greeted() -> tuple[Monitor, socket.socket]:
    """A session, and the end of a QEMU that has said its greeting and stopped to read."""
    ours, theirs = socket.socketpair()

    def greet() -> None:
        theirs.sendall(b'{"QMP":{"version":{},"capabilities":[]}}\n')
        theirs.recv(4096)
        theirs.sendall(b'{"return":{},"id":"__qmp#00000"}\n')

    greeting = threading.Thread(target=greet)
    greeting.start()
    session = Monitor(ours, "a QEMU", Deadline.after(60))
    greeting.join()
    return session, theirs


def test_the_last_of_several_events_and_the_state_it_led_to() -> None:
    session, theirs = greeted()

    def answer() -> None:
        for event in ("RESUME", "STOP", "RTC_CHANGE"):
            at = '"timestamp":{"seconds":1,"microseconds":0}'
            theirs.sendall(f'{{"event":"{event}",{at}}}\n'.encode())
        for said in ('{"status":"internal-error","running":false}', '"no state"'):
            asked = json.loads(theirs.recv(4096))
            theirs.sendall(f'{{"return":{said},"id":"{asked["id"]}"}}\n'.encode())

    with theirs:
        answering = threading.Thread(target=answer)
        answering.start()
        assert session.latest("STOP", "RESUME") in (None, "STOP", "RESUME")  # on their way
        assert session.run_state(Deadline.after(60)) == "internal-error"
        assert session.latest("STOP", "RESUME") == "STOP"
        assert session.latest("RESUME") == "RESUME"
        assert session.latest("RESET") is None
        assert session.run_state(Deadline.after(60)) == ""
        answering.join()
    session.close(Deadline.after(60))


def test_what_is_forgotten_is_known_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "KEPT_EVENTS", 3)
    session, theirs = greeted()
    begun = time.monotonic()
    with theirs:
        for known, times in ((True, 1), (True, 2), (False, 3), (False, 3)):
            before = session.mark()
            theirs.sendall(b'{"event":"RESET","timestamp":{"seconds":1,"microseconds":0}}\n')
            session.wait("RESET", since=before, deadline=Deadline.after(60))
            assert (session.remembers(begun), session.times("RESET", begun)) == (known, times)
        assert session.remembers(time.monotonic())
        session.close(Deadline.after(60))


def test_a_session_with_a_qemu_that_no_longer_reads_is_closed(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "_CLOSE_SECONDS", 0.05)
    session, theirs = greeted()
    with theirs:
        more_than_a_socket_holds = {"command-line": "x" * (4 << 20)}
        with pytest.raises(DeadlineExceeded):
            session.execute("human-monitor-command", more_than_a_socket_holds,
                            deadline=Deadline.after(0.1))
        begun = time.monotonic()
        session.close(Deadline.after(60))
        assert time.monotonic() - begun < 10
        assert session._client._writer is None, "the connection is still there"
