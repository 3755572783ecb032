"""What a QEMU or a guest can make as long as it likes is kept only so far."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bootmatrix.deadline import Deadline
from bootmatrix.machines import console
from bootmatrix.machines.console import Console
from bootmatrix.machines.qemu import monitor as monitor_module
from bootmatrix.machines.qemu.monitor import Monitor
from bootmatrix.run import bounds


@contextmanager
def monitored(*events: dict[str, Any]) -> Iterator[Monitor]:
    """A monitor whose QEMU says so much, and then MARK."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        def say(**message: Any) -> None:
            theirs.sendall(json.dumps(message).encode() + b"\r\n")

        say(QMP={"version": {"qemu": {}}, "capabilities": []})
        theirs.recv(65536)  # qmp_capabilities
        say(**{"return": {}})
        for event in (*events, {"event": "MARK"}):
            say(**event, timestamp={"seconds": 0, "microseconds": 0})
        with suppress(ConnectionResetError):  # closed with something unread
            theirs.recv(1)  # until it is closed

    serving = threading.Thread(target=serve)
    serving.start()
    monitor = Monitor(ours, "flooded", Deadline.after(60))
    try:
        monitor.wait("MARK", deadline=Deadline.after(60))
        yield monitor
    finally:
        monitor.close(Deadline.after(60))
        serving.join()
        theirs.close()


def test_a_flood_of_events_is_forgotten() -> None:
    with monitored(*[{"event": "RESET", "data": {"n": n}} for n in range(5000)]) as monitor:
        assert len(monitor._events) == monitor_module.MOST_EVENTS
        assert monitor.cut == 5001 - monitor_module.MOST_EVENTS
        assert monitor.mark() == 5001
        assert monitor.seen("RESET", since=4999)
        assert not monitor.seen("RESET", since=5000)
        # Nor does the library remember, which would for ever.
        assert monitor._client.events.history == ()
        assert monitor._client.events.empty()


def test_a_long_event_is_kept_without_its_data() -> None:
    with monitored({"event": "STOP", "data": {"x": "y" * monitor_module.EVENT_BYTES}}) as monitor:
        assert monitor.seen("STOP")
        assert monitor.cut == 1
        assert monitor.wait("STOP", deadline=Deadline.after(1)).data == {}


def test_what_is_short_is_kept_whole() -> None:
    with monitored({"event": "STOP", "data": {"x": "y"}}) as monitor:
        assert monitor.wait("STOP", deadline=Deadline.after(1)).data == {"x": "y"}
        assert monitor.cut == 0


def test_a_flood_of_banners_is_cut_and_a_conflict_still_seen(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()

    def flood() -> None:
        with theirs:
            theirs.sendall(b"SeaBIOS (version 1.0)\r\n" * 500 + b"SeaBIOS (version 2.0)\r\n")
            for number in range(500):
                theirs.sendall(b"SeaBIOS (version %d%s)\r\n" % (number, b"x" * 1000))

    flooding = threading.Thread(target=flood)
    flooding.start()
    with Console(ours, tmp_path / "console.log") as reader:
        seen = reader.wait_for_boot(Deadline.after(60))
        flooding.join()
    assert len(seen.banners) == 2 * console.BANNERS
    assert {"1.0", "2.0"} <= set(seen.banners)
    assert max(map(len, seen.banners)) == console.BANNER_LENGTH
    assert reader.cut == 1001 - len(seen.banners)


def test_long_logs_lose_their_middle(tmp_path: Path) -> None:
    place = tmp_path / "1-source"
    place.mkdir()
    (place / "qemu.log").write_bytes(b"first" + b"x" * bounds.LOG_BYTES + b"last")
    (place / "console.log").write_bytes(b"y" * bounds.LOG_BYTES)
    assert bounds.cut_logs(tmp_path) == ("1-source/qemu.log",)
    kept = (place / "qemu.log").read_bytes()
    assert len(kept) <= bounds.LOG_BYTES
    assert kept.startswith(b"first")
    assert kept.endswith(b"last")
    assert bounds.LEFT_OUT.encode() in kept
    assert (place / "console.log").read_bytes() == b"y" * bounds.LOG_BYTES


def test_long_texts_lose_their_middle() -> None:
    text = "first" + "x" * 100_000 + "last"
    cut: dict[str, Any] = bounds.cut({"a": [text], "b": 1, "c": "short"})
    (found,) = cut["a"]
    assert len(found) <= bounds.TEXT_LENGTH
    assert found.startswith("first")
    assert found.endswith("last")
    assert bounds.cut({"a": ("short", None)}) == {"a": ("short", None)}
