"""Files that a user names: looked at before they are read, and read only up to a size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import UserError
from bootmatrix.files import given_file
from bootmatrix.files.given_file import (
    Missing,
    Unreadable,
    check_replaceable,
    open_regular,
    path_of,
    read,
    replace,
)


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
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


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


def test_a_file_takes_the_place_of_a_file_or_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    replace(path, b"1")
    replace(path, b"2")
    assert path.read_bytes() == b"2"
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    with pytest.raises(UserError, match=r"none/x: cannot be written: No such file"):
        replace(tmp_path / "none/x", b"")
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_else_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"kept")
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    before = {path: path.lstat().st_mode for path in tmp_path.iterdir()}
    for name, what in (("link", "a symbolic link"), ("dangling", "a symbolic link"),
                       ("fifo", "a FIFO"), ("directory", "a directory")):
        with pytest.raises(UserError) as caught:
            replace(tmp_path / name, b"1")
        assert str(caught.value) == (
            f"{tmp_path / name}: is {what} (only a regular file is replaced)")
    with pytest.raises(UserError, match="/dev/null: is a device"):
        check_replaceable(Path("/dev/null"))
    assert {path: path.lstat().st_mode for path in tmp_path.iterdir()} == before
    assert file.read_bytes() == b"kept"


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_path_as_a_person_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert path_of("~/x") == Path("/home/me/x")
    assert path_of("a/~") == Path("a/~")
    with pytest.raises(UserError, match=r"'a\\x00b' is no path \(a path cannot hold a NUL\)"):
        path_of("a\0b")
    with pytest.raises(UserError, match="~nobody-of-that-name/x: there is no home directory"):
        path_of("~nobody-of-that-name/x")


def test_what_is_no_file_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To open some devices is a deed, and who writes to a FIFO waits for a reader."""
    os.mkfifo(tmp_path / "fifo")
    look, opened = os.open, []

    def noted(path: Any, flags: int, **how: Any) -> int:
        opened.append(flags & os.O_PATH)
        return look(path, flags, **how)

    monkeypatch.setattr(os, "open", noted)
    with pytest.raises(Unreadable, match="is no regular file"):
        given_file.open_regular(tmp_path / "fifo", 1)
    assert opened == [os.O_PATH]


def test_a_name_in_a_directory_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        with given_file.open_regular("file", 1, directory) as file:
            assert file.read() == b"x"
        with pytest.raises(Unreadable, match="is no regular file"):
            given_file.open_regular("link", 1, directory)
    finally:
        os.close(directory)


@pytest.mark.parametrize("content", [
    b"", b"a", bytes(3 << 20), b"a" + bytes(4 << 20) + b"b", bytes(2 << 20) + b"b" + bytes(1 << 20),
], ids=["none", "one", "zeros", "amid", "around"])
def test_a_hole_is_copied_as_one(tmp_path: Path, content: bytes) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    with open_regular(source, len(content)) as file, target.open("xb") as made:
        given_file.copy(file, made, len(content), holes=True)
    assert target.read_bytes() == content
    zeros = sum(content[at:at + (1 << 20)].count(0) >> 20 for at in range(0, len(content), 1 << 20))
    assert target.stat().st_blocks * 512 <= max(len(content) - (zeros << 20), 0) + 8192
