"""Links inside a root, and nothing outside of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import ImageError
from bootmatrix.roots import debian


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
