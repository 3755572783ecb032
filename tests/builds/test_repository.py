"""A git repository that is looked at: which commits it has, and what is in one."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from bootmatrix.builds.repository import CommitTree, Repository, pack, read
from bootmatrix.errors import UserError
from helpers.source_trees import GitRepository


@pytest.fixture
def there(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "git")


def packed(tree: CommitTree, **further: bytes) -> dict[str, tuple[int, bytes | str]]:
    """What comes out of an archive of a tree: of each file its mode and content, or its target."""
    file = io.BytesIO()
    pack(tree, file, further)
    file.seek(0)
    found: dict[str, tuple[int, bytes | str]] = {}
    with tarfile.open(fileobj=file) as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isfile() else None
            found[entry.name] = entry.mode, content.read() if content else entry.linkname
    return found


def test_revisions(there: GitRepository, tmp_path: Path) -> None:
    made = [there.commit(f"subject {n}", {}) for n in range(4)]
    repository = Repository(there.path)
    found = repository.between("HEAD~3", "HEAD")
    assert list(found) == made
    assert [text.split(" ", 1)[1] for text in found.values()] == [f"subject {n}" for n in range(4)]
    assert all(name.startswith(text.split()[0]) for name, text in found.items())
    assert repository.commits(["HEAD", "no such", "main~1"]) == {"HEAD": made[3],
                                                                 "main~1": made[2]}
    with pytest.raises(UserError, match=r"does not come after.*--reverse: the good one is the new"):
        repository.between("HEAD", "HEAD~3")
    with pytest.raises(UserError, match=r"git has no revision 'nowhere' \(git fetch"):
        repository.between("nowhere", "HEAD")
    with pytest.raises(UserError, match="HEAD is no revision of a git repository here"):
        Repository(tmp_path, around=True).between("HEAD", "HEAD~3")


def test_a_directory_in_a_repository_is_none(there: GitRepository, tmp_path: Path) -> None:
    there.commit("one", {"inner/file": "1"})
    assert Repository(there.path / "inner", around=True).commit("HEAD") is not None
    with pytest.raises(UserError, match="inner is no git repository of yours: git says 'not a git"):
        Repository(there.path / "inner").need("HEAD")
    with pytest.raises(UserError, match="nowhere is not there"):
        Repository(tmp_path / "nowhere").need("HEAD")


def test_a_commit_as_it_was_made(there: GitRepository) -> None:
    """No attribute and no filter has a say, and nothing of the work tree."""
    (there.path / "link").symlink_to("../../etc/passwd")
    (there.path / "run").write_text("#!/bin/sh\n")
    (there.path / "run").chmod(0o755)
    there.git("add", "link", "run")
    commit = there.commit("one", {
        "text": "$Id$\n", "left-out": "x", "dir/empty": "", "dir/name with\ttab": "t",
        ".gitattributes": "left-out export-ignore\ntext ident text eol=crlf filter=planted\n"})
    there.git("config", "filter.planted.smudge", "touch planted; cat")
    (there.path / "text").write_text("changed")
    found = packed(Repository(there.path).tree(commit), version=b"1")
    assert found == {
        "link": (0o644, "../../etc/passwd"), "run": (0o755, b"#!/bin/sh\n"),
        "text": (0o644, b"$Id$\n"), "left-out": (0o644, b"x"), "dir/empty": (0o644, b""),
        "dir/name with\ttab": (0o644, b"t"), ".gitattributes": found[".gitattributes"],
        "version": (0o644, b"1")}
    assert not (there.path / "planted").exists()


def test_parts_of_other_repositories(there: GitRepository, tmp_path: Path) -> None:
    """Submodules and meson's wraps come from where the clone has them, or are said to lack."""
    part = GitRepository(tmp_path / "part")
    wanted = part.commit("one", {"inside": "of the part"})
    part.commit("two", {"inside": "later"})
    for name in ("module", "subprojects/wrapped"):
        there.git("clone", "-q", str(part.path), name)
    there.git("update-index", "--add", "--cacheinfo", f"160000,{wanted},module")
    there.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},roms/other")
    wrap = "[wrap-git]\nurl = https://example.org/x.git\nrevision = {}\n"
    commit = there.commit("one", {
        "subprojects/wrapped.wrap": wrap.format(wanted) + "patch_directory = over\n",
        "subprojects/packagefiles/over/meson.build": "project('x')\n",
        "subprojects/absent.wrap": wrap.format("2" * 40),
        "subprojects/file.wrap": "[wrap-file]\ndirectory = x\n"})
    tree = Repository(there.path).tree(commit)
    found = packed(tree)
    assert found["module/inside"] == found["subprojects/wrapped/inside"] == (0o644, b"of the part")
    assert found["subprojects/wrapped/meson.build"] == (0o644, b"project('x')\n")
    assert tree.absent == ("git submodule update --init roms/other",
                           "meson subprojects download absent")
    assert list(tree.under("subprojects", ".wrap")) == [
        "absent.wrap", "file.wrap", "wrapped.wrap"]


def test_an_object_that_is_not_there(there: GitRepository) -> None:
    commit = there.commit("one", {"file": "content"})
    tree = Repository(there.path).tree(commit)
    name = tree.files["file"].name
    (there.path / ".git/objects" / name[:2] / name[2:]).unlink()
    with pytest.raises(UserError, match="git does not have"):
        next(read([tree.files["file"]]))


def test_what_a_commit_did(there: GitRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    there.commit("one", {"file": "1\n"})
    there.git("tag", "v1.0.0")
    commit = there.commit("second of them", {"file": "1\n2\n", "other": "x\n"})
    repository = Repository(there.path)
    assert repository.described(commit).startswith("v1.0.0-1-g")
    # Neither a pager nor a diff program of the user's, nor a hook's own repository.
    there.git("config", "diff.external", "false")
    monkeypatch.setitem(os.environ, "GIT_DIR", "/nowhere")
    shown = repository.show(commit)
    assert "second of them" in shown
    assert "2 files changed, 2 insertions(+)" in shown
