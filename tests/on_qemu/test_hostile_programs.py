"""Programs in the place of QEMU that outlive a cell, or turn on what watches over them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import secrets
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine, Sandbox, choose, launcher
from bootmatrix.engines.confinement import CELL, SHOWN
from bootmatrix.engines.docker import ensure_image
from bootmatrix.engines.scratch import Scratch
from bootmatrix.errors import CellError, SandboxLost
from bootmatrix.files import cell_files
from bootmatrix.files.cell_files import CellDir, remove_tree
from bootmatrix.machines.qemu import command_line
from bootmatrix.machines.qemu.gdb import Gdb
from bootmatrix.machines.qemu.monitor import Monitor
from bootmatrix.machines.qemu.process import listen
from bootmatrix.model import (
    Channel,
    FirmwareSource,
    HostSpec,
    QemuBuild,
    QemuSource,
    Verdict,
)
from bootmatrix.records.jsonl import read_records
from bootmatrix.records.model import Record
from bootmatrix.run.rig import Rig
from bootmatrix.run.runner import Runner
from bootmatrix.steps.migrate import Migrate
from helpers.cells import HOSTS, cell
from helpers.leavings import leftovers, until
from helpers.own_builds import build_tree, sid_firmware
from helpers.programs import PROGRAMS

BUSYBOX = "/bin/busybox"
ENGINES = ("bubblewrap", pytest.param(
    "docker", marks=[pytest.mark.docker, pytest.mark.thorough]))
"""Docker itself is tests/engines' matter: a run in it is the same run, and CI has that, too."""

# In a session of its own, from a double fork, deaf to signals.
DAEMON = """
(trap '' TERM INT HUP
 /bin/busybox setsid /bin/busybox sh -c '(trap "" HUP TERM; exec /bin/busybox sleep 1000) &') &
until ps -o args | grep -q '^/bin/busybox sleep 100[0]'; do :; done
"""


@pytest.fixture(scope="module")
def build(store: ImageStore) -> QemuBuild:
    return store.qemu("debian-bookworm")


def shell(sandbox: Sandbox, script: str) -> str:
    log = sandbox.cell_dir / "shell.log"
    process = sandbox.launch([BUSYBOX, "sh", "-c", script], log)
    assert process.wait(Deadline.after(60)) == 0
    return log.read_text()


def compiled(name: str, place: Path, *options: str) -> None:
    """One of our programs, to run in any root."""
    source = PROGRAMS / f"{name}.c"
    subprocess.run(["clang", "-static", "-O1", *options, "-o", place / name, source], check=True)


# ---- what outlives a cell ---------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_a_daemon_dies_with_its_cell(
    engine: Engine, build: QemuBuild, tmp_path: Path, keep: bool
) -> None:
    with engine.sandbox(build, tmp_path, keep=keep) as sandbox:
        shell(sandbox, DAEMON)
        assert "sleep 1000" in shell(sandbox, "ps -o args")
        assert leftovers(tmp_path)
        first = sandbox._confinement  # type: ignore[attr-defined]
    if not keep:
        assert leftovers(tmp_path, engine=engine.name) == []
    with engine.sandbox(build, tmp_path, keep=keep) as sandbox:
        assert "sleep 1000" not in shell(sandbox, "ps -o args")
        assert (sandbox._confinement is first) == keep  # type: ignore[attr-defined]


def test_a_fork_bomb_dies_with_its_cell(engine: Engine, build: QemuBuild, tmp_path: Path) -> None:
    with engine.sandbox(build, tmp_path, keep=True) as sandbox:
        bomb = "b() { b & b & }; trap '' TERM; b; sleep 1000"
        sandbox.launch([BUSYBOX, "sh", "-c", bomb], tmp_path / "bomb.log")
        assert until(lambda: "fork" in (tmp_path / "bomb.log").read_text())
    with engine.sandbox(build, tmp_path, keep=True) as sandbox:
        assert len(shell(sandbox, "ps -o pid").split()) < 10


def test_only_the_cell_can_be_written(engine: Engine, build: QemuBuild, tmp_path: Path) -> None:
    """So there is no other place to leave something, and no memory to be filled with files."""
    (tmp_path / "cell").mkdir()
    (tmp_path / "shown").mkdir(mode=0o755)
    with engine.sandbox(build, tmp_path / "cell", shown=tmp_path / "shown") as sandbox:
        found = shell(sandbox, "find / -path /proc -prune -o -type d -print 2>/dev/null |"
                      "while read d; do { true >$d/.w; } 2>/dev/null && echo $d; done; true")
    assert set(found.split()) == {"/cell"}


# ---- who writes too much -------------------------------------------------------------------------

FILLS = {
    "more than 8 MiB": "dd if=/dev/zero of=/cell/big bs=1M count=9",
    "more than 4096 names": "mkdir /cell/d; i=0; while [ $i -lt 4200 ]; do i=$((i+1));"
                            " : >/cell/d/$i; done",
    "more than 32 directories in each other": "while mkdir d && cd d; do :; done",
}


@pytest.mark.parametrize("much", FILLS)
def test_who_writes_too_much_is_ended(
    engine: Engine, build: QemuBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, much: str
) -> None:
    monkeypatch.setattr(cell_files, "MOST_BYTES", 8 << 20)
    (tmp_path / "cell").mkdir()
    with engine.sandbox(build, tmp_path / "cell", keep=True) as sandbox:
        script = f"{FILLS[much]}; trap '' TERM HUP; sleep 1000"
        process = sandbox.launch([BUSYBOX, "sh", "-c", script], tmp_path / "cell" / "log")
        with pytest.raises(CellError, match=f"^{build.name} has left in /cell: {much}"):
            process.wait(Deadline.after(60))
        with pytest.raises(CellError, match=much):
            sandbox.launch([BUSYBOX, "true"], tmp_path / "cell" / "log")
    remove_tree(tmp_path / "cell")  # first: it can be deeper than what looks for the rest goes
    assert leftovers(tmp_path / "cell", engine=engine.name) == []


def test_two_that_share_a_cell_are_both_named(
    store: ImageStore, bubblewrap: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who of them has written it cannot be told."""
    monkeypatch.setattr(cell_files, "MOST_BYTES", 8 << 20)
    old, new = store.qemu("debian-bookworm"), store.qemu("debian-sid")
    with bubblewrap.sandbox(old, tmp_path) as one, bubblewrap.sandbox(new, tmp_path) as other:
        idle = other.launch([BUSYBOX, "sleep", "1000"], tmp_path / "other.log")
        one.launch([BUSYBOX, "sh", "-c", FILLS["more than 8 MiB"]], tmp_path / "log")
        with pytest.raises(CellError, match=r"^debian-bookworm and debian-sid have left "):
            idle.wait(Deadline.after(60))


# ---- who turns on the launcher -------------------------------------------------------------------


def test_who_kills_all_is_told_of(engine: Engine, build: QemuBuild, tmp_path: Path) -> None:
    """The launcher lives, and says that it has lost sight of the program, which goes on."""
    with engine.sandbox(build, tmp_path, keep=True) as sandbox:
        process = sandbox.launch([BUSYBOX, "sh", "-c", "kill -9 -1; sleep 1000"], tmp_path / "log")
        with pytest.raises(SandboxLost, match=f"of {build.name} was broken by what ran in it"):
            process.wait(Deadline.after(60))
    with engine.sandbox(build, tmp_path, keep=True) as sandbox:
        assert "1000" not in shell(sandbox, "ps -o args")


def test_who_stops_the_watcher_does_not_stop_us(
    engine: Engine, build: QemuBuild, tmp_path: Path
) -> None:
    with engine.sandbox(build, tmp_path, keep=True) as sandbox:
        stops = [BUSYBOX, "sh", "-c", "kill -STOP $PPID; exit 3"]
        assert sandbox.launch(stops, tmp_path / "log").wait(Deadline.after(60)) == 3
        stays = [BUSYBOX, "sh", "-c", "kill -STOP $PPID; echo stopped; sleep 1000"]
        process = sandbox.launch(stays, tmp_path / "stays.log")
        assert until(lambda: (tmp_path / "stays.log").read_text() == "stopped\n")
        process.kill()
        assert process.poll() == 128 + 9


def test_an_end_that_is_never_told_is_a_lost_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops the watcher again and again costs a cell its sandbox, and no run its engine."""
    monkeypatch.setattr(launcher, "KILL_SECONDS", 0.2)
    over = threading.Event()

    def output() -> Iterator[tuple[int, bytes]]:
        yield 1, b"started 1 7\n"
        over.wait()

    shell = launcher.Launcher("the sandbox", output(), lambda data: None, over.set)
    process = shell.launch(("qemu",), "log", lambda: "")
    process.tell_started(7)
    with pytest.raises(SandboxLost, match="was broken by what ran in it"):
        process.kill()
    shell.hang_up()
    shell.join()


def test_who_gives_a_descriptor_away_loses_its_sandbox_alone(
    bubblewrap: Engine, build: QemuBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tells that all of a bubblewrap is gone can be sent to a socket of the harness's."""
    monkeypatch.setattr("bootmatrix.engines.bubblewrap.KILL_SECONDS", 0.5)
    cell_dir, shown = tmp_path / "cell", tmp_path / "shown"
    cell_dir.mkdir()
    shown.mkdir()
    compiled("gives", shown)
    with listen(shown / "monitor.sock") as listener, contextlib.ExitStack() as opened:
        sandbox = opened.enter_context(bubblewrap.sandbox(build, cell_dir, shown=shown))
        sandbox.launch([f"{SHOWN}/gives", f"{SHOWN}/monitor.sock"], cell_dir / "log")
        with listener.accept()[0]:
            assert until(lambda: (cell_dir / "log").read_text() == "given\n")
            with pytest.raises(SandboxLost, match=f"of {build.name} lives"):
                opened.close()
    assert leftovers(cell_dir) == []


@pytest.mark.parametrize("channel", [Channel.TCP, Channel.FILE])
def test_no_qemu_is_given_a_socket_of_the_hosts_network(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, channel: Channel
) -> None:
    """Who has one, in whatever network, can disconnect it and connect it to something else."""
    given = []
    give = Monitor.execute_with_fd

    def looked_at(monitor: Monitor, command: str, arguments: Any, fd: int, **more: Any) -> Any:
        with socket.socket(fileno=os.dup(fd)) as end:
            given.append(end.family)
        return give(monitor, command, arguments, fd, **more)

    monkeypatch.setattr(Monitor, "execute_with_fd", looked_at)
    migrates = cell("bookworm sid", "stock")
    steps = [replace(step, channel=channel) if isinstance(step, Migrate) else step
             for step in migrates.scenario.steps]
    scenario = replace(migrates.scenario, steps=tuple(steps))
    record = runner.run(replace(migrates, scenario=scenario))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    assert given == [socket.AF_UNIX] * 2


def test_no_other_user_runs_what_a_sandbox_has_made_setuid(
    engine: Engine, build: QemuBuild, tmp_path: Path
) -> None:
    """Its owner on the host is who runs the harness, or nobody."""
    tmp_path.chmod(0o755)
    with Scratch(tmp_path / "scratch") as scratch, scratch.sandbox(engine, build) as sandbox:
        shell(sandbox, "cp /bin/busybox /cell/s; chmod 4755 /cell/s")
        assert scratch.cell.lstat("s").st_mode & stat.S_ISUID
        assert not scratch.directory.stat().st_mode & 0o077


def test_the_launcher_is_out_of_reach(engine: Engine, build: QemuBuild, tmp_path: Path) -> None:
    with engine.sandbox(build, tmp_path, keep=True) as sandbox:
        compiled("reach", tmp_path)
        assert shell(sandbox, "/cell/reach") == "done\n"
        assert shell(sandbox, "echo fine") == "fine\n"


@pytest.mark.docker
def test_a_lock_on_what_a_sandbox_sees_stops_nobody(
    store: ImageStore, bubblewrap: Engine, build: QemuBuild, tmp_path: Path
) -> None:
    """Who can open a file can lock it: its root, what is shown to it, and its own directory."""
    cell_dir, shown = tmp_path / "cell", tmp_path / "shown"
    cell_dir.mkdir()
    shown.mkdir()
    (shown / "bios.bin").touch()
    compiled("locks", shown)
    not_imported = replace(build, root_digest=secrets.token_hex(32))
    with contextlib.closing(docker.from_env()) as client:
        with bubblewrap.sandbox(build, cell_dir, shown=shown) as sandbox:
            places = ("/", "/usr", "/bin/busybox", CELL, SHOWN, f"{SHOWN}/bios.bin")
            sandbox.launch([f"{SHOWN}/locks", *places], cell_dir / "log")
            assert until(lambda: (cell_dir / "log").read_text() == "locked 6\n")
            imports = threading.Thread(target=ensure_image, args=(client, not_imported))
            imports.start()
            imports.join(60)
            stopped = imports.is_alive()
            with Runner(Builds(store), bubblewrap, tmp_path / "run") as runner:
                record = runner.run(cell("bookworm sid", "stock"))
                assert record["verdict"] == Verdict.PASS, record["reason"]
        imports.join()
        client.api.remove_image(ensure_image(client, not_imported))
    assert not stopped


def test_calls_that_no_qemu_needs_are_refused(
    engine: Engine, build: QemuBuild, tmp_path: Path
) -> None:
    with engine.sandbox(build, tmp_path) as sandbox:
        # Docker counts files in memory, and its profile has leases.
        compiled("calls", tmp_path, *["-DBUBBLEWRAP"] * (engine.name == "bubblewrap"))
        assert shell(sandbox, "/cell/calls") == "done\n"
        assert "Seccomp:\t2" in shell(sandbox, "cat /proc/self/status")


@pytest.fixture(params=ENGINES)
def rig(request: pytest.FixtureRequest, store: ImageStore, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(request.param, tmp_path / "out")
    yield rig
    rig.close()
    assert leftovers(tmp_path, engine=request.param) == []


def wrap(patch: pytest.MonkeyPatch, script: str) -> None:
    """Start each QEMU by a shell script, which has QEMU's command line as its arguments."""
    qemu_argv = command_line.qemu_argv
    patch.setattr("bootmatrix.machines.qemu.machine.qemu_argv", lambda launch: (
        BUSYBOX, "sh", "-c", script, "sh", *qemu_argv(launch)))


@pytest.mark.parametrize("script", [
    pytest.param('kill -9 -1; exec "$@"', marks=pytest.mark.thorough),
    "kill -9 -1; sleep 1000",
    'sh -c "kill -9 -1"; exec "$@"',
], ids=["and runs", "and stays", "and all"])
def test_a_cell_that_breaks_its_sandbox_is_an_error_and_the_others_run(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr("bootmatrix.machines.qemu.process.LAUNCH_SECONDS", 3.0)
    with monkeypatch.context() as patch:
        wrap(patch, script)
        record = rig.run(cell("sid", "stock", "cold-boot"), ())
    assert record["verdict"] == "error", record["reason"]
    assert "of debian-sid was broken by what ran in it" in record["reason"]
    assert "was broken by what ran in it" in record["retried"]
    following = rig.run(cell("bookworm sid", "stock"), ())
    assert following["verdict"] == "pass", following["reason"]
    assert "retried" not in following


def test_a_cell_that_fills_the_disk_is_an_error_and_the_others_run(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_files, "MOST_BYTES", 64 << 20)
    with monkeypatch.context() as patch:
        # It stays until it is ended: five looks a second can miss what is over sooner than that.
        wrap(patch, "dd if=/dev/zero of=/cell/source/big bs=1M count=100; exec sleep 1000")
        record = rig.run(cell("sid", "stock", "cold-boot"), ())
    assert record["verdict"] == "error", record["reason"]
    assert record["reason"] == "debian-sid has left in /cell: more than 64 MiB"
    assert "retried" not in record, "it would only fill the disk again"
    following = rig.run(cell("bookworm sid", "stock"), ())
    assert following["verdict"] == "pass", following["reason"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_disk_that_was_full_while_a_cell_ran_stops_no_run(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Of files that are removed and still open; the cell beside it did nothing and passes."""
    full = itertools.count(1)
    copy = CellDir.copy_in

    def copy_in(self: CellDir, source: Path, name: str) -> None:
        if next(full) <= times:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(self, source, name)

    monkeypatch.setattr(CellDir, "copy_in", copy_in)
    record = rig.run(cell("sid", "stock", "cold-boot"), ())
    assert re.search("was full while debian-sid ran, and has room again", record["retried"])
    assert record["verdict"] == ("pass" if times == 1 else "error"), record["reason"]
    assert rig.run(cell("sid", "stock", "cold-boot"), ())["verdict"] == "pass"


@pytest.mark.parametrize("own", ["qemu", pytest.param("firmware", marks=pytest.mark.thorough)])
def test_a_sandbox_of_a_build_of_ones_own_serves_no_other_cell(
    store: ImageStore, tmp_path: Path, own: str
) -> None:
    """Nor does that of the catalogue's QEMU at the other end, which had the same directory."""
    (tmp_path / "bios.bin").write_bytes(sid_firmware(store))
    mine = {"qemu": HostSpec("mine", QemuSource(build_tree(store, tmp_path / "tree"))),
            "firmware": HostSpec("mine", "debian-bookworm", FirmwareSource(tmp_path / "bios.bin"))}
    catalogued = cell("trixie sid", "stock")
    with choose("bubblewrap") as engine, Builds(store, tmp_path / "cache") as builds, \
            Runner(builds, engine, tmp_path / "run") as runner:
        def warm() -> set[str]:
            assert runner.run(tested)["verdict"] == Verdict.PASS
            return {confinement.launcher.name.split()[-1]
                    for confinement in engine._warm.values()}  # type: ignore[attr-defined]

        tested = catalogued
        assert warm() == {"debian-trixie", "debian-sid"}
        tested = replace(catalogued, hosts=(mine[own], HOSTS["sid"]))
        assert warm() == {"debian-trixie"}
        tested = catalogued
        assert warm() == {"debian-trixie", "debian-sid"}


# ---- what is seen of it at the command line ------------------------------------------------------

MATRIX = """
schema: 1
hosts:
  evil: {qemu: {path: evil}}
  sid: {qemu: debian-sid}
axes:
  source: [evil, sid]
  destination: sid
  machine: pc-i440fx-5.2
  policy: stock
  scenario: migrate-reset
  disk: ide
"""


KILLS = ("KILLS", 3, "error", "of qemu-[0-9a-f]{8} was broken by what ran in it")


# What is kept in /cell, and what a start that fails is called, is not for an engine to say.
@pytest.mark.parametrize(("engine_name", "how", "status", "verdict", "says"), [
    pytest.param("docker", *KILLS, marks=[pytest.mark.docker, pytest.mark.thorough]),
    pytest.param("bubblewrap", *KILLS, marks=pytest.mark.thorough),
    pytest.param("bubblewrap", "DEEP", 3, "error",
                 "qemu-[0-9a-f]{8} (has|have) left in /cell: more than 32 directories",
                 marks=pytest.mark.thorough),
    ("bubblewrap", "CLOSED", 1, "blocked", "start: "),
], ids=["kills-docker", "kills", "deep", "closed"])
def test_a_run_with_a_cell_that_breaks_its_sandbox(
    store: ImageStore, tmp_path: Path, engine_name: str, how: str, status: int, verdict: str,
    says: str,
) -> None:  # fmt: skip
    """The others run and pass, the status says what there was, and the build is named."""
    (tmp_path / "evil" / "pc-bios").mkdir(parents=True)
    compiled("breaks", tmp_path / "evil", f"-D{how}")
    (tmp_path / "evil" / "breaks").rename(tmp_path / "evil" / "qemu-system-x86_64")
    (tmp_path / "evil" / "pc-bios" / "bios-256k.bin").write_bytes(sid_firmware(store))
    (tmp_path / "m.yaml").write_text(MATRIX)
    done = subprocess.run(
        [Path(sys.executable).with_name("bootmatrix"), "run", "m.yaml", "--engine", engine_name,
         "-n", "1", "--run-dir", "out"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    records = [*read_records(tmp_path / "out" / "records.jsonl")]
    by_host = {(r["cell"]["source"]["host"], r["verdict"]) for r in records}
    assert by_host == {("evil", verdict), ("sid", "pass")}
    assert len(records) == 2
    for record in records:
        if record["verdict"] != "pass":
            assert re.search(says, record["reason"]), record["reason"]
            assert record["cell"]["id"] in done.stdout
    assert re.search(says, done.stdout), done.stdout
    assert leftovers(tmp_path, engine=engine_name) == []


@contextlib.contextmanager
def flooding(
    store: ImageStore, tmp_path: Path, what: str, engine_name: str = "bubblewrap"
) -> Iterator[Callable[[str, str], Record]]:
    """Runs a cell, of a policy and a scenario, with our program; the next one of others passes."""
    tree = tmp_path / "tree"
    (tree / "pc-bios").mkdir(parents=True)
    compiled("floods", tree, f'-DWHAT="{what}"')
    (tree / "floods").rename(tree / "qemu-system-x86_64")
    (tree / "pc-bios" / "bios-256k.bin").write_bytes(sid_firmware(store))
    hosts = (HostSpec("evil", QemuSource(tree)),)
    with choose(engine_name) as engine, Builds(store, tmp_path / "cache") as builds, \
            Runner(builds, engine, tmp_path / "run") as runner:
        yield lambda policy, scenario: runner.run(
            replace(cell("sid", policy, scenario, seconds=1.0), hosts=hosts))
        assert runner.run(cell("sid", "stock", "cold-boot"))["verdict"] == Verdict.PASS


@pytest.mark.parametrize("what", [
    "lines", "packets",
    *(pytest.param(what, marks=pytest.mark.thorough)
      for what in ("text", "banners", "ups", "events", "answers", "stops"))])
def test_a_qemu_that_answers_and_floods(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """On its console, on its monitor, or from its gdb stub: its own verdict is all that it gets."""
    attached = []
    attach = Gdb.attach

    async def noting(sock: socket.socket) -> Gdb:
        attached.append(sock)
        return await attach(sock)

    monkeypatch.setattr(Gdb, "attach", noting)
    # What a broken rig costs. Who floods waits for us more than it runs: no time is made good.
    monkeypatch.setattr("bootmatrix.run.guest.RIG_SECONDS", 1.0)
    monkeypatch.setattr("bootmatrix.run.guest.ANSWER_SECONDS", 1.0)
    monkeypatch.setattr("bootmatrix.machines.qemu.machine._STUB_SECONDS", 1.0)
    monkeypatch.setattr("bootmatrix.machines.qemu.able_clock.LONGEST_LOST", 1.0)
    with flooding(store, tmp_path, what) as run:
        record = run("reread", "reset")
    assert record["verdict"] not in (Verdict.PASS, Verdict.BLOCKED), record["reason"]
    assert attached or what not in ("packets", "stops")
    assert sum(file.stat().st_size for file in tmp_path.glob("run/cells/**/*")) < 10 << 20


def test_a_daemon_does_not_touch_later_cells(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes to every firmware that it finds in the cell's directory."""
    with monkeypatch.context() as patch:
        wrap(patch, "setsid sh -c 'while :; do for f in /cell/bios* /cell/*/bios* /cell/*.fd; do"
             " echo >$f; done; done' 2>/dev/null & sleep 0.1; exec \"$@\"")
        rig.run(cell("bookworm sid", "stock"), ())
    for _ in range(3):
        record = rig.run(cell("bookworm sid", "guest-owned"), ())
        assert record["verdict"] == "pass", record["reason"]


@pytest.mark.parametrize("engine_name", [
    "bubblewrap", pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.thorough])])
@pytest.mark.thorough
def test_a_qemu_that_always_wants_a_processor_and_never_has_one(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine_name: str
) -> None:
    """By processes of its own beside it: so it is kept waiting by nobody else."""
    monkeypatch.setattr("bootmatrix.machines.qemu.able_clock.LONGEST_LOST", 2.0)
    with flooding(store, tmp_path, "starves", engine_name) as run:
        begun = time.monotonic()
        record = run("stock", "cold-boot")
        assert record["verdict"] == Verdict.SILENT, record["reason"]
        assert time.monotonic() - begun < 60
