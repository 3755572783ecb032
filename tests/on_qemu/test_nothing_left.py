"""Real runs that are killed, interrupted, starved and put to sleep: nothing is lost or left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.errors import EngineError, HarnessError
from bootmatrix.machines.console import Console
from bootmatrix.machines.qemu import migration
from bootmatrix.machines.qemu.machine import QemuMachine
from bootmatrix.machines.qemu.migration import Migration
from bootmatrix.machines.qemu.process import VM
from bootmatrix.model import Verdict
from bootmatrix.records.jsonl import read_records
from bootmatrix.run import guest
from bootmatrix.run.rig import Rig
from helpers.cells import cell
from helpers.leavings import containers, leftovers, processes, until, wait_for

ENGINES = ("bubblewrap", pytest.param(
    "docker", marks=[pytest.mark.docker, pytest.mark.thorough]))
"""Docker itself is tests/engines' matter: a run in it is the same run, and CI has that, too."""
IN_BUBBLEWRAP = pytest.mark.parametrize("place", ["bubblewrap"], indirect=True)
"""What an engine has no part in, or no other one than at a test of both."""
DOCKER_IS_THOROUGH = pytest.mark.parametrize("place", [
    "bubblewrap", pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.thorough])],
    indirect=True)
CELLS = 6
FOUR = ("-k", "not guest-owned")
"""The cells of a run that nobody ends: one is run, and there are others still."""
MATRIX = """
schema: 1
hosts:
  bullseye: {qemu: debian-bullseye}
  sid: {qemu: debian-sid}
axes:
  source: [bullseye, sid]
  destination: [bullseye, sid]
  machine: pc-i440fx-5.2
  policy: [stock, guest-owned, machine-owned]
  scenario: migrate-reset
  disk: ide
boot-timeout: 5
exclude:
  - {source: bullseye, destination: bullseye}
  - {source: sid, destination: sid}
"""


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, store: ImageStore, tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "m.yaml").write_text(MATRIX)
    place = Place(tmp_path, request.param)
    yield place
    place.end()


class Place:
    """A directory, and the runs in it."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path = path
        self.engine = engine
        self.out = path / "out"
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, jobs: int = 1) -> subprocess.Popen[str]:
        """A run; its arguments are those of a new one in out/ unless they say something else."""
        where = [] if "--resume" in arguments else ["--run-dir", "out"]
        run = subprocess.Popen(
            [Path(sys.executable).with_name("bootmatrix"), "run", "m.yaml", "-n", str(jobs),
             "--engine", self.engine, *where, *arguments],
            cwd=self.path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, env=os.environ | {"TMPDIR": str(self.path / "tmp")})
        self._started.append(run)
        return run

    def resume(self, *arguments: str, jobs: int = 1) -> tuple[int, str]:
        run = self.start("--resume", "out", *arguments, jobs=jobs)
        output, _ = run.communicate(timeout=300)
        return run.returncode, output

    def ids(self) -> list[str]:
        path = self.out / "records.jsonl"
        return [r["cell"]["id"] for r in read_records(path)] if path.exists() else []

    def wait_for_records(self, number: int) -> None:
        path = self.out / "records.jsonl"
        wait_for(self._started[-1], lambda: (
            path.exists() and path.read_bytes().count(b"\n") >= number))

    def leftovers(self, *, scratch: bool = True) -> list[str]:
        return leftovers(self.path, scratch=scratch, engine=self.engine)

    def nothing_left(self, *, scratch: bool = True) -> None:
        until(lambda: not self.leftovers(scratch=scratch))
        assert self.leftovers(scratch=scratch) == []

    def end(self) -> None:
        for run in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            with contextlib.suppress(ValueError):
                run.communicate()


def not_run(output: str) -> int:
    """The number of cells of which a run says that it has no record: not run, or killed in it."""
    return sum(int(line.partition(": ")[2].split()[0]) for line in output.splitlines()
               if line.startswith(("not run: ", "ended without a record: ")))


def workers(run: subprocess.Popen[str]) -> list[int]:
    """xdist's, which are this run's children with Python in them."""
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    return [int(pid) for pid in children
            if b"exec(eval(" in Path(f"/proc/{pid}/cmdline").read_bytes()]


# ---- who is looking sees what is there ------------------------------------------------------


@DOCKER_IS_THOROUGH
def test_what_is_left_is_seen(place: Place) -> None:
    """And of a run that nothing happens to, nothing is; its records are one JSON object each."""
    run = place.start("--json", "all.jsonl", *FOUR)
    place.wait_for_records(1)

    def left() -> list[str]:
        # To look at all processes can take longer than a cell: the run stands still meanwhile.
        os.killpg(run.pid, signal.SIGSTOP)
        try:
            return place.leftovers()
        finally:
            os.killpg(run.pid, signal.SIGCONT)

    assert any(entry.startswith("scratch ") for entry in left())
    if place.engine == "docker":
        assert containers(place.path)
    wait_for(run, lambda: any("qemu-system" in entry for entry in left()))
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output
    place.nothing_left()
    assert not_run(output) == 0
    lines = (place.path / "all.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["cell"]["id"] for line in lines) == sorted(place.ids())
    assert len(lines) == 4


# ---- SIGKILL --------------------------------------------------------------------------------


@pytest.mark.thorough  # what xdist makes of it is in run/test_resume.py, too
@IN_BUBBLEWRAP  # a sandbox whose owner is killed is one whatever the owner was: see below
def test_a_worker_is_killed(place: Place) -> None:
    run = place.start("--json", "all.jsonl", jobs=2)
    place.wait_for_records(2)
    os.kill(workers(run)[0], signal.SIGKILL)
    output, _ = run.communicate(timeout=300)
    # It may just have been between two cells: then nothing is lost at all, whatever xdist says. On
    # a busy machine some that it had run may have waited for their verdict.
    lost = not_run(output)
    assert lost <= 4
    assert run.returncode in ((3,) if lost else (0, 3)), output
    assert len(set(place.ids())) == CELLS - lost
    if lost:
        assert "crashed while running" in output
        assert "--resume out" in output
    place.nothing_left()
    code, output = place.resume()
    assert code == 0, output
    assert sorted(place.ids()) == sorted(set(place.ids()))
    assert len(place.ids()) == CELLS
    place.nothing_left()


@pytest.mark.parametrize(("place", "jobs", "whole"), [
    ("bubblewrap", 1, True), ("bubblewrap", 2, False),
    pytest.param("docker", 2, True, marks=[pytest.mark.docker, pytest.mark.thorough]),
], ids=["alone", "controller", "all-docker"], indirect=["place"])
def test_the_run_is_killed(place: Place, jobs: int, whole: bool) -> None:
    run = place.start(jobs=jobs)
    place.wait_for_records(2)
    if whole:
        os.killpg(run.pid, signal.SIGKILL)
    else:
        run.kill()
    run.communicate()
    # Its scratch directory stays, for it was killed; nothing else does.
    place.nothing_left(scratch=False)
    finished = place.ids()
    assert 2 <= len(finished) < CELLS
    if jobs > 1:  # to go on knows nothing of engines, or of who was killed
        return
    code, output = place.resume("--json", "all.jsonl")
    assert code == 0, output
    assert f"{len(finished)} from the earlier run" in output
    assert sorted(place.ids()) == sorted(set(place.ids()))
    assert len(list(read_records(place.path / "all.jsonl"))) == CELLS
    place.nothing_left()


# ---- Ctrl-C -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "records", "jobs"), [
    ("bubblewrap", 0, 1), pytest.param("bubblewrap", 1, 2, marks=pytest.mark.thorough),
    pytest.param("bubblewrap", 3, 1, marks=pytest.mark.thorough),
    pytest.param("docker", 1, 2, marks=[pytest.mark.docker, pytest.mark.thorough]),
], indirect=["place"])
def test_ctrl_c(place: Place, records: int, jobs: int) -> None:
    run = place.start(jobs=jobs)
    if records:
        place.wait_for_records(records)
    else:
        wait_for(run, lambda: any(place.out.glob("scratch-*")))  # its first cell is on its way
    os.killpg(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 130, output
    assert "Traceback" not in output, output
    finished = place.ids()
    assert len(finished) >= records
    assert not_run(output) == CELLS - len(finished), output
    place.nothing_left()
    if records == 3:
        code, output = place.resume()
        assert code == 0, output
        assert len(set(place.ids())) == CELLS


@DOCKER_IS_THOROUGH
@pytest.mark.thorough
def test_who_asks_again_and_again(place: Place) -> None:
    """Once is enough; what is tidied up is not hurried."""
    run = place.start(jobs=2)
    place.wait_for_records(1)
    asked = 0
    while run.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[asked % 3])
        asked += 1
        time.sleep(0.05)  # the pace of somebody impatient is what is tested
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 130, output
    assert "Traceback" not in output, output
    place.nothing_left()


# ---- a disk that is full ----------------------------------------------------------------------


@pytest.mark.thorough  # a cell that finds the disk full is in test_hostile_programs.py
@pytest.mark.skipif("os.getuid()", reason="only root can make a small disk")
@IN_BUBBLEWRAP
def test_a_full_disk(place: Place) -> None:
    place.out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place.out], check=True)
    try:
        run = place.start("--json", "all.jsonl")
        place.wait_for_records(2)
        with contextlib.suppress(OSError), (place.out / "filler").open("wb", 0) as filler:
            while True:
                filler.write(bytes(4096))
        output, _ = run.communicate(timeout=300)
        assert run.returncode == 3, output
        assert output.count("stopped: the rig broke: ") == 1
        assert "No space left on device" in output
        finished = place.ids()
        assert not_run(output) == CELLS - len(finished)
        assert {r["verdict"] for r in read_records(place.out / "records.jsonl")} == {"pass"}
        (place.out / "filler").unlink()
        code, output = place.resume()
        assert code == 0, output
        assert len(set(place.ids())) == CELLS
    finally:
        place.end()
        assert until(lambda: not subprocess.run(
            ["umount", place.out], capture_output=True).returncode)
    place.nothing_left()


# ---- a host that sleeps -----------------------------------------------------------------------


@IN_BUBBLEWRAP
@pytest.mark.thorough
def test_a_host_that_sleeps(place: Place) -> None:
    """Longer than a boot may take: the harness, and all that runs for it."""
    run = place.start(*FOUR)
    place.wait_for_records(1)
    os.killpg(run.pid, signal.SIGSTOP)
    stopped = []
    for pid in processes(place.path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
    time.sleep(4)  # the sleep is what is tested
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    os.killpg(run.pid, signal.SIGCONT)
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output
    assert len(set(place.ids())) == 4
    place.nothing_left()


# ---- QEMUs that are killed, in every step -------------------------------------------------------


@pytest.fixture(params=ENGINES)
def rig(request: pytest.FixtureRequest, store: ImageStore, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(request.param, tmp_path / "out")
    yield rig
    rig.close()
    assert leftovers(tmp_path, engine=request.param) == []


def kill_at_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = VM.connect

    def killed(self: VM, deadline: Any) -> None:
        self.process.kill()
        connect(self, deadline)

    monkeypatch.setattr(VM, "connect", killed)


def kill_in_boot(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    boot = guest.Guest.boot
    count = 0

    def killed(self: guest.Guest, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            self.able(QemuMachine).vm.process.kill()
        return boot(self, **options)

    monkeypatch.setattr(guest.Guest, "boot", killed)


def kill_in_migration(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    migrate = migration.migrate

    def killed(source: VM, destination: VM, *how: Any) -> Migration:
        (source if which == "source" else destination).process.kill()
        return migrate(source, destination, *how)

    monkeypatch.setattr(migration, "migrate", killed)


def kill_in_quit(monkeypatch: pytest.MonkeyPatch) -> None:
    quit_ = VM.quit

    def killed(self: VM, deadline: Any) -> None:
        self.process.kill()
        quit_(self, deadline)

    monkeypatch.setattr(VM, "quit", killed)


FIRST_BOOT = (lambda patch: kill_in_boot(patch, 1), "silent no-boot blocked", "exit status 137")


# That it was killed comes from an engine; in which step it was is nothing that one knows.
@pytest.mark.parametrize(("rig", "plant", "verdict", "words"), [
    ("bubblewrap", kill_at_connect, "blocked", "start: "),
    ("bubblewrap", *FIRST_BOOT),
    ("bubblewrap", lambda patch: kill_in_boot(patch, 2), "silent no-boot",
     "boot 2 (reset on destination): "),
    ("bubblewrap", lambda patch: kill_in_migration(patch, "source"), "blocked", "migrate: "),
    ("bubblewrap", lambda patch: kill_in_migration(patch, "destination"), "blocked", "migrate: "),
    ("bubblewrap", kill_in_quit, "pass", ""),  # it was to end anyway
    pytest.param("docker", *FIRST_BOOT, marks=pytest.mark.docker),
], ids=["start", "first boot", "reset", "source", "destination", "shutdown", "docker"],
   indirect=["rig"])
def test_a_qemu_is_killed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None], verdict: str, words: str,
) -> None:
    with monkeypatch.context() as patch:
        plant(patch)
        record = rig.run(cell("bookworm sid", "stock"), ())
    # Which it is depends on how far it was: it may have been quicker than its end.
    assert record["verdict"] in verdict.split(), record["reason"]
    assert words in record["reason"]
    assert verdict == "pass" or "exit status 137" in record["reason"], record["reason"]
    assert "retried" not in record
    following = rig.run(cell("bookworm sid", "stock"), ())
    assert following["verdict"] == Verdict.PASS


# ---- engines that break -------------------------------------------------------------------------


def sandboxes(rig: Rig, signal_: int) -> None:
    """Send a signal to all that runs in this rig's bubblewraps."""
    for pid in processes(rig.run_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_)


def break_engine(rig: Rig, how: str) -> None:
    if rig.engine.name == "bubblewrap":
        sandboxes(rig, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        return
    import docker

    client = docker.from_env()
    try:
        for found in containers(rig.run_dir):
            with contextlib.suppress(docker.errors.APIError):
                getattr(client.containers.get(found), how)()
    finally:
        client.close()


@pytest.mark.parametrize("when", ["between", "boot", "migration"])
def test_an_engine_is_killed_once(rig: Rig, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """It is replaced, the cell is run again, and the record says so."""
    rig.run(cell("bookworm sid", "stock"), ())
    broken: list[str] = []

    def break_once() -> None:
        if not broken:
            broken.append(when)
            break_engine(rig, "kill")

    if when == "between":
        break_once()
    elif when == "boot":
        wait = Console.wait_for_boot

        def wait_broken(self: Console, *arguments: Any) -> Any:
            break_once()
            return wait(self, *arguments)

        monkeypatch.setattr(Console, "wait_for_boot", wait_broken)
    else:
        migrate = migration.migrate

        def migrate_broken(*arguments: Any) -> Migration:
            break_once()
            return migrate(*arguments)

        monkeypatch.setattr(migration, "migrate", migrate_broken)
    record = rig.run(cell("bookworm sid", "stock"), ())
    assert record["verdict"] == "pass", record["reason"]
    assert broken
    if when != "between":  # the next sandbox is a new one anyway
        assert "has ended" in record["retried"]
    assert "retried" not in rig.run(cell("bookworm sid", "stock"), ())


def test_an_engine_that_stands_still(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paused, it neither answers nor ends."""
    monkeypatch.setattr("bootmatrix.engines.launcher.KILL_SECONDS", 1.0)
    monkeypatch.setattr("bootmatrix.run.guest.ANSWER_SECONDS", 1.0)
    wait = Console.wait_for_boot
    broken: list[str] = []

    def wait_paused(self: Console, *arguments: Any) -> Any:
        if not broken:
            broken.append("paused")
            break_engine(rig, "pause")
        return wait(self, *arguments)

    monkeypatch.setattr(Console, "wait_for_boot", wait_paused)
    record = rig.run(cell("sid", "stock", "cold-boot", seconds=1.0), ())
    assert record["verdict"] == "pass", record["reason"]
    assert record["retried"]


def test_an_engine_that_breaks_for_good(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second failure is the last: it is raised again, at once, for every later cell."""
    count = 0
    start = type(rig.engine)._start  # type: ignore[attr-defined]

    def refuse(*arguments: Any) -> object:
        nonlocal count
        count += 1
        raise EngineError("no namespaces today")

    monkeypatch.setattr(type(rig.engine), "_start", refuse)
    for _ in range(3):
        with pytest.raises(EngineError, match="no namespaces today"):
            rig.run(cell("sid", "stock", "cold-boot"), ())
    assert count == 2
    monkeypatch.setattr(type(rig.engine), "_start", start)
    with pytest.raises(HarnessError):
        rig.run(cell("sid", "stock", "cold-boot"), ())


@pytest.mark.docker
@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_a_daemon_that_does_not_answer_is_said_once(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    import socket

    place = Place(tmp_path, "docker")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "m.yaml").write_text(MATRIX)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute.sock"))
        mute.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/mute.sock")
        run = place.start(jobs=jobs)
        output, _ = run.communicate(timeout=300)
    (tmp_path / "mute.sock").unlink()
    assert run.returncode == 3, output
    assert output.count("stopped: the rig broke: docker: no engine answers") == 1
    assert not_run(output) == CELLS
    assert leftovers(tmp_path) == []
