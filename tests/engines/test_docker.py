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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.engines import docker
from bootmatrix.engines.confinement import Priority
from bootmatrix.errors import EngineError, UserError
from bootmatrix.model import QemuBuild
from bootmatrix.roots.cache import Cache


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


@pytest.fixture
def client() -> Iterator[Any]:
    with contextlib.closing(docker._connect(docker.CALL_SECONDS)) as client:
        yield client


@pytest.fixture
def small(tmp_path: Path) -> Iterator[QemuBuild]:
    """A build with next to nothing in its root; in the end the engine has nothing of it."""
    root = tmp_path / "roots" / "r-1"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "busybox").write_bytes(b"ours")
    yield QemuBuild(f"test-{os.getpid()}", "1", "0" * 64, root)
    docker.remove_images([f"test-{os.getpid()}"], tmp_path)


def strangers(image: str) -> None:
    """Give the name of an image to another one, as anybody can who reaches the engine."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as made:
        made.addfile(tarfile.TarInfo("busybox"))
    subprocess.run(["docker", "import", "-", image], input=tar.getvalue(), check=True,
                   capture_output=True, timeout=300)


@pytest.mark.docker
@pytest.mark.parametrize("when", ["before", "after", "after, and the cache has lost it"])
def test_an_image_of_a_stranger_s_by_our_name_is_none_of_ours(
    client: Any, small: QemuBuild, tmp_path: Path, when: str
) -> None:
    ours = docker.ensure_image(client, small)
    (name,) = client.api.inspect_image(ours)["RepoTags"]
    kept = tmp_path / "roots" / "r-1.docker"
    if when == "before":
        docker.remove_images([small.name], tmp_path)
        kept.unlink()
    strangers(name)
    theirs = client.api.inspect_image(name)["Id"]
    try:
        if when == "after, and the cache has lost it":
            kept.write_text("{")
        found = docker.ensure_image(client, small)
        assert found != theirs
        assert (found == ours) == (when == "after")
        assert client.api.inspect_image(found)["Config"]["Labels"][docker.DIGEST] == small.digest
        assert docker.ensure_image(client, small) == found
    finally:
        client.api.remove_image(theirs, force=True)


@pytest.mark.docker
def test_an_image_that_the_engine_has_lost_is_imported_again(
    client: Any, small: QemuBuild, tmp_path: Path
) -> None:
    ours = docker.ensure_image(client, small)
    client.api.remove_image(ours, force=True)
    again = docker.ensure_image(client, small)
    assert again == docker.ensure_image(client, small) != ours
    # What a version has imported that kept no id goes, once there is one with it.
    (tmp_path / "roots" / "r-1.docker").unlink()
    assert docker.ensure_image(client, small) != again
    assert docker.remove_images([small.name], tmp_path) == 1


@pytest.mark.docker
def test_two_at_once_have_one_image(client: Any, small: QemuBuild, tmp_path: Path) -> None:
    """A build of another digest in the same root, as another program in it is one, is another."""
    other = replace(small, digest="1" * 64)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(docker.ensure_image, [client] * 4, [small, other] * 2))
    assert found[:2] == found[2:]
    assert len(set(found)) == 2
    assert not list((tmp_path / "roots").glob("*.new"))
    assert docker.remove_images([small.name], tmp_path) == 2


@pytest.mark.docker
def test_the_id_lies_in_no_tree_that_has_a_manifest(client: Any, tmp_path: Path) -> None:
    """In one it would be damage."""
    cache = Cache(tmp_path)

    def fill(entry: Path) -> None:
        (entry / "root" / "bin").mkdir(parents=True)
        (entry / "root" / "bin" / "busybox").write_bytes(b"")

    root = cache.entry("root-1", fill) / "root"
    docker.ensure_image(client, QemuBuild(f"test-{os.getpid()}", "1", "0" * 64, root))
    try:
        assert cache.damage("root-1") is None
        cache.close()
        cache.remove("root-1")
        assert not list(tmp_path.iterdir())
    finally:
        assert docker.remove_images([f"test-{os.getpid()}"], tmp_path) == 1
