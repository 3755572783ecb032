"""The README's two commands, in a clone that has nothing yet but the images' cache."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import ImageStore

HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git knows or would take, as they are in the working tree."""
    target = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=HERE, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (HERE / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, target / name)
    return target


def make(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # What pytest and make tell their children is not what a new user's shell has.
    strange = ("PYTEST", "MAKE", "MFLAGS", "COV", "BOOTMATRIX")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(strange)}
    return subprocess.run(
        ["make", *arguments], cwd=clone, env=environment, capture_output=True, text=True,
        timeout=900,
    )  # fmt: skip


@pytest.mark.thorough
def test_make_demo_shows_the_table_and_is_green(clone: Path, store: ImageStore) -> None:
    """Six of its cells, with verdicts of each kind; all of them are `make check-docs`'s."""
    done = make(clone, "demo", 'ARGS=-k "q35 and to-sid and (stock or machine-owned)"')
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout
    assert "pc-q35-5.2" in text
    old, new = (store.qemu(f"debian-{suite}").version for suite in ("bullseye", "sid"))
    assert f"{old} → {new}" in text
    assert "6 cells: 4 passed, 2 known (1 late, 1 silent)" in text
    runs = list((clone / "runs").iterdir())
    assert len(runs) == 1
    records = [json.loads(line) for line in (runs[0] / "records.jsonl").read_text().splitlines()]
    assert len(records) == 6
    # Found by running: what the known entries label is what these records saw.
    assert Counter(record["verdict"] for record in records) == {
        "pass": 4, "silent": 1, "late": 1,
    }  # fmt: skip
    assert [record["cell"]["policy"] for record in records if record["verdict"] == "silent"] == [
        "stock"]
    assert not list(runs[0].glob("scratch-*"))
    again = text.partition("one cell again: ")[2].splitlines()[0]
    rerun = subprocess.run(again, shell=True, cwd=clone, capture_output=True, text=True)
    assert rerun.returncode == 0, rerun.stdout + rerun.stderr
    assert "1 cell: 1 known" in rerun.stdout


@pytest.mark.slow
def test_make_test_sets_up_checks_and_tests(clone: Path) -> None:
    # What mypy knows of the same files: from nothing it works for as long as all else here.
    if (HERE / ".mypy_cache").is_dir():
        shutil.copytree(HERE / ".mypy_cache", clone / ".mypy_cache", dirs_exist_ok=True)
    done = make(clone, "test", "ARGS=tests/test_deadline.py -n 1 -p no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken\.", done.stdout)
    assert " passed" in done.stdout.splitlines()[-1]
