"""A QEMU of the user's own: what belongs to it, what is copied of it, and which root it gets."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from bootmatrix.builds.own_qemu import (
    PROGRAM,
    Root,
    choose_root,
    copy,
    data_directories,
    default_firmware,
    find,
    last_words,
)
from bootmatrix.errors import ImageError, UserError
from bootmatrix.roots.cache import Cache


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A build tree; its program is a real one of this host, which no test here runs."""
    build = tmp_path / "src" / "build"
    (build / "pc-bios").mkdir(parents=True)
    shutil.copy("/bin/true", build / PROGRAM)
    (build / PROGRAM).chmod(0o755)
    (build / "pc-bios" / "bios-256k.bin").write_bytes(b"bios")
    (build / "pc-bios" / "vgabios.bin").write_bytes(b"vga")
    return build


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.mark.parametrize("path", ["", "..", PROGRAM])
def test_what_a_path_may_be(tree: Path, path: str) -> None:
    assert find(tree / path).resolve() == tree / PROGRAM


def test_what_is_none(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"holds no {PROGRAM}"):
        find(tmp_path)
    (tree / PROGRAM).chmod(0o644)
    with pytest.raises(UserError, match="is not executable"):
        find(tree)
    (tree / PROGRAM).write_text("#!/bin/sh\n")
    with pytest.raises(UserError):
        find(tree)


def test_its_data_is_found_where_it_was_built_and_where_it_is_installed(
    tree: Path, tmp_path: Path
) -> None:
    assert data_directories(tree / PROGRAM)[0] == tree / "pc-bios"
    assert default_firmware(tree / PROGRAM) == tree / "pc-bios" / "bios-256k.bin"
    prefix = tmp_path / "usr"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "share" / "qemu").mkdir(parents=True)
    shutil.copy(tree / PROGRAM, prefix / "bin")
    (prefix / "share" / "qemu" / "rom.bin").touch()
    assert data_directories(prefix / "bin" / PROGRAM) == (prefix / "share" / "qemu",)
    assert default_firmware(prefix / "bin" / PROGRAM) is None


def test_a_copy_is_called_by_its_bytes(tree: Path, cache: Cache) -> None:
    first = copy(tree, cache)
    assert first == copy(tree, cache)
    assert (first.directory / first.program).read_bytes() == (tree / PROGRAM).read_bytes()
    assert first.firmware is not None
    assert first.firmware.read_bytes() == b"bios"
    assert first.arguments == ("-L", "/tmp/build/data0")
    assert first.binary == f"/tmp/build/{PROGRAM}"
    assert first.loader == "/lib64/ld-linux-x86-64.so.2"
    (tree / "pc-bios" / "vgabios.bin").write_bytes(b"new")
    second = copy(tree, cache)
    assert second.digest != first.digest
    assert (first.directory / "data0" / "vgabios.bin").read_bytes() == b"vga"


def test_modes_are_not_widened(tree: Path, cache: Cache) -> None:
    (tree / "pc-bios" / "vgabios.bin").chmod(0o604)
    made = copy(tree, cache)
    mode = (made.directory / "data0" / "vgabios.bin").stat().st_mode
    assert stat.S_IMODE(mode) == 0o604


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../secret"])
def test_a_link_out_of_the_tree_is_refused_by_name(
    tree: Path, tmp_path: Path, cache: Cache, target: str
) -> None:
    (tmp_path / "secret").write_text("s")
    (tree / "pc-bios" / "x.bin").symlink_to(target)
    with pytest.raises(UserError, match=r"x\.bin is a link out of its tree, to /"):
        copy(tree, cache)


def roots(tmp_path: Path) -> list[Root]:
    """One without its libraries, and this host's own."""
    (tmp_path / "empty").mkdir()
    return [Root("empty", tmp_path / "empty", "0"), Root("host", Path("/"), "1")]


def test_the_first_root_in_which_it_starts(tree: Path, tmp_path: Path, cache: Cache) -> None:
    tried = []

    def start(root: Root) -> str:
        tried.append(root.name)
        return "QEMU"

    found = roots(tmp_path)
    assert choose_root(copy(tree, cache), found, tree, cache, start) == found[1]
    assert tried == ["host"], "what lacks its loader is not even tried"


def test_what_starts_nowhere_has_its_own_words(tree: Path, tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/true", tmp_path / "bin" / "busybox")  # the shell of a root
    first = Root("first", tmp_path, "2")

    def start(root: Root) -> str:
        raise ImageError("does not run", status=1, tail="warning\nno such symbol\n")

    with pytest.raises(UserError, match=(
            r"does not start: no such symbol \(tried with the libraries of first, host and ")):
        choose_root(copy(tree, cache), [first, roots(tmp_path)[1]], tree, cache, start)


def test_last_words() -> None:
    assert last_words(ImageError("m")) == "m"
    assert last_words(ImageError("m", status=3)) == "exit status 3"
    assert last_words(ImageError("m", status=3, tail="a\nb\n")) == "b"


@pytest.mark.parametrize("link", ["qemu-bundle", "qemu-bundle/usr"])
def test_a_bundle_is_not_gone_out_of(
    tree: Path, tmp_path: Path, cache: Cache, link: str
) -> None:
    """A link there can lead to all of this host, in which to look takes as long as it likes."""
    elsewhere = tmp_path / "elsewhere"
    for file in ("usr/accel.so", "usr/share/qemu/bios-256k.bin", "accel.so"):
        (elsewhere / file).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / file).write_bytes(b"theirs")
    (tree / link).parent.mkdir(exist_ok=True)
    (tree / link).symlink_to(elsewhere)
    assert data_directories(tree / PROGRAM) == (tree / "pc-bios",)
    assert copy(tree, cache).modules == ()


def test_the_modules_of_a_bundle_come_along(tree: Path, cache: Cache) -> None:
    module = tree / "qemu-bundle" / "usr" / "lib" / "qemu" / "accel-tcg-x86_64.so"
    module.parent.mkdir(parents=True)
    module.write_bytes(b"module")
    assert copy(tree, cache).modules == (
        "qemu-bundle/usr/lib/qemu/accel-tcg-x86_64.so",)
