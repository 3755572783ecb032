"""QEMUs that plant links, FIFOs and directories at every name that the harness uses, and more."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootmatrix.builds.host import Builds
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.engines import Engine
from bootmatrix.files.cell_files import CellDir
from bootmatrix.machines.qemu import command_line
from bootmatrix.model import Verdict
from bootmatrix.records.model import Record
from bootmatrix.run.runner import Runner
from helpers.cells import cell
from helpers.programs import PROGRAMS

SECRET = "the secret of another user's"
# What lies in the place of $f then, in the words of the sandbox's shell.
PLANTS = {
    "a link to a secret": "ln -s SECRET $f",
    "a link to what can be made": "ln -s SECRET.made $f",
    "a link to zeros": "ln -s /dev/zero $f",
    "a FIFO": "mkfifo $f",
    "a directory": "mkdir $f",
}
# Names that were used before, or that are used elsewhere now: at none of them is anything found.
FORMER = ("console.log", "1-source/console.log", "2-destination/console.log", "bios.new",
          "1-source/console.sock", "1-source/monitor.sock", "2-destination/migration-stream",
          "2-destination/monitor.sock", "source/bios.bin", "destination/bios.new",
          "destination/vars.fd", "destination/nvram.bin.new", "probe.log")  # fmt: skip
ROUTE, SCENARIO = "bullseye sid", "migrate-reset"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    place = tmp_path / "others"
    place.mkdir()
    path = place / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


ROUNDS = 12
"""How often exchanged names are tried until they have been in somebody's way; at least thrice."""
AT_WORK = "until ls -a | grep -q 'disk.img~'; do usleep 1000; done; exec \"$@\""
"""Goes on where the exchanging has begun."""


@contextmanager
def started_by(monkeypatch: pytest.MonkeyPatch, scripts: Mapping[str, str]) -> Iterator[None]:
    """The QEMUs of a role are started by a script, with the command line as its arguments.

    It has all the freedom that a QEMU has which is none.
    """
    real = command_line.qemu_argv

    def wrapped(launch: command_line.Launch) -> tuple[str, ...]:
        argv = real(launch)
        for role, script in scripts.items():
            if launch.label.startswith(role):
                return ("/bin/busybox", "sh", "-c", script, "sh", *argv)
        return argv

    with monkeypatch.context() as patched:
        patched.setattr("bootmatrix.machines.qemu.machine.qemu_argv", wrapped)
        yield


def touched(runner: Runner, policy: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names in the cell's directory that the harness itself uses in an honest run."""
    names: list[str] = []
    at = CellDir._at

    def noting(self: CellDir, name: str, **more: bool) -> object:
        names.append(name)
        return at(self, name, **more)

    with monkeypatch.context() as patched:
        patched.setattr(CellDir, "_at", noting)
        record = runner.run(cell(ROUTE, policy, SCENARIO))
    assert record["verdict"] == Verdict.PASS, record["reason"]
    return list(dict.fromkeys(names))


def planted(kind: str, secret: Path, *names: str) -> str:
    """Shell that puts something in the place of names, from inside."""
    plant = PLANTS[kind].replace("SECRET", str(secret))
    return f"for f in {' '.join(names)}; do rm -rf $f; {plant}; done 2>/dev/null; "


def unharmed(record: Record, secret: Path, run_dir: Path) -> None:
    assert secret.read_text() == SECRET
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.stat().st_uid == os.getuid()
    assert [path.name for path in secret.parent.iterdir()] == ["secret"]
    assert SECRET not in json.dumps(record)
    kept = [path for path in run_dir.rglob("*") if not path.is_dir()]
    assert all(path.is_file() and not path.is_symlink() for path in kept)
    assert sum(path.stat().st_size for path in kept) < 64 << 20
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("policy", ["guest-owned", "stock"])
@pytest.mark.thorough
def test_something_else_at_every_name(
    store: ImageStore, bubblewrap: Engine, secret: Path, tmp_path: Path, policy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One name a run, planted by the source before it starts; a new name is tried by itself."""
    run_dir = tmp_path / "run"
    with Runner(Builds(store), bubblewrap, run_dir) as runner:
        names = touched(runner, policy, monkeypatch)
        assert {"disk.img", "1-source", "2-destination", "1-source/qemu.log"} <= {*names}
        if policy == "guest-owned":
            assert {"source/nvram.bin", "destination/nvram.bin.incoming"} <= {*names}
        else:  # its own ones
            others = touched(runner, "guest-owned", monkeypatch)
            names = [name for name in names if name not in others]
        found = 0
        kinds = list(PLANTS)
        for number, name in enumerate(names):
            plant = planted(kinds[number % len(kinds)], secret, name)
            if "/" in name:  # at once, or when the directory is there
                place = name.partition("/")[0]
                plant = f"{{ while ! [ -d {place} ]; do usleep 500; done; {plant} }} &"
            script = plant + ' exec "$@"'
            with started_by(monkeypatch, {"source": script}):
                record = runner.run(cell(ROUTE, policy, SCENARIO, seconds=3.0))
            unharmed(record, secret, run_dir)
            if record["verdict"] == Verdict.ERROR:
                assert f"cell/{name}" in record["reason"], (name, record["error"])
                found += 1
        # On a busy machine some are there only after the name has been used.
        assert found >= len(names) // 5, "they matter"
        record = runner.run(cell(ROUTE, policy, SCENARIO))
        assert record["verdict"] == Verdict.PASS, record["reason"]


def test_at_all_names_all_the_time(
    store: ImageStore, engine: Engine, secret: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Before, during and after their use: planted and replaced as fast as a shell can."""
    run_dir = tmp_path / "run"
    with Runner(Builds(store), engine, run_dir) as runner:
        names = (*touched(runner, "guest-owned", monkeypatch), *FORMER)
        later = [name for name in names if not name.startswith("1-source")]
        kinds = ("a link to a secret", "a link to what can be made", "a FIFO")
        for kind in kinds if engine.name == "bubblewrap" else kinds[:1]:
            script = f"{{ while true; do {planted(kind, secret, *later)} done; }} & exec \"$@\""
            with started_by(monkeypatch, {"source": script}):
                record = runner.run(cell(ROUTE, "guest-owned", SCENARIO, seconds=3.0))
            unharmed(record, secret, run_dir)
            # A QEMU that opens a name while it is not there refuses to start.
            assert record["verdict"] in (Verdict.ERROR, Verdict.BLOCKED), record["reason"]
        record = runner.run(cell(ROUTE, "guest-owned", SCENARIO))
        assert record["verdict"] == Verdict.PASS, record["reason"]


def test_names_that_are_exchanged_between_any_two_looks(
    store: ImageStore, bubblewrap: Engine, secret: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """By a program in C, at all names that the harness uses, in each order of kinds.

    Who looks is the harness, on the host: its engine has no part in that. (That files are where it
    looks in Docker too is in the test above.)
    """
    run_dir = tmp_path / "run"
    subprocess.run(["clang", "-static", "-O1", "-o", tmp_path / "swaps", PROGRAMS / "swaps.c"],
                   check=True)
    copy_in = CellDir.copy_in

    def bring(self: CellDir, source: Path, name: str) -> None:
        copy_in(self, source, name)
        if not self.exists("swaps"):
            copy_in(self, tmp_path / "swaps", "swaps")

    with Runner(Builds(store), bubblewrap, run_dir) as runner:
        names = touched(runner, "guest-owned", monkeypatch)
        monkeypatch.setattr(CellDir, "copy_in", bring)
        found: set[str] = set()
        for first in range(ROUNDS):
            turned = " ".join([*names[first % 3:], *names[:first % 3]])
            script = f"chmod 755 swaps; {{ ./swaps {secret} {turned}; }} & " + AT_WORK
            with started_by(monkeypatch, {"source": script}):
                record = runner.run(cell(ROUTE, "guest-owned", SCENARIO, seconds=3.0))
            unharmed(record, secret, run_dir)
            found.add(record["verdict"])
            if first >= 2 and {Verdict.ERROR, Verdict.BLOCKED} & found:
                break
        # The harness may be the quicker one; but something was in its way once, or in QEMU's.
        assert {Verdict.ERROR, Verdict.BLOCKED} & found
        monkeypatch.setattr(CellDir, "copy_in", copy_in)
        record = runner.run(cell(ROUTE, "guest-owned", SCENARIO))
        assert record["verdict"] == Verdict.PASS, record["reason"]


def test_former_names_are_nothing_to_the_harness(
    store: ImageStore, bubblewrap: Engine, secret: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What was read or written in the cell and is elsewhere now: a link there changes nothing."""
    others = [name for name in FORMER if "/" not in name or name.startswith(("1-", "source/"))]
    run_dir = tmp_path / "run"
    with Runner(Builds(store), bubblewrap, run_dir) as runner:
        script = planted("a link to a secret", secret, *others) + 'exec "$@"'
        with started_by(monkeypatch, {"source": script}):
            record = runner.run(cell(ROUTE, "stock", SCENARIO))
        assert record["verdict"] == Verdict.PASS, record["reason"]
        unharmed(record, secret, run_dir)


def test_what_is_shown_cannot_be_changed(
    store: ImageStore, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """
        cd /tmp/bootmatrix || exit
        for f in source/bios.bin 1-source/monitor.sock 1-source; do
            mv $f $f.away; rm -rf $f; chmod 777 $f; ln -sf /etc/passwd $f; echo x >>source/bios.bin
        done
        touch new 1-source/new; mount -o remount,rw /tmp/bootmatrix; umount /tmp/bootmatrix
        mv /tmp/bootmatrix /tmp/away
        /bin/busybox find . | /bin/busybox sort >&2
        cd /cell; exec "$@"
    """
    with Runner(Builds(store), engine, tmp_path) as runner:
        with started_by(monkeypatch, {"source": script}):
            record = runner.run(cell("sid", "stock", "cold-boot"))
        assert record["verdict"] == Verdict.PASS, record["reason"]
    log = (tmp_path / record["artifacts"] / "1-source" / "qemu.log").read_text()
    assert "./1-source/monitor.sock\n" in log
    assert "away\n" not in log
    assert "/new\n" not in log


TAKE = """
    {{ while ! [ -S {socket} ]; do sleep 0.01; done
      "$1" -M none -nodefaults -display none -S \
           -chardev socket,id=c,path={socket},server=off -serial chardev:c; }} 2>/dev/null &
    exec "$@"
"""


@pytest.mark.parametrize(("route", "verdict"), [
    ("sid sid", Verdict.ERROR),  # one build, one sandbox: it is another process all the same
    ("sid trixie", Verdict.PASS),  # of another build it does not even see the sockets
])
def test_the_destinations_console_is_not_taken(
    store: ImageStore, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    route: str, verdict: Verdict,
) -> None:  # fmt: skip
    take = TAKE.format(socket="/tmp/bootmatrix/2-destination/console.sock")
    late = "/bin/busybox sleep 1; exec \"$@\""
    with Runner(Builds(store), engine, tmp_path) as runner, \
            started_by(monkeypatch, {"source": take, "destination": late}):
        record = runner.run(cell(route, "stock", SCENARIO))
    assert record["verdict"] == verdict, record["reason"]
    if verdict is Verdict.ERROR:
        assert "another process than its QEMU" in record["reason"]
        assert "console.sock" in record["reason"]


@pytest.mark.parametrize(("which", "passed"), [
    ("cannot_be_changed or not_taken", 3),
    pytest.param("all_the_time", 1, marks=pytest.mark.thorough)])
def test_the_same_where_the_harness_is_a_plain_user(
    store: ImageStore, tmp_path: Path, which: str, passed: int
) -> None:
    """Sandboxes run as that user then: what is not theirs is so by the mounts alone."""
    plain = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if not os.getuid() else []
    done = subprocess.run(
        [*plain, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp",
         tmp_path / "plain", __file__, "-k",
         f"bubblewrap and ({which})"],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert f"{passed} passed" in done.stdout, done.stdout
