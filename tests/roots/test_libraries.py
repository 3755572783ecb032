"""Links inside a root, and nothing outside of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import ImageError, UserError
from bootmatrix.roots import debian, elf, libraries


def test_links_are_followed_inside_a_root(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("/usr/bin")
    (tmp_path / "out").symlink_to("../../../../usr")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("/a")
    assert debian.follow(tmp_path, "bin/busybox") == tmp_path / "usr/bin/busybox"
    assert debian.follow(tmp_path, "/out/./bin/../lib") == tmp_path / "usr/lib"
    with pytest.raises(ImageError, match="goes round"):
        debian.follow(tmp_path, "a")


def test_a_program_that_asks_for_too_much_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each name in each place, and each place over a chain of links: it would take hours."""
    asked = elf.Program(None, tuple(f"lib{number}" for number in range(4000)),
                        tuple(f"$ORIGIN/{number}" for number in range(40)))
    monkeypatch.setattr(elf, "read", lambda path: asked)
    (tmp_path / "qemu").touch()
    with pytest.raises(UserError, match="/own/qemu asks for too many libraries"):
        libraries.resolve(libraries.Tree(None, [(tmp_path, "/own")]), ["/own/qemu"], within="/own")


def test_a_chain_of_links_has_an_end(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"{number}").symlink_to(f"{number + 1}")
    (tmp_path / "500").touch()
    assert debian.follow(tmp_path, "300") == tmp_path / "500"
    with pytest.raises(ImageError, match="goes round"):
        debian.follow(tmp_path, "0")
