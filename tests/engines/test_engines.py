"""Both engines: what they promise, tried from inside a sandbox and by killing what owns it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bootmatrix import engines
from bootmatrix.builds.image_store import ImageStore
from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine, Sandbox, confinement
from bootmatrix.engines.confinement import Priority, reprioritise
from bootmatrix.errors import CellError, DeadlineExceeded, EngineError, UserError
from bootmatrix.files.cell_files import CellDir
from bootmatrix.model import Grant, QemuBuild
from helpers.leavings import until

BUSYBOX = "/bin/busybox"
BUILD = "debian-bookworm"
ENGINES = [
    pytest.param("bubblewrap", id="bubblewrap"),
    pytest.param("docker", id="docker", marks=pytest.mark.docker),
]


@pytest.fixture(scope="module")
def build() -> QemuBuild:
    store = ImageStore()
    store.build([BUILD], print)
    return store.qemu(BUILD)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with engines.choose(request.param) as chosen:
        yield chosen


@pytest.fixture(scope="module")
def cell_dir(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests of an engine, as a worker has it: its container is warm."""
    return tmp_path_factory.mktemp("cell")


@pytest.fixture
def sandbox(engine: Engine, build: QemuBuild, cell_dir: Path) -> Iterator[Sandbox]:
    with engine.sandbox(build, cell_dir, keep=True) as opened:
        yield opened


def shell(sandbox: Sandbox, script: str, seconds: float = 10) -> tuple[int, str]:
    """Exit status and output of a script that runs inside."""
    log = sandbox.cell_dir / "shell.log"
    process = sandbox.launch([BUSYBOX, "sh", "-c", script], log)
    return process.wait(Deadline.after(seconds)), log.read_text()


def processes_with(marker: str) -> list[int]:
    """The processes of this machine with ``marker`` in an argument, but for Pythons."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            held = any(marker.encode() in argument for argument in arguments)
            if held and b"python" not in arguments[0]:
                found.append(int(entry.name))
    return found


# ---- running programs -------------------------------------------------------------------


def test_status_and_output(sandbox: Sandbox) -> None:
    assert shell(sandbox, "pwd; echo wrong >&2; exit 7") == (7, "/cell\nwrong\n")


def test_arguments_arrive_as_they_are(sandbox: Sandbox) -> None:
    argv = ["two words", "", "$HOME `id` \\ 'q' \"Q\"", "line 1\nline 2\n", "ü;&|<>*?~!#"]
    log = sandbox.cell_dir / "a log 'of' words"
    process = sandbox.launch([BUSYBOX, "printf", "[%s]", *argv], log)
    assert process.wait(Deadline.after(60)) == 0
    assert log.read_text() == "".join(f"[{argument}]" for argument in argv)
    assert process.argv == (BUSYBOX, "printf", "[%s]", *argv)


def test_a_program_that_is_not_there(sandbox: Sandbox) -> None:
    log = sandbox.cell_dir / "missing.log"
    process = sandbox.launch(["/usr/bin/no-such-program"], log)
    assert process.wait(Deadline.after(60)) == 127
    assert "no-such-program" in log.read_text()


def test_a_signal_is_128_and_its_number(sandbox: Sandbox) -> None:
    assert shell(sandbox, "kill -TERM $$")[0] == 128 + signal.SIGTERM


def test_a_program_is_put_before_others_and_back() -> None:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as program:
        try:
            root = os.geteuid() == 0  # nobody else may come before others, nor go back
            for priority, nice in ((Priority.HIGH, -15 if root else 0), (Priority.LOW, 10),
                                   (Priority.USUAL, 0 if root else 10)):
                reprioritise(program.pid, priority)
                assert os.getpriority(os.PRIO_PROCESS, program.pid) == nice
                group = Path(f"/proc/{program.pid}/autogroup")
                if root and group.exists():
                    assert group.read_text().split()[-1] == str(nice)
        finally:
            program.kill()
    reprioritise(program.pid, Priority.HIGH)  # one that has ended


def test_what_yields_is_nice(build: QemuBuild, tmp_path: Path) -> None:
    """In its session, too, where the scheduler shares the processors among sessions."""
    with engines.choose("bubblewrap") as engine:
        engine.priority = Priority.LOW
        with engine.sandbox(build, tmp_path) as sandbox:
            group = "/proc/self/autogroup"
            ask = f"cut -d' ' -f19 /proc/self/stat; if [ -e {group} ]; then cat {group}; fi"
            processes = [sandbox.launch([BUSYBOX, "sh", "-c", ask], tmp_path / f"{number}.log")
                         for number in range(2)]
            for number, process in enumerate(processes):
                assert process.wait(Deadline.after(60)) == 0
                said = (tmp_path / f"{number}.log").read_text().splitlines()
                assert said[0] == "10"
                assert all(line.endswith(" nice 10") for line in said[1:]), said


def test_kill(sandbox: Sandbox) -> None:
    process = sandbox.launch([BUSYBOX, "sleep", "1000"], sandbox.cell_dir / "kill.log")
    assert process.poll() is None
    process.kill()
    assert process.poll() == 128 + signal.SIGKILL
    process.kill()
    assert process.wait(Deadline.after(0)) == 128 + signal.SIGKILL


def test_kill_leaves_no_process(sandbox: Sandbox) -> None:
    process = sandbox.launch([BUSYBOX, "sleep", "1000.0625"], sandbox.cell_dir / "kill.log")
    assert until(lambda: bool(processes_with("1000.0625")))
    process.kill()
    assert processes_with("1000.0625") == []


def test_waiting_ends_with_the_deadline(sandbox: Sandbox) -> None:
    log = sandbox.cell_dir / "wait.log"
    process = sandbox.launch([BUSYBOX, "sh", "-c", "echo here; exec sleep 1000"], log)
    assert until(lambda: log.read_text() == "here\n")
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"end of /bin/busybox") as late:
        process.wait(Deadline.after(0.05))
    assert time.monotonic() - begun < 30, "not a thousand"
    assert late.value.tail == "here"
    process.kill()


def test_leaving_a_sandbox_kills(engine: Engine, build: QemuBuild, cell_dir: Path) -> None:
    with engine.sandbox(build, cell_dir) as sandbox:
        left = [sandbox.launch([BUSYBOX, "sleep", "1000"], cell_dir / f"{n}.log") for n in (1, 2)]
    assert [process.poll() for process in left] == [137, 137]


def test_a_log_elsewhere_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not in the subpath"):
        sandbox.launch([BUSYBOX, "true"], tmp_path / "log")


def test_a_log_that_is_a_link_is_not_followed(sandbox: Sandbox, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    log = sandbox.cell_dir / "link.log"
    log.symlink_to(victim)
    with pytest.raises(CellError, match=r"link\.log: a symbolic link is there"):
        sandbox.launch([BUSYBOX, "true"], log)
    assert victim.read_text() == "precious"


def test_a_new_directory_under_an_old_name(
    engine: Engine, build: QemuBuild, tmp_path: Path
) -> None:
    for content in ("first", "second"):
        place = tmp_path / "cell"
        place.mkdir()
        (place / "file").write_text(content)
        with engine.sandbox(build, place) as sandbox:
            assert shell(sandbox, "cat file") == (0, content)
        place.rename(tmp_path / content)


def test_the_harness_and_the_sandbox_share_files_and_sockets(sandbox: Sandbox) -> None:
    """What the harness made before a launch can be written and connected to from inside."""
    place = sandbox.cell_dir
    with CellDir(place) as cell:
        cell.write("nvram", b"old")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "monitor"))
        (place / "monitor").chmod(0o666)
        listener.listen()
        listener.settimeout(10)
        assert shell(sandbox, "cat nvram; echo new > nvram") == (0, "old")
        qemu = sandbox.launch(
            ["/usr/bin/qemu-system-x86_64", "-M", "none", "-display", "none", "-nodefaults",
             "-chardev", "socket,id=m,path=/cell/monitor,server=off", "-mon", "m,mode=control"],
            place / "qemu.log",
        )
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            assert b'"QMP"' in connection.recv(4096)
        qemu.kill()
    assert (place / "nvram").read_text() == "new\n"
    (place / "monitor").unlink()


# ---- isolation --------------------------------------------------------------------------


def test_only_the_cell_can_be_written(sandbox: Sandbox) -> None:
    script = """
        for d in / /usr /etc /var /cell/.. /dev /proc /sys /tmp; do
            touch $d/x 2>/dev/null && echo $d
        done
        touch /cell/x && echo fine
        rm /cell/x
    """
    _, output = shell(sandbox, script)
    assert output == "fine\n"
    # and not for want of rights alone
    _, output = shell(sandbox, "grep -c ' / [^ ]* ro[, ]' /proc/mounts")
    assert output == "1\n"


def test_there_is_no_network(sandbox: Sandbox) -> None:
    _, output = shell(sandbox, "sed 1,2d /proc/net/dev | cut -d: -f1; cat /proc/net/route | sed 1d")
    assert output.split() == ["lo"]


def test_the_host_is_not_there(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for path in (secret, Path(__file__)):
        status, output = shell(sandbox, f"cat {path}")
        assert (status, "No such file" in output) == (1, True)


def test_the_host_s_processes_are_not_there(sandbox: Sandbox) -> None:
    script = f"kill -0 {os.getpid()} 2>/dev/null && echo alive; ls -d /proc/[0-9]*"
    _, output = shell(sandbox, script)
    assert "alive" not in output
    assert len(output.split()) < 10


def test_not_root_and_without_powers(sandbox: Sandbox) -> None:
    expected = os.getuid() or 65534
    _, output = shell(
        sandbox, "id -u; id -g; grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status"
    )
    uid, gid, *rest = output.splitlines()
    assert (uid, gid) == (str(expected), str(os.getgid() or 65534))
    facts = dict(line.split(":") for line in rest)
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(facts[capabilities], 16) == 0, capabilities
    assert facts["NoNewPrivs"].strip() == "1"


def test_what_runs_is_not_root_to_the_host_either(sandbox: Sandbox) -> None:
    process = sandbox.launch([BUSYBOX, "sleep", "1000.125"], sandbox.cell_dir / "uid.log")
    sleeping = [BUSYBOX.encode(), b"sleep", b"1000.125", b""]

    def found() -> list[int]:
        # The wrappers around it carry its arguments too.
        return [pid for pid in processes_with("1000.125")
                if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") == sleeping]

    assert until(lambda: bool(found()))
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in found()} == {os.getuid() or 65534}
    process.kill()


def test_too_many_processes(sandbox: Sandbox) -> None:
    status, output = shell(sandbox, "n=0; while [ $n -lt 400 ]; do sleep 100 & n=$((n+1)); done")
    assert status != 0
    assert "can't fork" in output
    # And its end is theirs, too; the kernel counts them until the last has ended.
    assert until(lambda: shell(sandbox, "sleep 0 & wait; echo fine") == (0, "fine\n"))


def test_too_much_memory(sandbox: Sandbox) -> None:
    """dd allocates one block, and fills it."""
    script = "dd if=/dev/zero of=/dev/null bs=5G count=1 iflag=fullblock"
    status, output = shell(sandbox, script, seconds=60)
    assert status == 137 or "out of memory" in output
    assert shell(sandbox, "echo fine") == (0, "fine\n")


KVM_ALONE = frozenset({Grant.KVM})
OPEN_KVM = "exec 3<>/dev/kvm && echo open"


@pytest.mark.kvm
def test_kvm_where_it_is_asked_for(engine: Engine, build: QemuBuild, tmp_path: Path) -> None:
    """Its sandboxes stay warm, too, and serve nobody else."""
    (tmp_path / "cell").mkdir()
    host = Path("/dev/kvm").stat()
    for kvm in (True, False, True, False):
        grants = KVM_ALONE if kvm else ()
        with engine.sandbox(build, tmp_path / "cell", grants, keep=True) as sandbox:
            status, output = shell(sandbox, OPEN_KVM)
            assert (status == 0, output == "open\n") == (kvm, kvm), output
    now = Path("/dev/kvm").stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (host.st_mode, host.st_uid, host.st_gid)
    assert [path.name for path in tmp_path.iterdir()] == ["cell"]  # no node of ours


@pytest.mark.parametrize(("device", "words"), [
    ("/dev/not-there", "this host has no /dev/not-there"),
    ("/dev/null", "/dev/null makes no virtual machine: Inappropriate ioctl for device"),
])
def test_kvm_that_cannot_be_used(
    engine: Engine, build: QemuBuild, cell_dir: Path, monkeypatch: pytest.MonkeyPatch,
    device: str, words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(confinement, "KVM", device)
    assert confinement.kvm_complaint() == words
    with pytest.raises(EngineError, match=words):
        engine.sandbox(build, cell_dir, KVM_ALONE)


PLAIN_USER = """
    import sys
    from pathlib import Path
    from bootmatrix import engines
    from bootmatrix.builds.image_store import ImageStore
    from bootmatrix.deadline import Deadline
    from bootmatrix.engines import confinement
    from bootmatrix.model import Grant

    with engines.choose("bubblewrap") as engine:
        for kvm in ([Grant.KVM], []):
            with engine.sandbox(ImageStore().qemu(sys.argv[1]), Path(sys.argv[2]), kvm) as sandbox:
                argv = ["/bin/busybox", "sh", "-c", "exec 3<>/dev/kvm"]
                process = sandbox.launch(argv, Path(sys.argv[2]) / "log")
                print(bool(kvm), process.wait(Deadline.after(60)))
    confinement.KVM = sys.argv[3]
    print(confinement.kvm_complaint())
"""


@pytest.mark.kvm
def test_kvm_of_a_plain_user_who_has_the_device(build: QemuBuild, tmp_path: Path) -> None:
    (tmp_path / "cell").mkdir()
    (tmp_path / "closed").touch(0)
    plain = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if not os.getuid() else []
    done = subprocess.run(
        [*plain, sys.executable, "-c", textwrap.dedent(PLAIN_USER), build.name, tmp_path / "cell",
         tmp_path / "closed"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "True 0", "False 1",
        f"this user cannot open {tmp_path / 'closed'}: Permission denied",
    ]  # fmt: skip


# ---- whose life hangs on whom -----------------------------------------------------------

OWNER = """
    import sys, threading
    from pathlib import Path
    from bootmatrix import engines
    from bootmatrix.deadline import Deadline
    from bootmatrix.errors import DeadlineExceeded
    from bootmatrix.builds.image_store import ImageStore

    name, place, build, seconds, early = sys.argv[1:]
    engine = engines.choose(name)
    log = Path(place) / "log"
    sandbox = engine.sandbox(ImageStore().qemu(build), log.parent)
    script = f"echo started; sleep {seconds}; exit"
    processes = []

    def start():
        processes.append(sandbox.launch(["/bin/busybox", "sh", "-c", script], log))
        deadline = Deadline.after(60)
        while not early and log.read_text() != "started\\n":
            deadline.check("the program's start")

    thread = threading.Thread(target=start)  # its end must not be the program's
    thread.start()
    thread.join()
    if not early:
        try:
            sys.exit(f"it has ended: {processes[0].wait(Deadline.after(0.2))}")
        except DeadlineExceeded:
            pass
    print(getattr(engine, "session", ""), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("early", ["early", ""])
def test_nothing_outlives_an_owner_that_is_killed(
    engine: Engine, build: QemuBuild, tmp_path: Path, early: str
) -> None:
    """Neither when the program runs, nor when its confinement is still being made."""
    seconds = f"1000.{os.getpid()}{len(early)}"
    script = textwrap.dedent(OWNER)
    argv = [sys.executable, "-c", script, engine.name, str(tmp_path), BUILD, seconds, early]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        session = owner.stdout.readline().strip()
        if not early:
            assert processes_with(seconds)
        owner.kill()
    assert until(lambda: not processes_with(seconds))
    if session:
        from bootmatrix.engines.docker import leftovers

        assert until(lambda: not leftovers(session))


def test_an_engine_that_is_closed_leaves_nothing(build: QemuBuild, tmp_path: Path,
                                                 engine: Engine) -> None:
    with engines.choose(engine.name) as other:
        process = other.sandbox(build, tmp_path).launch(
            [BUSYBOX, "sleep", "1000"], tmp_path / "log"
        )
        session = getattr(other, "session", None)
    with pytest.raises(EngineError, match=f"of {BUILD} has ended"):
        process.poll()
    if session:
        from bootmatrix.engines.docker import leftovers

        assert leftovers(session) == ()


@pytest.mark.docker
def test_a_container_that_dies_is_the_rig_s_fault(build: QemuBuild, tmp_path: Path) -> None:
    import docker

    with engines.choose("docker") as engine:
        sandbox = engine.sandbox(build, tmp_path)
        process = sandbox.launch([BUSYBOX, "sleep", "1000"], tmp_path / "log")
        assert process.poll() is None
        client = docker.from_env()
        try:
            label = f"bootmatrix.session={getattr(engine, 'session', '')}"
            (container,) = client.containers.list(filters={"label": label})
            container.kill()
        finally:
            client.close()
        with pytest.raises(EngineError, match=f"container of {BUILD} has ended"):
            process.wait(Deadline.after(60))
        with pytest.raises(EngineError, match=f"container of {BUILD} has ended"):
            sandbox.launch([BUSYBOX, "true"], tmp_path / "log")
        process.kill()
        sandbox.__exit__(None, None, None)
        # the next sandbox there gets a container that works
        with engine.sandbox(build, tmp_path) as again:
            assert shell(again, "echo fine") == (0, "fine\n")


@pytest.mark.docker
def test_a_container_is_labelled_and_serves_sandbox_after_sandbox(
    build: QemuBuild, tmp_path: Path
) -> None:
    from bootmatrix.engines.docker import DockerEngine, leftovers

    with DockerEngine() as engine:
        ids = set()
        for _ in range(3):
            with engine.sandbox(build, tmp_path, keep=True) as sandbox:
                shell(sandbox, "true")
                ids |= set(leftovers(engine.session))
        assert len(ids) == 1
        assert not set(leftovers()) & ids  # its owner lives


@pytest.mark.docker
def test_a_container_that_its_owner_never_started_is_swept_away() -> None:
    """The one moment at which a container cannot know that its owner has died."""
    import docker

    from bootmatrix.engines.docker import DockerEngine, leftovers

    with subprocess.Popen(["true"]) as dead:
        pass
    client = docker.from_env()
    try:
        ids = {}
        for owner in (dead.pid, os.getpid()):
            labels = {"bootmatrix.session": f"sweep-{owner}", "bootmatrix.owner": str(owner)}
            ids[owner] = client.api.create_container(
                client.images.list("bootmatrix/*")[0].id, ["true"], labels=labels
            )["Id"]
        assert ids[dead.pid] in leftovers()
        with DockerEngine():
            assert leftovers(f"sweep-{dead.pid}") == ()
            assert leftovers(f"sweep-{os.getpid()}") == (ids[os.getpid()],)
    finally:
        client.api.remove_container(ids[os.getpid()])
        client.close()


@pytest.mark.docker
def test_ended_programs_do_not_count_against_the_limit(build: QemuBuild, tmp_path: Path) -> None:
    with engines.choose("docker") as engine, engine.sandbox(build, tmp_path) as sandbox:
        for _ in range(300):
            process = sandbox.launch([BUSYBOX, "true"], tmp_path / "log")
            assert process.wait(Deadline.after(60)) == 0


# ---- the choice -------------------------------------------------------------------------


def test_an_unknown_engine() -> None:
    with pytest.raises(UserError, match=r"'podman' \(accepted: docker, bubblewrap\)"):
        engines.choose("podman")


def test_without_docker_it_is_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with engines.choose() as engine:
        assert engine.name == "bubblewrap"
    with pytest.raises(EngineError, match=r"no engine answers.*--engine bubblewrap"):
        engines.choose("docker")


def test_a_docker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute.sock"))
        mute.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/mute.sock")
        begun = time.monotonic()
        with pytest.raises(EngineError, match="no engine answers"):
            engines.choose("docker")
        assert time.monotonic() - begun < 6


@pytest.mark.docker
def test_where_docker_answers_it_is_docker() -> None:
    with engines.choose() as engine:
        assert engine.name == "docker"


def test_a_bubblewrap_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="no bwrap here; mend it: apt install bubblewrap"):
        engines.choose("bubblewrap")


def test_a_bubblewrap_that_may_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for program in ("bwrap", "unshare", "setpriv", "mount"):
        (tmp_path / program).write_text("#!/bin/sh\necho 'No permissions' >&2; exit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="cannot make namespaces here") as refused:
        engines.choose("bubblewrap")
    assert refused.value.tail.strip() == "No permissions"


def test_the_choice_does_not_import_the_sdk() -> None:
    code = "import sys, bootmatrix.engines; sys.exit('docker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_for_a_look_whichever_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bubblewrap, which starts at once; who asks for one gets that or none."""
    class Docker:
        name = "docker"

    class Bubblewrap:
        name = "bubblewrap"

    def gone() -> Engine:
        raise EngineError("it does not work here")

    def chosen(**there: Callable[[], Engine]) -> str:
        monkeypatch.setattr(engines, "ENGINES", there)
        return engines.choose_for_a_look().name

    here: Any = Docker, Bubblewrap
    assert chosen(docker=here[0], bubblewrap=here[1]) == "bubblewrap"
    assert chosen(docker=here[0], bubblewrap=gone) == "docker"
    with pytest.raises(EngineError, match="it does not work here"):
        engines.choose_for_a_look("bubblewrap")
    with pytest.raises(EngineError, match="no engine works here"):
        chosen(docker=gone, bubblewrap=gone)
