"""What is said to a Docker engine, and heard of it, by one that the test plays."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.engines import docker
from bootmatrix.engines.confinement import Priority
from bootmatrix.errors import EngineError, UserError


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


@pytest.mark.parametrize("size", [1, 3, 100])
def test_frames_come_whole_however_they_are_cut(
    pair: tuple[socket.socket, socket.socket], size: int
) -> None:
    ours, theirs = pair
    sent = frame(1, b"started 1 7\n") + frame(2, b"why") + frame(1, b"")
    for at in range(0, len(sent), size):
        theirs.sendall(sent[at : at + size])
    theirs.close()
    assert list(docker._frames(ours)) == [(1, b"started 1 7\n"), (2, b"why"), (1, b"")]


@pytest.mark.parametrize("sent", [b"", b"\1\0\0", frame(1, b"whole")[:-2]])
def test_a_connection_that_ends_in_the_midst_is_an_end(
    pair: tuple[socket.socket, socket.socket], sent: bytes
) -> None:
    ours, theirs = pair
    theirs.sendall(sent)
    theirs.close()
    assert [data for _, data in docker._frames(ours) if data] == []


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """An engine at DOCKER_HOST that gives one answer."""
    threads: list[threading.Thread] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        listener.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")

        def answer(line: bytes) -> None:
            def once() -> None:
                connection = listener.accept()[0]
                with connection:
                    assert connection.recv(200).startswith(b"GET /_ping ")
                    connection.sendall(line)

            threads.append(threading.Thread(target=once))
            threads[-1].start()

        yield answer
        for thread in threads:
            thread.join(60)


def test_an_engine_that_answers(answering: Callable[[bytes], None]) -> None:
    answering(b"HTTP/1.0 200 OK\r\n\r\nOK")
    docker._ping(60)


@pytest.mark.parametrize("line", [b"HTTP/1.0 500 Internal\r\n\r\n", b"", b"SSH-2.0\r\n"])
def test_what_answers_otherwise_is_no_engine(
    answering: Callable[[bytes], None], line: bytes
) -> None:
    answering(line)
    with pytest.raises(OSError, match="answers"):
        docker._ping(60)


def test_no_engine_is_a_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineError, match="start one, or use --engine bubblewrap"):
        docker.DockerEngine()


def test_no_container_keeps_the_others_from_running() -> None:
    """They share among themselves alone: what comes before all would come before the cells only."""
    usual = 1024
    assert docker._SHARES[Priority.LOW] < usual < docker._SHARES[Priority.HIGH] <= 4 * usual


class Listing:
    """An engine that has containers with these owners' labels, and keeps none that is removed."""

    def __init__(self, owners: Sequence[str | None]) -> None:
        self.api = self
        self.there = {str(number): {docker.SESSION: "1-0"} for number in range(len(owners))}
        for labels, owner in zip(self.there.values(), owners, strict=True):
            labels |= {docker.OWNER: owner} if owner else {}

    def containers(self, **asked: Any) -> list[dict[str, Any]]:
        return [{"Id": key, "Labels": labels} for key, labels in self.there.items()]

    def remove_container(self, name: str, **how: Any) -> None:
        del self.there[name]

    def close(self) -> None:
        """It is none."""


def test_a_container_that_is_not_labelled_as_ours_are_is_left_alone(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can give one such labels; it kept every engine from being opened."""
    with subprocess.Popen(["true"]) as dead:
        pass
    foreign = [None, "abc", "-1", "\u0663", f" {dead.pid}", f"0{dead.pid}", "9" * 5000]
    listing = Listing([*foreign, str(os.getpid()), str(dead.pid)])
    monkeypatch.setattr(docker, "_connect", lambda seconds: listing)
    last = str(len(foreign) + 1)
    assert docker.leftovers() == (last,)
    docker.DockerEngine().close()
    assert set(listing.there) == {str(number) for number in range(len(foreign) + 1)}
    assert docker.leftovers() == ()


@pytest.mark.docker
def test_how_much_an_image_may_unpack_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends in the midst of the export, and leaves no container."""
    client = docker._connect(docker.CALL_SECONDS)
    name = f"bootmatrix-test-{os.getpid()}:large"
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as made:
        entry = tarfile.TarInfo("zeros")
        entry.size = 32 << 20
        made.addfile(entry, io.BytesIO(bytes(entry.size)))
    with contextlib.closing(client):
        subprocess.run(["docker", "import", "-", name], input=tar.getvalue(), check=True,
                       capture_output=True, timeout=300)
        try:
            for most, told in ((1 << 20, True), (64 << 20, False)):
                monkeypatch.setattr(docker, "MOST_EXPORTED", most)
                root = tmp_path / str(most)
                root.mkdir()
                if told:
                    with pytest.raises(UserError, match="too large for a QEMU's: it unpacks to"):
                        docker.export_image(name, root)
                else:
                    docker.export_image(name, root)
                    assert (root / "zeros").stat().st_size == 32 << 20
                assert client.api.containers(all=True, filters={"ancestor": name}) == []
        finally:
            client.api.remove_image(name, force=True)
