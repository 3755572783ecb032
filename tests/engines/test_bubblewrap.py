"""bubblewrap's command line: what a sandbox has, and what stands before it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootmatrix.engines.bubblewrap import BubblewrapEngine
from bootmatrix.engines.confinement import CELL, ENVIRONMENT, SHOWN, Priority
from bootmatrix.errors import EngineError
from bootmatrix.model import DEFAULT_LIMITS, QemuBuild


@pytest.fixture
def engine() -> Iterator[BubblewrapEngine]:
    with BubblewrapEngine() as made:
        yield made


def command(engine: BubblewrapEngine, directory: Path) -> list[str]:
    build = QemuBuild("q", "7.2.0", "digest", directory / "root",
                      mounts=((directory / "qemu", "/tmp/qemu"),))
    return engine._confine(
        build, directory / "cell", (), directory / "shown", DEFAULT_LIMITS, 8, 9)


def test_what_is_in_a_sandbox(engine: BubblewrapEngine, tmp_path: Path) -> None:
    argv = command(engine, tmp_path)
    words = argv[argv.index("bwrap"): argv.index("--", argv.index("bwrap"))]
    text = " ".join(words)
    for isolation in ("--unshare-all", "--cap-drop ALL", "--die-with-parent", "--clearenv",
                      "--seccomp 9", "--remount-ro /dev", "--remount-ro /tmp"):
        assert isolation in text
    inside = [words[at + 2] for at, word in enumerate(words) if word == "--bind"]
    assert inside == [CELL], "nothing else can be written to"
    shown = [words[at + 2] for at, word in enumerate(words) if word == "--ro-bind"]
    assert shown == ["/", "/tmp/qemu", SHOWN]
    assert "--dev-bind" not in words, "KVM's device is in there where it is asked for"
    assert [words[at + 1] for at, word in enumerate(words) if word == "--setenv"] == [*ENVIRONMENT]


@pytest.mark.parametrize("root", [True, False])
def test_root_gives_up_what_it_is_before_anything_runs(
    engine: BubblewrapEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: bool
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0 if root else 1000)
    before = command(engine, tmp_path)
    before = before[: before.index("bwrap")]
    if not root:
        assert before == []
        return
    assert before[:2] == ["unshare", "--mount"]
    user = engine.identity.uid
    assert user != 0
    assert before[-4:] == ["setpriv", f"--reuid={user}", f"--regid={engine.identity.gid}",
                           "--clear-groups"]


def test_one_that_yields_says_so_inside(engine: BubblewrapEngine, tmp_path: Path) -> None:
    assert "autogroup" not in " ".join(command(engine, tmp_path))
    engine.priority = Priority.LOW
    assert "autogroup" in " ".join(command(engine, tmp_path))


@pytest.mark.parametrize(("there", "what"), [(False, "is not there"), (True, "holds no ")])
def test_a_root_without_a_shell(
    engine: BubblewrapEngine, tmp_path: Path, there: bool, what: str
) -> None:
    if there:
        (tmp_path / "root").mkdir()
    build = QemuBuild("q", "7.2.0", "digest", tmp_path / "root")
    with pytest.raises(EngineError, match=what):
        engine._start(build, tmp_path, (), None, DEFAULT_LIMITS)


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts; else bubblewrap does, inside")
@pytest.mark.parametrize("link", ["cell", "tmp"])
def test_root_mounts_nothing_through_a_link_of_a_root(
    engine: BubblewrapEngine, tmp_path: Path, link: str
) -> None:
    root, target = tmp_path / "root", tmp_path / "target"
    for directory in (target, tmp_path / "cell", root / "cell", root / "tmp"):
        directory.mkdir(parents=True)
    (tmp_path / "cell" / "planted").touch()
    (root / link).rmdir()
    (root / link).symlink_to(target)
    outer, _ = engine._outer(root, tmp_path / "cell")
    mounting = outer[: outer.index("setpriv")]
    done = subprocess.run([*mounting, "ls", target], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"/{link} is a symbolic link" in done.stderr
    (root / link).unlink()
    (root / link).mkdir()
    seen = subprocess.run([*mounting, "ls", root / "cell"], capture_output=True, text=True,
                          timeout=60)
    assert seen.stdout == "planted\n"
