"""Which swtpm runs beside a QEMU, and that it is made once; without the package archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bootmatrix.builds import swtpm
from bootmatrix.errors import ImageError
from bootmatrix.model import QemuBuild
from bootmatrix.roots import debian


def of(name: str, root_name: str = "") -> QemuBuild:
    return QemuBuild(name, "7.2", "0" * 64, Path(), root_name=root_name)


@pytest.mark.parametrize(("qemu", "found"), [
    (of("debian-bookworm"), "swtpm-bookworm"),
    (of("debian-trixie"), "swtpm-trixie"),
    (of("debian-sid"), "swtpm-sid"),
    (of("debian-bullseye"), "swtpm-bookworm"),  # which has none
    (of("head"), "swtpm-bookworm"),
    (of("head", root_name="debian-sid"), "swtpm-sid"),  # runs in that root
], ids=lambda value: value.name if isinstance(value, QemuBuild) else value)
def test_beside_a_qemu_runs_the_one_of_its_suite_or_the_first(qemu: QemuBuild, found: str) -> None:
    name, entry = swtpm.entry_for(qemu)
    assert (name, entry.suite) == (found, found.removeprefix("swtpm-"))
    assert "swtpm" in entry.packages


class Packages:
    """Stands for the archive: what is unpacked of it, and how often."""

    def __init__(self, files: Sequence[str]) -> None:
        self.files = files
        self.unpacked = 0

    def __call__(self, suite: str, packages: Sequence[str], mirror: str | None, work: Path,
                 root: Path) -> None:
        self.unpacked += 1
        for file in self.files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text("#!")
        (root / ".packages").write_text("swtpm_0.7.1-1_amd64.deb\nlibtpms0_0.9.2-3_amd64.deb\n"
                                        "zlib1g_1_amd64.deb\n")


def archive(monkeypatch: pytest.MonkeyPatch, *files: str) -> Packages:
    packages = Packages(files)
    monkeypatch.setattr(debian, "unpack", packages)
    monkeypatch.setattr(debian, "require_tools", lambda: None)
    monkeypatch.setattr(debian, "host_mirror", lambda: None)
    return packages


def test_it_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = archive(monkeypatch, "usr/bin/swtpm", "bin/busybox")
    made = swtpm.beside(of("debian-sid"), tmp_path)
    assert (made.name, made.version, made.binary) == ("swtpm-sid", "0.7.1-1", "/usr/bin/swtpm")
    assert made.packages == (("libtpms0", "0.9.2-3"), ("swtpm", "0.7.1-1"))
    assert made.catalogued
    assert (made.root / "usr/bin/swtpm").is_file()
    assert (made.root / "cell").is_dir(), "where an engine mounts the cell"
    assert swtpm.beside(of("debian-sid"), tmp_path) == made
    assert packages.unpacked == 1
    assert swtpm.beside(of("debian-trixie"), tmp_path).root != made.root
    assert packages.unpacked == 2


def test_packages_without_it_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(monkeypatch, "bin/busybox")
    with pytest.raises(ImageError, match="swtpm-sid: /usr/bin/swtpm is not in the packages"):
        swtpm.beside(of("debian-sid"), tmp_path)
    assert not list((tmp_path / "own").glob("*.lock")), "nothing is left of it"
