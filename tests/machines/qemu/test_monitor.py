"""The monitor's session: it ends, whatever its QEMU does."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.errors import DeadlineExceeded, MonitorError
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


def test_a_command_out_of_band_is_said_so() -> None:
    session, theirs = greeted()
    asked = []

    def answer() -> None:
        for _ in range(2):
            asked.append(json.loads(theirs.recv(4096)))
            theirs.sendall(f'{{"return":{{}},"id":"{asked[-1]["id"]}"}}\n'.encode())

    with theirs:
        answering = threading.Thread(target=answer)
        answering.start()
        for at_once in (False, True):
            session.execute("migrate-recover", {"uri": "x"}, deadline=Deadline.after(60),
                            at_once=at_once)
        answering.join()
    assert [("exec-oob" in each, each.get("exec-oob", each.get("execute"))) for each in asked] == [
        (False, "migrate-recover"), (True, "migrate-recover")]
    session.close(Deadline.after(60))


def test_what_is_forgotten_is_known_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "MOST_EVENTS", 3)
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


# A message of some hundred kilobytes, which takes gigabytes where it is laid out over lines.
DEEP = b"[" * 450 + b",".join([b"0"] * 200_000) + b"]" * 450


@pytest.mark.parametrize("said", [b'{"return":%s,"id":"nobody"}\n', b'{"event":"X","data":%s}\n'],
                         ids=["answer", "event"])
def test_what_is_deep_and_wide_is_heard_at_once(said: bytes) -> None:
    session, theirs = greeted()

    def answer() -> None:
        asked = json.loads(theirs.recv(4096))
        theirs.sendall(said % DEEP + b'{"return":7,"id":"%s"}\n' % asked["id"].encode())

    with theirs:
        answering = threading.Thread(target=answer)
        answering.start()
        assert session.execute("query-status", deadline=Deadline.after(15)) == 7
        answering.join()
    session.close(Deadline.after(60))


@pytest.mark.parametrize("said", [DEEP, b"[" * 100_000, b"9" * 5000, b"\xff", b"7"],
                         ids=["deep", "endless", "long number", "no text", "number"])
def test_a_greeting_that_is_none_has_a_short_message(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        greeting = threading.Thread(target=theirs.sendall, args=(said + b"\n",))
        greeting.start()
        with pytest.raises(MonitorError, match="what it said is no JSON object") as caught:
            Monitor(ours, "a QEMU", Deadline.after(15))
        greeting.join()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("half", [rb"\ud83d", b"\xed\xa0\xbd"], ids=["escaped", "raw"])
def test_what_is_no_text_is_no_answer(half: bytes) -> None:
    """Half of a surrogate pair, which no file takes; QEMU's own words have whole ones."""
    session, theirs = greeted()

    def answer() -> None:
        for said in (rb"\ud83d\ude00", half):
            asked = json.loads(theirs.recv(4096))
            theirs.sendall(b'{"return":"%s","id":"%s"}\n' % (said, asked["id"].encode()))

    with theirs:
        answering = threading.Thread(target=answer)
        answering.start()
        assert session.execute("x", deadline=Deadline.after(15)) == "\U0001f600"
        with pytest.raises(MonitorError, match="the monitor is gone"):
            session.execute("x", deadline=Deadline.after(15))
        answering.join()
    session.close(Deadline.after(60))


def test_an_error_to_no_command_ends_the_session() -> None:
    session, theirs = greeted()
    with theirs:
        theirs.sendall(b'{"error":{"class":"GenericError","desc":"Invalid JSON syntax"}}\n')
        with pytest.raises(MonitorError, match="QEMU went away"):
            session.wait("RESET", deadline=Deadline.after(15))
    session.close(Deadline.after(60))
