"""Files that a user names: looked at before they are read, and read only up to a size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.files import given_file
from bootmatrix.files.given_file import Missing, Unreadable, open_regular, path_of, read


def test_a_file_up_to_the_size(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read(file, 5) == b"12345"
    with open_regular(file, 5) as opened:
        assert opened.read() == b"12345"
    with pytest.raises(Unreadable, match="has 5 bytes, at most 4 are read"):
        open_regular(file, 4)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for path, why in ((tmp_path, "is a directory"), (tmp_path / "fifo", "is no regular file"),
                      (Path("/dev/zero"), "is no regular file")):
        with pytest.raises(Unreadable, match=why) as caught:
            open_regular(path, 1 << 30)
        assert not isinstance(caught.value, Missing)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_one_that_is_missing_is_told_from_one_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="cannot be read: No such file or directory"):
        open_regular(tmp_path / "none", 1)
    for path in (tmp_path / "a\0b", tmp_path / ("x" * 300)):
        with pytest.raises(Unreadable, match="cannot be read: ") as caught:
            open_regular(path, 1)
        assert not isinstance(caught.value, Missing)


def test_a_file_that_grows_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")

    def grown(path: Path, largest: int) -> object:
        return path.open("rb")

    monkeypatch.setattr(given_file, "open_regular", grown)
    with pytest.raises(Unreadable, match="has more than 4 bytes"):
        read(file, 4)


def test_a_path_as_a_person_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert path_of("~/x") == Path("/home/me/x")
    assert path_of("a/~") == Path("a/~")
    with pytest.raises(UserError, match=r"'a\\x00b' is no path \(a path cannot hold a NUL\)"):
        path_of("a\0b")
    with pytest.raises(UserError, match="~nobody-of-that-name/x: there is no home directory"):
        path_of("~nobody-of-that-name/x")
