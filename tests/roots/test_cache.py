"""The cache of the user's own builds: what a killed process leaves in it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.errors import ImageError
from bootmatrix.model import QemuBuild
from bootmatrix.roots.cache import BUILT, MOST_ENTRIES, Cache

FILLER = """
import sys
from pathlib import Path
from bootmatrix.roots.cache import Cache

def fill(directory):
    (directory / "half").write_bytes(bytes(1000))
    print("filling", flush=True)
    sys.stdin.read()

Cache(Path(sys.argv[1])).entry("qemu-1", fill)
"""


@pytest.mark.parametrize("how", ["rm", "next"])
def test_what_a_killed_one_left_is_removed(tmp_path: Path, how: str) -> None:
    cache = Cache(tmp_path)
    with subprocess.Popen([sys.executable, "-c", FILLER, tmp_path], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as filler:
        assert filler.stdout
        assert filler.stdout.readline() == b"filling\n"
        cache.remove_unfinished()
        (half,) = tmp_path.glob(".*/new/half")  # its owner lives
        filler.kill()
    assert half.exists()
    if how == "rm":
        cache.remove_unfinished()
    else:
        cache.entry("firmware-1", lambda directory: None)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.docker
def test_a_cache_removes_only_its_own_images(tmp_path: Path) -> None:
    import docker

    from bootmatrix.engines.docker import ensure_image, remove_images

    client = docker.from_env()
    try:
        images = []
        for cache in ("a", "b"):
            root = tmp_path / cache / "roots" / "r"
            (root / "bin").mkdir(parents=True)
            (root / "bin" / "busybox").write_bytes(b"")
            images.append(ensure_image(client, QemuBuild("test-caches", "1", "0" * 64, root)))
        assert len(set(images)) == 2
        assert remove_images(["test-caches"], tmp_path / "a") == 1
        with pytest.raises(docker.errors.ImageNotFound):
            client.api.inspect_image(images[0])
        client.api.inspect_image(images[1])
        assert remove_images(["test-caches"], tmp_path / "b") == 1
    finally:
        client.close()


def filled(cache: Cache, name: str) -> Path:
    def fill(directory: Path) -> None:
        (directory / "file").write_text(name)

    return cache.entry(name, fill)


def test_the_cache_keeps_what_is_in_use_and_the_latest(tmp_path: Path) -> None:
    with_hold, other = Cache(tmp_path), Cache(tmp_path)
    held = filled(with_hold, "kind-held")
    for name in ("kind-held.json", "kind-held.docker"):
        (tmp_path / name).write_text("{}")
    entries = []
    for number in range(MOST_ENTRIES + 3):
        entries.append(filled(other, f"kind-{number}"))
        os.utime(entries[-1], (number + 10, number + 10))
        other.close()
    os.utime(held, (1, 1))
    filled(other, "another-1")
    last = filled(other, "kind-last")
    assert last.is_dir()
    assert held.is_dir(), "it is in use"
    assert not entries[0].exists()
    assert entries[-1].is_dir()
    assert not (tmp_path / "kind-0.lock").exists()
    with_hold.close()
    filled(Cache(tmp_path), "kind-more")
    assert not held.exists()
    assert not list(tmp_path.glob("kind-held*"))


def test_the_cache_fills_an_entry_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry = filled(cache, "kind-a")
    assert cache.entry("kind-a", lambda directory: pytest.fail("filled twice")) == entry


def test_one_fills_and_others_wait(tmp_path: Path) -> None:
    """Also where the one who has filled it has ended meanwhile, and the lock is nobody's."""
    first, second = Cache(tmp_path), Cache(tmp_path)
    waited: list[str] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(first.filled_once("kind-a", lambda: pytest.fail("nobody is there")))

        def wait() -> None:
            waited.append("once")
            filled(first, "kind-a")
            stack.close()

        with second.filled_once("kind-a", wait):
            assert second.has("kind-a")
    assert waited == ["once"]
    assert not second.has("kind-b")
    assert not list(tmp_path.glob("*.filling"))


def test_of_what_was_built_more_is_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for number in range(MOST_ENTRIES + 3):
        filled(cache, f"{BUILT}-{number}")
        cache.close()
    assert len(cache.names()) == MOST_ENTRIES + 3


def test_an_entry_that_cannot_be_filled_leaves_nothing(tmp_path: Path) -> None:
    def fill(directory: Path) -> None:
        (directory / "half").write_text("")
        raise ImageError("no")

    with pytest.raises(ImageError):
        Cache(tmp_path).entry("kind-a", fill)
    assert list(tmp_path.iterdir()) == []


def _fill(home: Path) -> None:
    filled(Cache(home), "kind-a")


def test_processes_may_fill_an_entry_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_fill, [tmp_path] * 8)
    assert (tmp_path / "kind-a" / "file").read_text() == "kind-a"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "kind-a", "kind-a.lock", "kind-a.manifest"]
