"""The names of tags, as git keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.files import git_tags
from helpers.source_trees import GitRepository


@pytest.fixture
def tagged(tmp_path: Path) -> GitRepository:
    there = GitRepository(tmp_path / "git")
    there.commit("one", {"file": "1"})
    for name in ("v1.9", "v1.10", "next/v2"):
        there.git("tag", name)
    return there


def test_loose_and_packed_ones(tagged: GitRepository) -> None:
    wanted = {"v1.9", "v1.10", "next/v2"}
    assert set(git_tags.names(tagged.path)) == wanted
    tagged.git("pack-refs", "--all")
    assert set(git_tags.names(tagged.path)) == wanted
    tagged.git("tag", "-a", "-m", "annotated", "v3")  # "^{}" lines follow such a one
    tagged.git("pack-refs", "--all")
    assert set(git_tags.names(tagged.path)) == {*wanted, "v3"}


def test_of_a_worktree_and_a_bare_clone(tagged: GitRepository, tmp_path: Path) -> None:
    tagged.git("worktree", "add", "-q", str(tmp_path / "beside"))
    tagged.git("clone", "-q", "--bare", str(tagged.path), str(tmp_path / "bare.git"))
    for path in (tmp_path / "beside", tmp_path / "bare.git"):
        assert set(git_tags.names(path)) == {"v1.9", "v1.10", "next/v2"}


def test_what_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no git repository"):
        git_tags.names(tmp_path)
    with pytest.raises(UserError, match="nowhere is not there"):
        git_tags.names(tmp_path / "nowhere")
