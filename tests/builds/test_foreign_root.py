"""A whole root of somebody else's: its QEMU is found, and it is copied, links inside it alone."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds import foreign_root
from bootmatrix.builds.foreign_root import copy, default_firmware, find, fingerprint
from bootmatrix.errors import UserError

PROGRAM = "qemu-system-x86_64"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A program in a place of its own, to which /usr/bin has a link, and its data beside it."""
    root = tmp_path / "root"
    (root / "nix" / "bin").mkdir(parents=True)
    (root / "nix" / "share" / "qemu").mkdir(parents=True)
    (root / "usr" / "bin").mkdir(parents=True)
    shutil.copy("/bin/true", root / "nix" / "bin" / PROGRAM)
    (root / "usr" / "bin" / PROGRAM).symlink_to(f"/nix/bin/{PROGRAM}")
    (root / "nix" / "share" / "qemu" / "bios-256k.bin").write_bytes(b"bios")
    return root


@pytest.mark.parametrize("program", [None, f"usr/bin/{PROGRAM}", f"/nix/bin/{PROGRAM}"])
def test_links_are_followed_inside_it(root: Path, program: str | None) -> None:
    assert find(root, program) == f"nix/bin/{PROGRAM}"
    bios = root / "nix" / "share" / "qemu" / "bios-256k.bin"
    assert default_firmware(root, f"nix/bin/{PROGRAM}") == bios
    bios.unlink()
    assert default_firmware(root, f"nix/bin/{PROGRAM}") is None


@pytest.mark.parametrize(("program", "told"), [
    ("usr/bin/qemu", r"holds no usr/bin/qemu \(program: its path in there"),
    ("usr/bin/round", "is a link that goes round"),
    ("usr/bin/text", "is no program"),
    ("usr/bin/plain", "is not executable"),
    ("usr/bin/out", "holds no usr/bin/out"),
])
def test_what_is_no_qemu_in_it(root: Path, program: str, told: str) -> None:
    there = root / "usr" / "bin"
    (there / "round").symlink_to("round")
    (there / "text").write_text("text")
    shutil.copy("/bin/true", there / "plain")
    (there / "plain").chmod(0o644)
    shutil.copy("/bin/true", root.parent / "program")
    (there / "out").symlink_to("../../../program")
    with pytest.raises(UserError, match=told):
        find(root, program)


def test_what_is_no_root(root: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        find(root / "none")
    with pytest.raises(UserError, match="is no directory"):
        find(root / "nix" / "bin" / PROGRAM)
    (root / "usr" / "bin" / PROGRAM).unlink()
    with pytest.raises(UserError, match=r"holds no QEMU \(looked for usr/bin/qemu-system-x86_64, "):
        find(root)


def test_a_wrapper_is_for_the_root_to_interpret(root: Path) -> None:
    (root / "nix" / "bin" / PROGRAM).write_text("#!/nix/bash\n")
    assert find(root) == f"nix/bin/{PROGRAM}"


def test_a_copy_holds_what_a_qemu_could_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No device, nothing of another's secrets, no mode wider, and links as they are."""
    (tmp_path / "secret").write_text("s")
    (root / "etc").mkdir()
    (root / "etc" / "shadow").write_text("s")
    (root / "etc" / "shadow").chmod(0o640)
    (root / "etc" / "out").symlink_to(tmp_path / "secret")
    (root / "etc" / "d").symlink_to(tmp_path)
    (root / "proc").mkdir()
    (root / "proc" / "kcore").write_text("")
    os.mkfifo(root / "fifo")
    (root / "nix" / "bin" / PROGRAM).chmod(0o4754)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    target = tmp_path / "copy"
    target.mkdir()
    copy(root, target)
    found = {path.relative_to(target).as_posix() for path in target.rglob("*")}
    assert found == {
        "etc", "etc/out", "etc/d", "proc", "nix", "nix/bin", f"nix/bin/{PROGRAM}", "nix/share",
        "nix/share/qemu", "nix/share/qemu/bios-256k.bin", "usr", "usr/bin", f"usr/bin/{PROGRAM}"}
    assert (target / "etc" / "out").readlink() == tmp_path / "secret"
    assert (target / "etc" / "d").is_symlink()
    assert stat.S_IMODE((target / "nix" / "bin" / PROGRAM).stat().st_mode) == 0o754
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    (tmp_path / "users").mkdir()
    copy(root, tmp_path / "users")
    assert stat.S_IMODE((tmp_path / "users" / "etc" / "shadow").stat().st_mode) == 0o640


def test_a_file_that_grows_is_not_copied_without_end(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.open

    def grown(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        if path == PROGRAM:
            os.truncate(root / "nix" / "bin" / PROGRAM, 1 << 30)
        return look(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", grown)
    with pytest.raises(UserError, match=rf"nix/bin/{PROGRAM} was changed while it was read"):
        copy(root, tmp_path)


def test_it_changes_when_something_in_it_does(root: Path) -> None:
    first = fingerprint(root)
    assert fingerprint(root) == first
    bios = root / "nix" / "share" / "qemu" / "bios-256k.bin"
    bios.write_bytes(b"soib")
    second = fingerprint(root)
    assert second != first
    (root / "nix" / "new").touch()
    assert fingerprint(root) != second


@pytest.mark.parametrize("bound", ["_MOST_FILES", "_MOST_BYTES", "_DEEPEST"])
def test_it_has_a_size(root: Path, bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_root, bound, 1)
    with pytest.raises(UserError, match="is too large for a QEMU's root"):
        fingerprint(root)


@pytest.mark.parametrize("make", ["fifo", "link"])
def test_what_takes_a_directorys_place_meanwhile_is_not_opened(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    """A FIFO would be waited for, and a link leads out of the root."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").touch()
    directory = os.stat(root)  # noqa: PTH116
    look = os.stat

    def seen_before(path: Any, **how: Any) -> os.stat_result:
        return directory if path == "exchanged" else look(path, **how)

    if make == "fifo":
        os.mkfifo(root / "exchanged")
    else:
        (root / "exchanged").symlink_to(tmp_path / "outside")
    monkeypatch.setattr(os, "stat", seen_before)
    paths = [path for path, _, _ in foreign_root._walk(root)]
    assert "exchanged" in paths
    assert not [path for path in paths if path.startswith("exchanged/")]


def test_no_device_of_an_image_is_kept(root: Path) -> None:
    os.mkfifo(root / "nix" / "fifo")
    (root / "nix" / "link").symlink_to("fifo")
    before = {path for path in root.rglob("*") if path.name != "fifo"}
    foreign_root.leave_out_devices(root)
    assert set(root.rglob("*")) == before
