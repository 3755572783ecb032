"""The command line, as a process of its own, over planted verdicts and a planted image store."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from planting import I440FX_STOCK, MATRIX, Q35_GUEST, Q35_STOCK, SILENT, plant

M = "matrices/m.yaml"
# The store of a machine with some images, without those images.
SCRIPT = """
import json, sys
from pathlib import Path
import harness.images
from harness.errors import ImageError, UserError

class Store:
    def __init__(self):
        self._built = Path("built.json")
        self._there = json.loads(self._built.read_text())
    def names(self, arch=None):
        return ("debian-bullseye", "debian-bookworm", "debian-sid")
    def for_arch(self, name, arch):
        return name
    def kinds(self, name=None):
        return ()
    def is_built(self, name):
        return name in self._there
    def build(self, names, progress, jobs=2):
        for name in names:
            if name == "debian-bookworm":
                raise ImageError("mmdebstrap failed", status=1, tail="no such suite")
            progress(f"{name}: built")
        self._there += names
        self._built.write_text(json.dumps(self._there))
    def listing(self):
        return tuple(harness.images.Row(name, name[7:], name in self._there, "5.2.0", "seabios-1",
                     185_000_000, "ab" * 32, "2026-01-01") for name in self.names())
    def remove(self, names):
        return 185_000_000

harness.images.ImageStore = Store
import harness.engines.docker  # the real one has images of the real store's, in use by other tests
harness.engines.docker.remove_images = lambda names: len(names)
from harness.cli import main
sys.exit(main())
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "bootmatrix.py").write_text(SCRIPT)
    (tmp_path / "built.json").write_text('["debian-bullseye", "debian-sid"]')
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "bootmatrix.py", *arguments]


def bootmatrix(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items()
                   if not key.startswith(("PYTEST_", "COLUMNS"))}
    environment["XDG_CACHE_HOME"] = str(here / "cache")
    return subprocess.run(command(*arguments), cwd=here, capture_output=True, text=True,
                          env=environment, timeout=60)


def ran(here: Path) -> list[str]:
    lines = (here / "rig.log").read_text().splitlines()
    return [line.removeprefix("run ") for line in lines if line.startswith("run ")]


def test_help_is_quick_and_shows_examples() -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "harness.cli"],
                          capture_output=True, text=True, check=True)
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert {"harness.cli", "argparse"} & loaded
    assert not {"pytest", "pydantic", "rich", "docker", "harness.matrix"} & loaded
    done = subprocess.run(["bootmatrix", "run", "--help"], capture_output=True, text=True,
                          check=True, env=os.environ | {"PATH": str(Path(sys.executable).parent)})
    assert 'bootmatrix run matrices/quickstart.yaml -k "q35 and guest-owned" -n 2' in done.stdout
    assert "exit status:" in done.stdout


@pytest.mark.parametrize(("verdicts", "arguments", "status"), [
    ({}, (), 0),
    ({Q35_GUEST: SILENT}, (), 1),
    ({Q35_GUEST: {"verdict": "error", "reason": "broke"}}, (), 3),
    # A finding stands, whatever broke elsewhere.
    ({Q35_GUEST: {"verdict": "error", "reason": "broke"}, I440FX_STOCK: SILENT}, (), 1),
    ({Q35_STOCK: {"verdict": "pass"}}, (), 0),
    ({Q35_STOCK: {"verdict": "pass"}}, ("--strict-known",), 1),
    ({}, ("-k", "no-such-thing"), 2),
    ({}, ("-k", "and and"), 2),
])
def test_exit_status(
    here: Path, verdicts: dict[str, Any], arguments: tuple[str, ...], status: int
) -> None:
    plant(here, verdicts=verdicts)
    done = bootmatrix(here, "run", M, "-n", "1", *arguments)
    assert done.returncode == status, done.stdout + done.stderr


def test_run_side_by_side_stops_writes_and_tells(here: Path) -> None:
    plant(here, verdicts={Q35_GUEST: SILENT})
    done = bootmatrix(here, "run", M, "-n", "2", "--json", "all.jsonl", "--junit-xml", "j.xml",
                      "--engine", "bubblewrap", "--run-dir", "out")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "cells: 6/6, 1 failed, 1 known" in lines
    assert f"failed {Q35_GUEST}" in lines
    assert "6 cells: 4 passed, 1 known (silent), 1 failed (silent)" in lines
    again = [line for line in lines if line.startswith("one cell again: ")]
    assert len(again) == 1
    assert again[0].endswith(f"bootmatrix run {M} --cell {Q35_GUEST}")
    assert "artifacts: out" in lines
    records = [json.loads(line) for line in (here / "all.jsonl").read_text().splitlines()]
    assert len(records) == 6
    assert {record["engine"] for record in records} == {"bubblewrap"}
    assert (here / "j.xml").exists()
    log = (here / "rig.log").read_text()
    assert "close gw0" in log
    assert "close gw1" in log


def test_the_rerun_command_runs_that_cell(here: Path) -> None:
    plant(here)
    done = bootmatrix(here, "run", M, "--cell", Q35_GUEST)
    assert done.returncode == 0
    assert ran(here) == [Q35_GUEST]
    done = bootmatrix(here, "run", M, "--cell", Q35_GUEST.replace("migrate", "migrat"))
    assert done.returncode == 2
    assert done.stderr.startswith("bootmatrix: no such cell: ")
    assert f"near it: {Q35_GUEST}" in done.stderr


def test_x_and_lf_and_arguments_for_pytest(here: Path) -> None:
    plant(here, verdicts={I440FX_STOCK: SILENT})
    assert bootmatrix(here, "run", M, "-n", "1", "-x").returncode == 1
    assert ran(here) == [I440FX_STOCK]
    assert bootmatrix(here, "run", M, "-n", "2", "-x").returncode == 1
    (here / "rig.log").unlink()
    assert bootmatrix(here, "run", M, "-n", "1", "--lf").returncode == 1
    assert ran(here) == [I440FX_STOCK]
    done = bootmatrix(here, "run", M, "-n", "1", "--", "--collect-only")
    assert done.returncode == 0
    assert f"{M}::{Q35_STOCK}" in done.stdout
    assert bootmatrix(here, "list", M, "--", "--collect-only").returncode == 2


def test_verbose_names_each_cell(here: Path) -> None:
    plant(here)
    done = bootmatrix(here, "run", M, "-v", "-n", "1")
    assert f"\n{M}::{Q35_GUEST} " in done.stdout
    assert "PASSED" in done.stdout
    assert "\ncells: " not in done.stdout


def test_a_terminal_gets_one_line_that_is_rewritten(here: Path) -> None:
    plant(here, verdicts={Q35_GUEST: SILENT})
    master, slave = pty.openpty()
    with subprocess.Popen(command("run", M, "-n", "1"), cwd=here, stdin=slave, stdout=slave,
                          stderr=slave, env=os.environ | {"COLUMNS": "100"}) as process:
        os.close(slave)
        text = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # how Linux tells that the other end of a pty is closed
                break
            text += piece
    os.close(master)
    assert process.returncode == 1
    shown = text.decode()
    for done in range(7):
        assert f"\rcells: {done}/6, " in shown
    assert f"\rfailed {Q35_GUEST}" in shown
    assert "\x1b[" in shown


def test_missing_images_are_built_first(here: Path) -> None:
    plant(here)
    (here / "built.json").write_text("[]")
    done = bootmatrix(here, "run", M, "-n", "1")
    assert done.returncode == 0
    assert done.stdout.splitlines()[:3] == [
        "building 2 missing images, once: debian-bullseye, debian-sid",
        "debian-bullseye: built", "debian-sid: built"]


def test_images_that_cannot_be_built_are_a_broken_rig(here: Path) -> None:
    plant(here, matrix=MATRIX.replace("debian-sid", "debian-bookworm"))
    done = bootmatrix(here, "run", M)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "bootmatrix: mmdebstrap failed", "exit status: 1", "last output:", "no such suite"]
    assert not (here / "rig.log").exists()


@pytest.mark.parametrize("name", ["run", "list"])
@pytest.mark.parametrize(("matrix", "message"), [
    (MATRIX.replace("policy: [stock", "policy: [stck"), f"bootmatrix: {M}:10:"),
    (MATRIX.replace("debian-sid", "debian-potato"),
     f"bootmatrix: {M}:5:15: hosts.sid.qemu: no such QEMU build: 'debian-potato' (in the catal"),
])
def test_a_users_mistake_is_one_line(here: Path, name: str, matrix: str, message: str) -> None:
    plant(here, matrix=matrix)
    done = bootmatrix(here, name, M)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_missing_file(here: Path) -> None:
    done = bootmatrix(here, "run", "nope.yaml")
    assert (done.returncode, done.stderr) == (2, "bootmatrix: nope.yaml: no such matrix file\n")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ctrl_c_tells_what_was_done(here: Path, name: str) -> None:
    plant(here)
    (here / "conftest.py").write_text((here / "conftest.py").read_text() + (
        "import os, signal\n"
        "def pytest_runtest_logfinish(nodeid):\n"
        f"    if 'q35' in nodeid: os.kill(os.getpid(), signal.{name})\n"))
    done = bootmatrix(here, "run", M, "-n", "1")
    assert done.returncode == 130
    assert "4 cells: 3 passed, 1 known (silent)" in done.stdout
    assert (here / "rig.log").read_text().endswith("close main\n")


def test_ctrl_c_with_workers(here: Path) -> None:
    plant(here, hang=Q35_GUEST)
    with subprocess.Popen(command("run", M, "-n", "2"), cwd=here, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 30
        while not (here / "hanging").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)  # a file's appearance has no event that the standard library waits for
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output


def test_list_starts_nothing(here: Path) -> None:
    plant(here)
    (here / "built.json").write_text("[]")
    done = bootmatrix(here, "list", M)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 6 + 2 + 6
    assert lines[0] == I440FX_STOCK
    assert "6 cells" in lines
    assert "  policy:    stock 2, guest-owned 2, machine-owned 2" in lines
    assert not (here / "rig.log").exists()
    assert not (here / "runs").exists()


def test_list_selects_as_pytest_does(here: Path) -> None:
    plant(here)
    done = bootmatrix(here, "list", M, "-k", "q35 and guest-owned", "--json")
    assert [cell["id"] for cell in json.loads(done.stdout)] == [Q35_GUEST]
    done = bootmatrix(here, "list", M, "-m", "policy(name='stock')", "--json")
    assert [cell["id"] for cell in json.loads(done.stdout)] == [I440FX_STOCK, Q35_STOCK]
    done = bootmatrix(here, "list", M, "-k", "q35 and (")
    assert done.returncode == 2
    assert done.stderr.startswith("bootmatrix: Wrong expression passed to '-k'")
    assert not (here / "runs").exists()


def test_list_tells_of_an_axis_where_a_cell_is_not_at_its_default(here: Path) -> None:
    plant(here, matrix=MATRIX.replace(
        "  disk: ahci\n", '  disk: ahci\n  guest: linux\n  cpu: ["", max]\n'))
    done = bootmatrix(here, "list", M)
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"{I440FX_STOCK},linux", f"{I440FX_STOCK},linux,cpu-max"]
    assert lines[-3:] == ["  accel:     tcg 12", "  guest:     linux 12",
                          "  cpu:       default 6, max 6"]
    done = bootmatrix(here, "list", M, "-k", "q35 and guest-owned and max", "--json")
    (cell,) = json.loads(done.stdout)
    assert {axis: cell[axis] for axis in ("arch", "guest", "cpu", "smp", "nic")} == {
        "arch": "x86_64", "guest": "linux", "cpu": "max", "smp": 1, "nic": "none"}
    done = bootmatrix(here, "run", M, "--cell", f"{Q35_GUEST},linux,cpu-max", "-n", "1",
                      "--junit-xml", "j.xml")
    assert done.returncode == 0
    assert "pc-q35-5.2, linux, cpu max" in done.stdout.splitlines()
    assert '<property name="cpu" value="max" />' in (here / "j.xml").read_text()
    assert 'name="smp"' not in (here / "j.xml").read_text()


def test_list_does_not_build_to_find_the_newest_machine(here: Path) -> None:
    plant(here, matrix=MATRIX.replace("[pc-i440fx-5.2, pc-q35-5.2]", "newest-common"))
    (here / "built.json").write_text("[]")
    done = bootmatrix(here, "list", M)
    assert done.returncode == 2
    assert "bootmatrix images build debian-bullseye" in done.stderr


def test_images(here: Path) -> None:
    done = bootmatrix(here, "images", "list")
    assert done.stdout.splitlines() == [
        "NAME             SUITE     QEMU   FIRMWARE   SIZE    BUILT       SHA256",
        "debian-bullseye  bullseye  5.2.0  seabios-1  185 MB  2026-01-01  abababababab",
        "debian-bookworm  bookworm                            not built",
        "debian-sid       sid       5.2.0  seabios-1  185 MB  2026-01-01  abababababab",
        "",
        "2 of 3 built, 370 MB"]
    assert len(json.loads(bootmatrix(here, "images", "list", "--json").stdout)) == 3
    assert bootmatrix(here, "images", "list", "nope").returncode == 2
    assert bootmatrix(here, "images", "build", "debian-sid").stdout == "1 image there\n"
    assert bootmatrix(here, "images", "build").returncode == 3
    assert bootmatrix(here, "images", "rm", "debian-sid").stdout == (
        "185 MB freed, 1 image removed from the Docker engine\n")
    assert bootmatrix(here, "images", "rm", "nope").returncode == 2


def test_schema_is_json(here: Path) -> None:
    assert "properties" in json.loads(bootmatrix(here, "schema").stdout)


def test_a_reader_that_had_enough(here: Path) -> None:
    plant(here)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} bootmatrix.py list {M} | head -n 1"], cwd=here,
        capture_output=True, text=True)
    assert done.stdout == I440FX_STOCK + "\n"
    assert done.stderr == ""
