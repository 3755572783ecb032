"""By a file of the harness's: saved whole, then restored."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.deadline import Deadline
from bootmatrix.machines.qemu.migration import file
from bootmatrix.model import MigrationMode
from bootmatrix.modes import MODES
from helpers.migrations import Vm

STREAM = os.urandom(1 << 16) * 48  # more than a socket holds

PLAIN = MODES[MigrationMode.PRECOPY]


class Streaming(Vm):
    """Writes STREAM to the connection that it is given, or reads what comes from it."""

    def __init__(self, said: str = "completed", *, sends: bool) -> None:
        super().__init__(said)
        self.read = b""
        self._sends = sends

    def _give(self, command: str, arguments: Any, fd: int, *, deadline: Deadline) -> None:
        super()._give(command, arguments, fd, deadline=deadline)
        end = socket.socket(fileno=os.dup(fd))
        self.thread = threading.Thread(target=self._stream, args=(end,), daemon=True)
        self.thread.start()

    def _stream(self, end: socket.socket) -> None:
        with end:
            if self._sends:
                end.sendall(STREAM)
            else:
                while data := end.recv(1 << 20):
                    self.read += data

    def _wait(self, *event: Any, **more: Any) -> Any:
        self.thread.join()
        return super()._wait(*event, **more)


def test_a_stream_is_kept_whole_and_fed_back(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    source, destination = Streaming(sends=True), Streaming(sends=False)
    assert file.save(source.of_qemu, path, Deadline.after(60)).refusal is None
    assert path.read_bytes() == STREAM
    assert file.restore(destination.of_qemu, path, Deadline.after(60)).refusal is None
    assert destination.read == STREAM


def test_it_goes_through_the_destination_s_own_file_and_takes_both_times(tmp_path: Path) -> None:
    source, destination = Streaming(sends=True), Streaming(sends=False)
    destination.of_qemu.private = tmp_path
    done = file.migrate(source.of_qemu, destination.of_qemu, PLAIN, Deadline.after(60))
    assert done.refusal is None
    assert (tmp_path / "migration-stream").read_bytes() == STREAM
    assert done.seconds > 0


def test_what_was_not_saved_is_not_restored(tmp_path: Path) -> None:
    source, destination = Streaming("failed", sends=True), Vm("completed")
    destination.of_qemu.private = tmp_path
    done = file.migrate(source.of_qemu, destination.of_qemu, PLAIN, Deadline.after(60))
    assert done.refusal is not None
    assert destination.asked == []


def test_a_stream_without_an_end_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "_STREAM_BYTES", 1 << 20)
    source = Streaming(sends=True)
    monkeypatch.setattr(source, "_stream", _until_broken)
    file.save(source.of_qemu, path := tmp_path / "stream", Deadline.after(60))
    assert path.stat().st_size <= 1 << 20


def _until_broken(end: socket.socket) -> None:
    with end:
        try:
            while True:
                end.sendall(bytes(1 << 16))
        except OSError:
            return


def test_a_file_that_cannot_be_written_is_the_disk_s_fault(tmp_path: Path) -> None:
    source = Streaming(sends=True)
    source._stream = _until_broken  # type: ignore[method-assign]
    with pytest.raises(FileNotFoundError):
        file.save(source.of_qemu, tmp_path / "none" / "stream", Deadline.after(60))
