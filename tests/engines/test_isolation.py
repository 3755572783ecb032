"""From inside both engines, as a firmware or guest that took over its QEMU would try: the host."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine, Sandbox
from bootmatrix.model import Grant, QemuBuild
from helpers.leavings import until

BUSYBOX = "/bin/busybox"
HARMLESS = {
    "busybox",  # the launcher's program, in bubblewrap
    "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr",
    "stdin", "stdout", "tty", "urandom", "zero",
}


@pytest.fixture(scope="module")
def build(store: ImageStore) -> QemuBuild:
    return store.qemu("debian-bookworm")


@pytest.fixture
def sandbox(engine: Engine, build: QemuBuild, tmp_path: Path) -> Iterator[Sandbox]:
    (tmp_path / "cell").mkdir()
    with engine.sandbox(build, tmp_path / "cell") as opened:
        yield opened


def shell(sandbox: Sandbox, script: str) -> tuple[int, str]:
    log = sandbox.cell_dir / "shell.log"
    process = sandbox.launch([BUSYBOX, "sh", "-c", script], log)
    return process.wait(Deadline.after(60)), log.read_text(errors="replace")


MAKE_A_DEVICE = "mknod /cell/disk b 8 0; mknod /cell/mem c 1 1; mknod /cell/kvm c 10 232"


def test_devices(sandbox: Sandbox) -> None:
    _, output = shell(sandbox, "ls /dev")
    assert set(output.split()) - HARMLESS == set()
    status, output = shell(sandbox, MAKE_A_DEVICE)
    assert status != 0
    assert output.count("not permitted") == 3


@pytest.mark.kvm
def test_with_kvm_there_is_kvm_and_nothing_else(
    engine: Engine, build: QemuBuild, tmp_path: Path
) -> None:
    (tmp_path / "cell").mkdir()
    (tmp_path / "plain").mkdir()
    everything = "ls /dev; find / -path /proc -prune -o \\( -type b -o -type c \\) -print"
    around = "id; find / -maxdepth 2 | sort; cat /proc/self/status | grep -E 'Cap|NoNew|Seccomp:'"
    with engine.sandbox(build, tmp_path / "plain") as plain, \
            engine.sandbox(build, tmp_path / "cell", grants={Grant.KVM}) as sandbox:
        had = set(shell(plain, everything)[1].split())
        assert set(shell(sandbox, everything)[1].split()) - had == {"kvm", "/dev/kvm"}
        assert shell(sandbox, MAKE_A_DEVICE)[1].count("not permitted") == 3
        # neither another user nor group than without, nor more rights, nor anything to be seen
        here, there = (set(shell(box, around)[1].splitlines()) for box in (sandbox, plain))
        assert {line for line in here ^ there if not line.startswith("/proc/")} == {"/dev/kvm"}


@pytest.mark.userfaultfd
def test_with_userfaultfd_there_is_that_and_nothing_else(
    engine: Engine, build: QemuBuild, tmp_path: Path
) -> None:
    (tmp_path / "cell").mkdir()
    with engine.sandbox(build, tmp_path / "cell", {Grant.USERFAULTFD}) as sandbox:
        _, output = shell(sandbox, "ls /dev; exec 3<>/dev/userfaultfd && echo open")
        assert set(output.split()) - HARMLESS == {"userfaultfd", "open"}


def test_other_cells_directories(
    engine: Engine, build: QemuBuild, sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour" / "needle").write_text("theirs")
    with engine.sandbox(build, tmp_path / "neighbour") as neighbour:
        script = "find / -xdev -name needle 2>/dev/null; find /cell /tmp -name needle"
        assert "needle" in shell(neighbour, script)[1]
        assert "needle" not in shell(sandbox, script)[1]
        # by way of a link, a path upwards, or somebody's open descriptors
        (sandbox.cell_dir / "link").symlink_to(tmp_path / "neighbour" / "needle")
        script = ("cat /cell/link /cell/../neighbour/needle; "
                  "for p in /proc/[0-9]*; do cat $p/root/cell/needle $p/cwd/needle; done")
        assert "theirs" not in shell(sandbox, script)[1]


def pids_of(word: str) -> list[int]:
    """Of the processes, as this host has them, with that word on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def test_a_neighbour_with_the_same_pid_is_not_taken_for_a_program(
    engine: Engine, build: QemuBuild, sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "neighbour").mkdir()
    with engine.sandbox(build, tmp_path / "neighbour") as neighbour:
        words, programs = {}, {}
        for box in (sandbox, neighbour):
            words[box] = str(10**6 + id(box) % 10**6)
            programs[box] = box.launch([BUSYBOX, "sleep", words[box]], box.cell_dir / "log")
        for box, other in ((sandbox, neighbour), (neighbour, sandbox)):
            assert until(lambda word=words[box]: len(pids_of(word)) == 1)  # type: ignore[misc]
            [pid] = pids_of(words[box])
            assert programs[box].includes(pid, Deadline.after(60)) is True
            assert programs[other].includes(pid, Deadline.after(60)) is False


def test_the_host_s_network(sandbox: Sandbox) -> None:
    name = f"bootmatrix-test-{id(sandbox)}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        port = tcp.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            tcp.accept()[0].close()
        tcp.settimeout(0.2)
        status, _ = shell(sandbox, f"echo hello | nc -w 2 127.0.0.1 {port}")
        assert status != 0
        with pytest.raises(TimeoutError):
            tcp.accept()
        assert name in Path("/proc/net/unix").read_text()
        assert name not in shell(sandbox, "cat /proc/net/unix")[1]


def test_the_kernel_s_knobs(sandbox: Sandbox) -> None:
    script = """
        for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches \
                 /sys/kernel/uevent_helper /proc/1/oom_score_adj.; do
            echo x 2>/dev/null >$f && echo wrote $f
        done
        mount -t tmpfs none /cell 2>/dev/null && echo mounted
        umount /cell 2>/dev/null && echo unmounted
        chroot / true 2>/dev/null && echo chrooted
        hostname other 2>/dev/null && echo renamed
        true
    """
    assert shell(sandbox, script) == (0, "")


def test_a_file_that_never_ends(sandbox: Sandbox) -> None:
    """Refused at the limit, not killed: who writes too much into its log goes on."""
    script = "dd if=/dev/zero of=/cell/big bs=1M count=300 2>&1; echo and on; rm /cell/big"
    _, output = shell(sandbox, script)
    assert "File too large" in output
    assert output.endswith("and on\n")
