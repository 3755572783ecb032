"""A root is made, sealed, and asked what is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootmatrix.errors import ImageError
from bootmatrix.roots import debian
from bootmatrix.roots.debian import host_mirror


def test_sealing_a_root_touches_nothing_outside_of_it(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "var").symlink_to(outside)
    debian.seal_tree(root)
    assert list(outside.iterdir()) == []
    assert (root / "var" / "tmp").is_dir()


def test_a_deep_tree_that_its_owner_cannot_enter_is_removed(tmp_path: Path) -> None:
    deep = tmp_path / "root"
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(1900):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.fchmod(here, 0)
    os.close(here)
    debian.remove(deep)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", ["cell", "tmp", "var/tmp", "var"])
def test_through_a_link_nothing_is_mounted(tmp_path: Path, link: str) -> None:
    for path in ("cell", "dev", "proc", "sys", "tmp", "var/tmp"):
        (tmp_path / path).mkdir(parents=True)
    debian.check_sealed(tmp_path)
    (tmp_path / link).rename(tmp_path / "moved")
    (tmp_path / link).symlink_to("moved" if link == "var" else "/usr")
    with pytest.raises(ImageError, match=" is no directory in it"):
        debian.check_sealed(tmp_path)
    (tmp_path / "itself").symlink_to(tmp_path)
    with pytest.raises(ImageError, match="the root itself is a link"):
        debian.check_sealed(tmp_path / "itself")


@pytest.mark.parametrize("path", ["var", "var/tmp", "tmp"])
def test_what_is_in_the_place_of_a_mount_point_makes_way(tmp_path: Path, path: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    debian.seal_tree(tmp_path)
    debian.check_sealed(tmp_path)


@pytest.mark.parametrize("link", [None, "usr/bin", "usr/deep/bin"])
def test_a_place_that_a_root_needs_is_made_inside_it(tmp_path: Path, link: str | None) -> None:
    root = tmp_path / "root"
    root.mkdir()
    if link is None:
        (root / "bin").write_text("")
    else:
        (root / "bin").symlink_to(f"/../{link}")
    place = debian.make_place(root, "bin")
    assert place == root / (link or "bin")
    assert place.is_dir()
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.parametrize(("printed", "mirror"), [
    ("Debian|Debian-Security|main|http://a/\nDebian|Debian|contrib|http://b/\n"
     "Debian|Debian|main|http://c/\nDebian|Debian|main|http://d/\n", "http://c/"),
    ("Ubuntu|Ubuntu|main|http://a/\n", None),
    ("", None),
])
def test_the_host_s_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, mirror: str | None
) -> None:
    tool = tmp_path / "apt-get"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{printed}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert host_mirror() == mirror


def test_the_suites_of_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where mmdebstrap chooses an archive, nobody here knows."""
    monkeypatch.setattr(debian, "_DISTRO_INFO", tmp_path / "debian.csv")
    monkeypatch.setattr(debian, "host_mirror", lambda: None)
    assert debian.suites() is None
    monkeypatch.setattr(debian, "host_mirror", lambda: "http://a/")
    there = debian.suites()
    assert there is not None
    assert {"bookworm", "sid", "stable"} <= set(there)
    assert "jammy" not in there
    (tmp_path / "debian.csv").write_text("version,codename,series\n99,New,new\n\n")
    assert debian.suites() == ("new", *debian._ALIASES)


def test_libraries_for_a_qemu_are_none_for_this_host_s_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert debian.run(["sh", "-c", 'echo "$LD_LIBRARY_PATH$A$HOME"'], "", environment={
        "A": "a"}).strip() == f"a{os.environ['HOME']}"


def test_a_host_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host_mirror() is None


def test_what_goes_away_while_it_is_counted_has_no_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a cache that others fill."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("below")
    assert debian.usage(tmp_path) == 5
    walk = os.walk

    def with_ghosts(top: Path) -> object:
        yield from ((at, below, [*names, "gone"]) for at, below, names in walk(top))

    monkeypatch.setattr("os.walk", with_ghosts)
    assert debian.usage(tmp_path) == 5
    assert debian.usage(tmp_path / "none") == 0
