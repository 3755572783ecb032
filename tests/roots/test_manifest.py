"""What must be in a tree, and whether it still is."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.roots import manifest
from bootmatrix.roots.manifest import Manifest
from helpers.damage import flip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "doc").mkdir(parents=True)
    (root / "file").write_text("12345")
    (root / "doc" / "page").write_text("read")
    (root / "link").symlink_to("file")
    Manifest.of(root).write(tmp_path / "manifest")
    return root


def retarget(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("fill")


@pytest.mark.parametrize(("change", "words"), [
    (lambda root: flip(root / "file"), "file is not what it was"),
    (lambda root: os.truncate(root / "file", 3), "file has 3 bytes instead of 5"),
    (lambda root: (root / "file").unlink(), "file is gone"),
    (lambda root: (root / "more").write_text(""), "more does not belong there"),
    (lambda root: (root / "file").chmod(0o4755), "file is not what it was"),
    (lambda root: (root / "doc").chmod(0o700), "doc is not what it was"),
    (retarget, "link is not what it was"),
    (lambda root: os.mkfifo(root / "fifo"), "it cannot be read: {root}/fifo is neither file"),
    (lambda root: (root / "file").rename(root / "other"), "file is gone"),
    (shutil.rmtree, "it cannot be read: [Errno 2] No such file or directory: '{root}"),
])
def test_every_kind_of_change_is_seen(
    tree: Path, change: Callable[[Path], object], words: str
) -> None:
    file = tree.with_name("manifest")
    assert manifest.damage(tree, file) is None
    change(tree)
    found = manifest.damage(tree, file)
    assert found is not None
    assert found.startswith(words.format(root=tree))


def test_what_is_passed_over_is_read_on_doubt_alone(tree: Path) -> None:
    file, digest = tree.with_name("manifest"), Manifest.of(tree).digest
    flip(tree / "doc" / "page")
    assert manifest.damage(tree, file, digest, passed_over=("doc",)) is None
    found = manifest.damage(tree, file, digest, passed_over=("doc",), whole=True)
    assert found == "doc/page is not what it was"


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"file": 1}', '{"file": [1]}'])
def test_a_manifest_that_says_nothing_is_made_anew(tree: Path, content: str | None) -> None:
    file, digest = tree.with_name("manifest"), Manifest.of(tree).digest
    file.unlink() if content is None else file.write_text(content)
    assert manifest.damage(tree, file) == "nothing says what was in it"
    assert manifest.damage(tree, file, digest) is None
    assert manifest.damage(tree, file) is None
    file.unlink()
    flip(tree / "file")
    assert (manifest.damage(tree, file, digest) or "").startswith("its sha256 is ")


def test_a_touched_file_is_read_and_believed(tree: Path) -> None:
    (tree / "file").write_text("12345")
    assert manifest.damage(tree, tree.with_name("manifest")) is None


def test_a_large_file_is_not_taken_into_memory(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    with (root / "large").open("wb") as file:
        file.truncate(256 << 20)
    tracemalloc.start()
    try:
        Manifest.of(root)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
