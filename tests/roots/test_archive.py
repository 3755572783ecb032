"""Roots as one file: out of it comes what went in, and nothing of what no root has."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.errors import ImageError
from bootmatrix.roots import archive
from bootmatrix.roots.archive import Packed
from bootmatrix.roots.manifest import Manifest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "usr" / "bin" / "qemu").write_bytes(b"\x7fELF" * 1000)
    (root / "usr" / "bin" / "qemu").chmod(0o755)
    (root / "usr" / "bin-old").mkdir(0o755)
    (root / "etc").symlink_to("/usr/etc")  # as Debian has them: a sandbox's own
    (root / "name with \n and ü").write_text("")
    return root


def packed(*trees: Packed) -> bytes:
    file = io.BytesIO()
    assert archive.write(file, trees) == hashlib.sha256(file.getvalue()).hexdigest()
    return file.getvalue()


def read(content: bytes, target: Path) -> dict[str, bytes]:
    said: dict[str, bytes] = {}

    def place(stem: str, facts: bytes) -> Path:
        said[stem] = facts
        return target / stem

    archive.read(io.BytesIO(content), place)
    return said


def test_what_went_in_comes_out(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    content = packed(Packed("a-1", tree, b"one"), Packed("b-2", tree / "usr", b"two"))
    assert content == packed(Packed("a-1", tree, b"one"), Packed("b-2", tree / "usr", b"two"))
    assert read(content, tmp_path / "out") == {"a-1": b"one", "b-2": b"two"}
    assert Manifest.of(tmp_path / "out" / "a-1").digest == Manifest.of(tree).digest
    assert Manifest.of(tmp_path / "out" / "b-2").digest == Manifest.of(tree / "usr").digest


def test_what_is_passed_over_is_not_written(tree: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    archive.read(io.BytesIO(packed(Packed("a", tree, b""))), lambda stem, facts: None)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("damage", [
    lambda content: content[:-1],
    lambda content: content[:len(content) // 2],
    lambda content: b"",
    lambda content: b"no archive at all",
    lambda content: content[:-8] + b"\0\0\0\0" + content[-4:],  # gzip's sum
    lambda content: content + b"more",
    lambda content: content[:60] + bytes([content[60] ^ 0xFF]) + content[61:],
])
def test_a_damaged_file_is_refused(
    tree: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(ImageError, match="cut off or damaged"):
        read(damage(packed(Packed("a", tree, b"facts"))), tmp_path)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o755
    return info


@pytest.mark.parametrize(("members", "message"), [
    ([member("a/../../x")], "leaves the root"),
    ([member("/x")], "leaves the root"),
    ([member("../x.json")], "leaves the root"),
    ([member("b/x")], "belongs to no root"),
    ([member("a/out", tarfile.SYMTYPE, ".."), member("a/out/x")], "a/out/x is not where it can"),
    ([member("b.json"), member("b", tarfile.SYMTYPE, "/tmp")], "b is not where it can"),
    ([member("a/no/x")], "a/no/x is not where it can be"),
    ([member("a/x"), member("a/x")], "a/x is there twice"),
    ([member("a/out", tarfile.SYMTYPE, "/tmp"), member("a/out", tarfile.DIRTYPE)],
     "a/out is there twice"),
    ([member("a/d", tarfile.DIRTYPE), member("a/d", tarfile.DIRTYPE)], "a/d is not where it can"),
    ([member("a/f", tarfile.FIFOTYPE)], "a/f is neither file, directory nor link"),
    ([member("a/dev", tarfile.CHRTYPE)], "a/dev is neither"),
    ([member("a/hard", tarfile.LNKTYPE, "/etc/passwd")], "a/hard is neither"),
    ([member("a.json")], "a.json is not what is said of a root"),
])  # fmt: skip
def test_members_that_no_root_can_have(
    tmp_path: Path, members: list[tarfile.TarInfo], message: str
) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for info in (member("a.json"), member("a", tarfile.DIRTYPE), *members):
            tar.addfile(info)
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(ImageError, match=message):
        read(gzip.compress(file.getvalue()), inside)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_what_would_fill_the_disk_is_refused(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "LARGEST", 3000)
    with pytest.raises(ImageError, match="more than 0 GiB in it"):
        read(packed(Packed("a", tree, b"facts")), tmp_path)
    assert not (tmp_path / "a" / "usr" / "bin" / "qemu").exists()


def test_modes_are_a_plain_file_s(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        suid = member("a/suid")
        suid.mode = 0o6777
        for info in (member("a.json"), member("a", tarfile.DIRTYPE), suid):
            tar.addfile(info)
    read(gzip.compress(file.getvalue()), tmp_path)
    assert (tmp_path / "a" / "suid").stat().st_mode & 0o7777 == 0o755
