"""The container engine: warm containers, each a launcher that starts programs in milliseconds.

A container serves one QEMU build and one cell directory for as long as the engine lives. Its
PID 1 is a shell that reads what to start from its attached standard input. The end of that
input is the end of the container: when the owner dies, by whatever means, the kernel closes
its connection, and nothing is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import docker
import docker.errors
import requests

from harness.deadline import Deadline
from harness.engines.confinement import (
    CELL,
    ENVIRONMENT,
    MEMORY_BYTES,
    PROCESSES,
    SCRATCH_BYTES,
    SHELL,
    Identity,
    inside,
    kvm_group,
    open_log,
    tail,
)
from harness.errors import DeadlineExceeded, EngineError
from harness.model import QemuBuild

REPOSITORY = "bootmatrix"
SESSION = "bootmatrix.session"
OWNER = "bootmatrix.owner"
BUILD = "bootmatrix.build"
DIGEST = "bootmatrix.digest"

ANSWER_SECONDS = 2.0
CALL_SECONDS = 30.0
KILL_SECONDS = 10.0
WARM = 8
"""How many containers an engine keeps that no sandbox uses."""

# A line of input is a command of this shell: `run NUMBER LOG PROGRAM ARGUMENT...` or `kill ...`.
# Each line of output is `started NUMBER PID` or `ended NUMBER STATUS`. A program has a process
# group of its own, and its children end with it. `jobs` reaps the subshells that have ended:
# nobody else does, and zombies count against the limit.
_LAUNCHER = """
NL='
'
run() {
  number=$1 log=$2
  shift 2
  ( /bin/busybox setsid "$@" </dev/null >>"$log" 2>&1 &
    echo "started $number $!"
    wait $!
    status=$?
    kill -9 -$! 2>/dev/null
    echo "ended $number $status" ) &
}
while IFS= read -r line; do
  eval "$line"
  jobs >/dev/null
done
"""


@contextlib.contextmanager
def _engine_errors(doing: str) -> Iterator[None]:
    """Turn the SDK's and the connection's errors into ours."""
    try:
        yield
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineError(f"docker: {doing}: {error}") from error


def _ping(seconds: float) -> None:
    """Raise OSError unless the engine behind a unix socket answers (Docker Engine API, /_ping).

    The SDK does the same, but where it fails it leaves its socket to the garbage collector.
    """
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not host.startswith("unix://"):
        return
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(host.removeprefix("unix://"))
        connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
        status = connection.recv(64).split(b"\r\n")[0]
        if b" 200 " not in status + b" ":
            raise OSError(f"{host} answers {status!r}")


def _connect(seconds: float) -> Any:
    with _engine_errors("no engine answers; start one, or use --engine bubblewrap"):
        _ping(min(seconds, ANSWER_SECONDS))
        client = docker.from_env(timeout=seconds)
        try:
            client.ping()
        except BaseException:
            client.close()
            raise
        return client


class DockerProcess:
    """A program that a container's launcher started (the Process of harness.engines)."""

    def __init__(self, container: _Container, number: int, argv: tuple[str, ...], log: Path):
        self.argv = argv
        self.log = log
        self.number = number
        self._container = container
        self._started = threading.Event()
        self._ended = threading.Event()
        self._pid: int | None = None
        self._status: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._ended.is_set()

    def poll(self) -> int | None:
        """See Process."""
        return self._outcome() if self.ended else None

    def wait(self, deadline: Deadline) -> int:
        """See Process."""
        if not self._ended.wait(deadline.remaining):
            raise DeadlineExceeded(
                f"not in time: the end of {self.argv[0]}", argv=self.argv, tail=tail(self.log)
            )
        return self._outcome()

    def kill(self) -> None:
        """See Process."""
        deadline = Deadline.after(KILL_SECONDS)
        if self._started.wait(deadline.remaining) and not self._ended.is_set():
            with contextlib.suppress(EngineError):  # the container has just ended: told below
                self._container.send(f"kill -9 {self._pid}")
        if not self._ended.wait(deadline.remaining):
            raise EngineError(
                f"{self.argv[0]} lives {KILL_SECONDS:.0f} s after SIGKILL", argv=self.argv
            )

    def tell_started(self, pid: int) -> None:
        """The launcher has started it."""
        self._pid = pid
        self._started.set()

    def tell_ended(self, status: int | None) -> None:
        """It has ended; with None, the container did."""
        self._status = status
        self._ended.set()
        self._started.set()

    def _outcome(self) -> int:
        if self._status is None:
            raise EngineError(
                f"docker: the container of {self.argv[0]} has ended{self._container.complaint}",
                argv=self.argv, tail=tail(self.log),
            )
        return self._status


class _Container:
    """One running container, and the connection to its launcher."""

    def __init__(self, client: Any, container_id: str, connection: Any) -> None:
        self.id = container_id
        self.users = 0
        self._client = client
        self._connection = connection  # keeps the socket open
        self._socket: socket.socket = getattr(connection, "_sock", connection)
        self._socket.settimeout(None)
        # A daemon that has stopped reading must not stop us; a time-out of the socket itself
        # would be one for the reading thread too.
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(KILL_SECONDS), 0)
        )
        self._lock = threading.Lock()
        self._processes: dict[int, DockerProcess] = {}
        self._count = 0
        self._gone = False
        self._errors = b""
        self._reader = threading.Thread(target=self._read, name="docker-attach", daemon=True)
        self._reader.start()

    @property
    def gone(self) -> bool:
        """Whether the connection to the container has ended, and so the container."""
        return self._gone

    @property
    def complaint(self) -> str:
        """What the launcher itself wrote on its standard error, as the end of a sentence."""
        text = self._errors.decode(errors="replace").strip()
        return f": {text}" if text else ""

    def launch(self, argv: tuple[str, ...], log: Path, log_inside: str) -> DockerProcess:
        """Have the launcher start a program."""
        with self._lock:
            self._count += 1
            process = DockerProcess(self, self._count, argv, log)
            self._processes[process.number] = process
            gone = self._gone
        if gone:
            raise EngineError(f"docker: the container has ended{self.complaint}", argv=argv)
        self.send(" ".join(["run", str(process.number), *map(_quote, (log_inside, *argv))]))
        return process

    def send(self, line: str) -> None:
        """Give the launcher a line. Raises EngineError if it does not take it."""
        with self._lock, _engine_errors("the launcher takes no commands"):
            self._socket.sendall(os.fsencode(line) + b"\n")

    def shut(self) -> None:
        """End the launcher's input, and so the container."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(KILL_SECONDS)
        # The SDK keeps the HTTP response beside the connection; closing it closes both.
        getattr(self._connection, "_response", self._connection).close()
        self._socket.close()

    def remove(self) -> None:
        """Make sure that the container is gone, and wait for it."""
        with contextlib.suppress(docker.errors.NotFound), _engine_errors("removing a container"):
            # 409: its own auto-removal is on the way.
            with contextlib.suppress(docker.errors.NotFound, docker.errors.APIError):
                self._client.api.remove_container(self.id, force=True)
            with contextlib.suppress(docker.errors.NotFound):
                self._client.api.wait(self.id, timeout=CALL_SECONDS, condition="removed")

    def _read(self) -> None:
        """The thread that hears the launcher, to the end of the connection."""
        lines = b""
        try:
            for stream, data in _frames(self._socket):
                if stream != 1:
                    self._errors = (self._errors + data)[-2000:]
                    continue
                *whole, lines = (lines + data).split(b"\n")
                for line in whole:
                    self._hear(line.decode(errors="replace"))
        except (KeyError, ValueError):
            self._errors += f"the launcher said {lines or whole!r}".encode()
        finally:
            with self._lock:
                self._gone = True
                left = list(self._processes.values())
                self._processes.clear()
            for process in left:
                process.tell_ended(None)

    def _hear(self, line: str) -> None:
        word, number, value = line.split(" ")
        with self._lock:
            process = self._processes[int(number)]
            if word == "ended":
                del self._processes[int(number)]
        if word == "started":
            process.tell_started(int(value))
        else:
            process.tell_ended(int(value))


class DockerSandbox:
    """A warm container, lent to one user after the other (see Sandbox)."""

    def __init__(self, engine: DockerEngine, container: _Container, cell_dir: Path) -> None:
        self.cell_dir = cell_dir
        self._engine = engine
        self._container = container
        self._processes: list[DockerProcess] = []
        self._closed = False
        container.users += 1

    def launch(self, argv: Sequence[str], log: Path) -> DockerProcess:
        """See Sandbox."""
        log_inside = inside(log, self.cell_dir)
        self._processes = [process for process in self._processes if not process.ended]
        os.close(open_log(log))
        self._engine.identity.own(self.cell_dir)
        process = self._container.launch(tuple(argv), log, log_inside)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """Kill what still runs; the container stays warm."""
        if self._closed:
            return
        self._closed = True
        self._container.users -= 1
        with contextlib.ExitStack() as stack:
            for process in self._processes:
                stack.callback(process.kill)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class DockerEngine:
    """The engine over a docker daemon. Raises EngineError if none answers."""

    name = "docker"

    def __init__(self) -> None:
        self._client = _connect(CALL_SECONDS)
        self.session = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.identity = Identity.unprivileged()
        self._warm: dict[tuple[Any, ...], _Container] = {}

    def sandbox(self, build: QemuBuild, cell_dir: Path, kvm: bool = False) -> DockerSandbox:
        """See Engine."""
        cell_dir = cell_dir.absolute()
        if not cell_dir.is_dir():
            raise EngineError(f"the cell's directory {cell_dir} is not there")
        self.identity.own(cell_dir)
        # A directory made anew under an old name is another one: the mount keeps the old.
        place = cell_dir.stat()
        key = (build.digest, kvm, cell_dir, place.st_dev, place.st_ino)
        container = self._warm.pop(key, None)
        if container and container.gone:
            self._end([container])
            container = None
        if container is None:
            container = self._start(build, cell_dir, kvm)
        self._warm[key] = container  # the last one used stands last
        sandbox = DockerSandbox(self, container, cell_dir)
        self._evict()
        return sandbox

    def close(self) -> None:
        """See Engine."""
        containers = list(self._warm.values())
        self._warm.clear()
        try:
            self._end(containers)
        finally:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _evict(self) -> None:
        idle = [key for key, container in self._warm.items() if not container.users]
        self._end([self._warm.pop(key) for key in idle[: max(0, len(idle) - WARM)]])

    def _end(self, containers: Sequence[_Container]) -> None:
        with contextlib.ExitStack() as stack:
            # All inputs end before the first removal is waited for: they go side by side.
            for container in containers:
                stack.callback(container.remove)
            for container in containers:
                stack.callback(container.shut)

    def _start(self, build: QemuBuild, cell_dir: Path, kvm: bool) -> _Container:
        api = self._client.api
        uid, gid = self.identity.uid, self.identity.gid
        image = ensure_image(self._client, build)
        with _engine_errors(f"a container of {build.name} cannot be started"):
            host = api.create_host_config(
                auto_remove=True,
                network_mode="none",
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                read_only=True,
                # An owner, since the mode would be that of the image's directory.
                tmpfs={"/tmp": f"size={SCRATCH_BYTES},uid={uid},gid={gid}"},  # noqa: S108
                mounts=[docker.types.Mount(CELL, str(cell_dir), type="bind")],
                mem_limit=MEMORY_BYTES,
                memswap_limit=MEMORY_BYTES,
                pids_limit=PROCESSES,
                log_config=docker.types.LogConfig(type="none"),
                devices=["/dev/kvm"] if kvm else [],
                group_add=[kvm_group()] if kvm else [],
            )
            container = api.create_container(
                image,
                [*SHELL, "-c", _LAUNCHER],
                user=f"{uid}:{gid}",
                working_dir=CELL,
                environment=ENVIRONMENT,
                stdin_open=True,
                labels={SESSION: self.session, OWNER: str(os.getpid()), BUILD: build.name},
                host_config=host,
            )["Id"]
            try:
                # Attached before it starts: the launcher's input has an owner from the first.
                connection = api.attach_socket(
                    container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
                )
                api.start(container)
            except BaseException:
                with contextlib.suppress(docker.errors.APIError):
                    api.remove_container(container, force=True)
                raise
        return _Container(self._client, container, connection)


def ensure_image(client: Any, build: QemuBuild) -> str:
    """The tag of a build's image, imported from its root if the engine has it not yet."""
    tag = build.digest[:16]
    image = f"{REPOSITORY}/{build.name}:{tag}"
    with _engine_errors(f"the image {image} cannot be imported"):
        with contextlib.suppress(docker.errors.ImageNotFound):
            client.api.inspect_image(image)
            return image
        # One import at a time: the lock is the kernel's, on the root itself.
        root = os.open(build.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(root, fcntl.LOCK_EX)
            with contextlib.suppress(docker.errors.ImageNotFound):
                client.api.inspect_image(image)
                return image
            _import(client, build, tag)
            client.api.inspect_image(image)
        finally:
            os.close(root)
    return image


def _import(client: Any, build: QemuBuild, tag: str) -> None:
    labels = {BUILD: build.name, DIGEST: build.digest}
    argv = ["tar", "--create", "--sort=name", "--numeric-owner", "--owner=0", "--group=0",
            "--directory", str(build.root), "."]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as archive:
        try:
            answer = client.api.import_image_from_stream(
                archive.stdout, repository=f"{REPOSITORY}/{build.name}", tag=tag,
                changes=[f"LABEL {name}={json.dumps(value)}" for name, value in labels.items()],
            )
        finally:
            if archive.stdout:
                archive.stdout.close()
    # Errors come in the body of a success, as the last of several JSON objects.
    if '"error"' in answer or archive.returncode:
        raise EngineError("docker: the import failed", argv=argv, tail=answer)


def remove_images(names: Sequence[str]) -> int:
    """Remove the images imported from these builds; their number. 0 where no engine answers."""
    try:
        client = _connect(ANSWER_SECONDS)
    except EngineError:
        return 0
    removed = 0
    with contextlib.closing(client), _engine_errors("an image cannot be removed"):
        for name in names:
            for image in client.api.images(filters={"label": f"{BUILD}={name}"}):
                client.api.remove_image(image["Id"], force=True)
                removed += 1
    return removed


def leftovers(session: str | None = None) -> tuple[str, ...]:
    """The ids of containers of one session; without it, of all whose owner is dead.

    There should never be any of the latter.
    """
    client = _connect(ANSWER_SECONDS)
    label = f"{SESSION}={session}" if session else SESSION
    with contextlib.closing(client), _engine_errors("containers cannot be listed"):
        listed = client.api.containers(all=True, filters={"label": label})
    return tuple(
        found["Id"] for found in listed if session or not _alive(int(found["Labels"][OWNER]))
    )


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _quote(argument: str) -> str:
    """An argument as a word on a launcher's line: without a newline of its own."""
    return shlex.quote(argument).replace("\n", "'\"$NL\"'")


def _frames(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """The (stream, data) frames of an attached connection; 1 is stdout, 2 is stderr.

    Docker Engine API, "Attach to a container", "Stream format".
    """
    while header := _exactly(sock, 8):
        stream, size = struct.unpack(">BxxxL", header)
        yield stream, _exactly(sock, size)


def _exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes; nothing if the connection ends before."""
    data = b""
    while len(data) < size:
        try:
            piece = sock.recv(size - len(data))
        except OSError:
            return b""
        if not piece:
            return b""
        data += piece
    return data
