"""The package by itself: built, installed where no checkout is, and used there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import NamedTuple

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.files.shipped import build

HERE = Path(__file__).parents[2]
MINE = """\
schema: 1
hosts: {old: {qemu: debian-bookworm}, new: {qemu: debian-sid}}
axes:
  source: old
  destination: new
  machine: newest-common
  policy: [stock, reread]
  scenario: migrate-reset
  disk: virtio
"""


class Place(NamedTuple):
    """A fresh environment, and an empty directory."""

    venv: Path
    directory: Path

    def run(
        self, program: str, *words: str | Path, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        strange = ("PYTEST", "PYTHON", "PIP_", "BOOTMATRIX", "COLUMNS")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(strange)}
        return subprocess.run([self.venv / "bin" / program, *words], cwd=self.directory,
                              env=environment | variables, capture_output=True, text=True,
                              timeout=600)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist."""
    target = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", target], cwd=HERE,
                   check=True, capture_output=True)
    (wheel,), (sdist,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, sdist


def install(directory: Path, distribution: Path) -> Place:
    """Install into a new environment, which borrows all but bootmatrix from this one's."""
    venv = directory / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python3*/site-packages")
    (borrowed,) = Path(sys.prefix).glob("lib/python3*/site-packages")
    # A directory's own .pth files are not read this way: the checkout's code stays unknown.
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"),
           "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed",
                    "--no-build-isolation", str(distribution)], check=True, cwd=directory)
    checked = subprocess.run([*pip, "check"], cwd=directory, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout  # what the package needs is what was borrowed
    empty = directory / "empty"
    empty.mkdir()
    return Place(venv, empty)


@pytest.fixture(scope="module")
def wheel(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An environment with the wheel, and a directory with a matrix and a test of one's own."""
    place = install(tmp_path_factory.mktemp("wheel"), built[0])
    (place.directory / "matrices").mkdir()
    (place.directory / "matrices" / "mine.yaml").write_text(MINE)
    shutil.copy(HERE / "examples" / "test_own_guest.py", place.directory)
    return place


def test_the_metadata(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        told = message_from_bytes(archive.read(metadata))
    assert told["License-Expression"] == "MIT"
    assert told["Requires-Python"] == ">=3.11"
    assert "Framework :: Pytest" in told.get_all("Classifier", [])
    assert "# bootmatrix" in str(told.get_payload())
    assert "bootmatrix/py.typed" in names
    assert not [name for name in names if name.endswith((".pyc", ".sh")) and "reprod" not in name]


@pytest.mark.slow
def test_an_sdist_installs_the_very_same(
    built: tuple[Path, Path], wheel: Place, tmp_path: Path
) -> None:
    with tarfile.open(built[1]) as archive:
        top = {name.split("/")[1] for name in archive.getnames()}
    assert {"harness", "images", "matrices", "README.md", "LICENSE"} <= top
    place = install(tmp_path, built[1])
    (one,), (other,) = (venv.glob("lib/python3*/site-packages/bootmatrix")
                        for venv in (place.venv, wheel.venv))

    def files(package: Path) -> dict[Path, bytes]:
        return {path.relative_to(package): path.read_bytes() for path in package.rglob("*")
                if path.is_file() and path.suffix != ".pyc"}

    assert files(one) == files(other)
    done = place.run("bootmatrix", "--version")
    assert done.stdout.rstrip().endswith(f"in {one}")
    assert f"(build {build()})" in done.stdout, "that of the checkout that it was made of"


@pytest.mark.thorough
def test_a_shipped_matrix_and_ones_own_are_listed(wheel: Place, store: ImageStore) -> None:
    printed = wheel.run("bootmatrix", "matrix", "quickstart").stdout
    assert printed == (HERE / "matrices" / "quickstart.yaml").read_text()
    done = wheel.run("bootmatrix", "list", "matrices/mine.yaml")
    assert done.returncode == 0, done.stderr
    assert "\n2 cells\n" in done.stdout


@pytest.mark.thorough
def test_doctor_finds_the_catalogue(wheel: Place, tmp_path: Path) -> None:
    """With no image: what it boots and reads where there are some is in tests/diagnose."""
    done = wheel.run("bootmatrix", "doctor", "--engine", "bubblewrap", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warn  image debian-sid: not built; " in done.stdout


@pytest.mark.thorough
def test_images_finds_what_is_built(wheel: Place, store: ImageStore) -> None:
    done = wheel.run("bootmatrix", "images", "list")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"debian-sid .*{re.escape(store.qemu('debian-sid').version)}", done.stdout)


def test_a_cell(wheel: Place, store: ImageStore) -> None:
    done = wheel.run("bootmatrix", "run", "matrices/mine.yaml", "-k", "stock")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 cell: 1 passed" in done.stdout
    assert len([*wheel.directory.glob("runs/*/records.jsonl")]) == 1


@pytest.mark.thorough
def test_the_plugin_with_a_matrix_and_with_a_test_of_ones_own(
    wheel: Place, store: ImageStore
) -> None:
    done = wheel.run("python", "-m", "pytest", "-v", "matrices/mine.yaml", "test_own_guest.py",
                     "-k", "reread or stock_qemu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_own_guest.py::test_stock_qemu_keeps_the_old_firmware PASSED" in done.stdout
    assert "1 cell: 1 passed" in done.stdout
    assert "2 passed" in done.stdout.splitlines()[-1]
