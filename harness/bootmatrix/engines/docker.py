"""The container engine: warm containers, each a launcher that starts programs in milliseconds.

A container serves one QEMU build and one cell directory for as long as the engine lives, and
ends with it: see bootmatrix.engines.launcher.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
import stat
import struct
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import docker
import docker.errors
import requests

from bootmatrix.engines import launcher
from bootmatrix.engines.confinement import (
    CELL,
    ENVIRONMENT,
    LAUNCHER_MODE,
    MEMORY_BYTES,
    PROCESSES,
    SHELL,
    Priority,
    devices,
    file_bytes,
    memory_bytes,
    shown_at,
)
from bootmatrix.engines.launcher import Launcher
from bootmatrix.engines.warm import Confinement, WarmEngine
from bootmatrix.errors import EngineError, UserError
from bootmatrix.model import Grant, Limits, QemuBuild
from bootmatrix.roots import debian

REPOSITORY = "bootmatrix"
SESSION = "bootmatrix.session"
OWNER = "bootmatrix.owner"
BUILD = "bootmatrix.build"
DIGEST = "bootmatrix.digest"
ROOT = "bootmatrix.root"

_LAUNCHER = "/busybox"

ANSWER_SECONDS = 2.0
CALL_SECONDS = 30.0
MOST_EXPORTED = 17 << 30
"""Bytes of an image's file system as a tar: those of a root (foreign_root), and headers."""
_REMOVED_SECONDS = 3.0
_ID = re.compile(r"sha256:[0-9a-f]{64}")
_PID = re.compile(r"[1-9][0-9]{0,9}")
# Of the processor; the usual is 1024. It is shared with other containers alone: with much more, one
# would keep the other cells from running, and come no sooner before what else runs here.
_SHARES = {Priority.LOW: 128, Priority.HIGH: 4096}


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


class _Container(Confinement):
    """One running container and its launcher."""

    def __init__(self, name: str, client: Any, container_id: str, connection: Any) -> None:
        self._id = container_id
        self._client = client
        self._connection = connection
        sock = getattr(connection, "_sock", connection)
        sock.settimeout(None)
        # A daemon that has stopped reading must not stop us; a time-out of the socket itself
        # would be one for the reading thread too.
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(ANSWER_SECONDS), 0)
        )
        self.launcher = Launcher(
            f"docker: the container of {name}", _frames(sock), sock.sendall,
            lambda: sock.shutdown(socket.SHUT_RDWR),
        )

    def shut(self) -> None:
        """End the launcher's input, and so the container."""
        self.launcher.hang_up()
        self.launcher.join()
        # The SDK keeps the HTTP response beside the connection; closing it closes both.
        getattr(self._connection, "_response", self._connection).close()
        self._connection.close()

    def remove(self) -> None:
        """Make sure that the container is gone, and wait for it."""
        with _engine_errors("removing a container"):
            # 409: its own auto-removal is on the way.
            with contextlib.suppress(docker.errors.NotFound, docker.errors.APIError):
                self._client.api.remove_container(self._id, v=True, force=True)
            # Again and again: one that is gone by then is not found. (Of one Ctrl-C of 57 the end
            # took 34 s; that dockerd let this wait on is the likeliest cause, and not proven.)
            end = time.monotonic() + CALL_SECONDS
            while True:
                try:
                    self._client.api.wait(self._id, timeout=_REMOVED_SECONDS, condition="removed")
                    return
                except docker.errors.NotFound:
                    return
                except docker.errors.APIError:  # an answer, too
                    raise
                except requests.RequestException:
                    if time.monotonic() > end:
                        raise


class DockerEngine(WarmEngine):
    """The engine over a docker daemon. Raises EngineError if none answers."""

    name = "docker"

    def __init__(self) -> None:
        super().__init__()
        self._client = _connect(CALL_SECONDS)
        self.session = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._sweep()

    def close(self) -> None:
        """See Engine."""
        try:
            super().close()
        finally:
            self._client.close()

    def _sweep(self) -> None:
        """Remove containers whose owner died before it had started them.

        Those that were started have ended by themselves.
        """
        with _engine_errors("leftover containers cannot be removed"):
            for found in self._client.api.containers(
                all=True, filters={"label": SESSION, "status": "created"}
            ):
                if _owner_is_dead(found):
                    with contextlib.suppress(docker.errors.NotFound, docker.errors.APIError):
                        self._client.api.remove_container(found["Id"], v=True, force=True)

    def _start(
        self, build: QemuBuild, cell_dir: Path, grants: Collection[Grant], shown: Path | None,
        limits: Limits,
    ) -> _Container:
        api = self._client.api
        image = ensure_image(self._client, build)
        with (
            _engine_errors(f"a container of {build.name} cannot be started"),
            self._devices(cell_dir.parent, devices(grants)) as given,
        ):
            host = api.create_host_config(
                auto_remove=True,
                network_mode="none",
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                read_only=True,
                # For mount points, and root's alone. "ro" would forbid those as well.
                tmpfs={"/tmp": "mode=755,size=1m,nr_inodes=64"},  # noqa: S108
                # No /dev/shm, and what would outlive the processes that made it cannot be made.
                ipc_mode="none",
                sysctls={"kernel.shmmni": "0", "kernel.msgmni": "0", "kernel.sem": "32 0 0 0",
                         "fs.mqueue.queues_max": "0"},
                mounts=[
                    docker.types.Mount(CELL, str(cell_dir), type="bind"),
                    # A link is followed inside the root: the engine would follow it on the host.
                    docker.types.Mount("/usr", str(debian.follow(build.root, "usr")), type="bind",
                                       read_only=True),
                    *(docker.types.Mount(inside, str(directory), type="bind", read_only=True)
                      for directory, inside in (*build.mounts, *shown_at(shown))),
                ],
                mem_limit=memory_bytes(limits, MEMORY_BYTES),
                memswap_limit=memory_bytes(limits, MEMORY_BYTES),
                pids_limit=limits.processes or PROCESSES,
                cpu_shares=_SHARES.get(self.priority),
                log_config=docker.types.LogConfig(type="none"),
                **given,
            )
            container = api.create_container(
                image,
                launcher.argv(_LAUNCHER, file_bytes=file_bytes(limits)),
                user=f"{self.identity.uid}:{self.identity.gid}",
                working_dir=CELL,
                environment=ENVIRONMENT | dict(build.environment),
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
                    api.remove_container(container, v=True, force=True)
                raise
        return _Container(build.name, self._client, container, connection)


    @contextlib.contextmanager
    def _devices(
        self, directory: Path, given: Sequence[tuple[str, os.stat_result]]
    ) -> Iterator[dict[str, Any]]:
        """What of a host's configuration gives a container its devices, until it has started.

        The engine makes a node in the container with the numbers, the owner and the mode of one
        that it is shown. The host's own is enough for its group. Where we are root, the programs
        are nobody, who has no such group: it is shown one that is nobody's, for that moment, in
        a directory in ``directory`` that root alone can enter.
        """
        if not given:
            yield {}
            return
        if os.getuid():
            yield {"devices": [f"{path}:{path}:rw" for path, _ in given],
                   "group_add": [at.st_gid for _, at in given if at.st_mode & stat.S_IWGRP]}
            return
        with tempfile.TemporaryDirectory(prefix="devices-", dir=directory) as private:
            nodes = []
            for path, at in given:
                node = f"{private}/{Path(path).name}"
                os.mknod(node, stat.S_IFCHR | 0o600, at.st_rdev)
                os.chown(node, self.identity.uid, self.identity.gid)
                nodes.append(f"{node}:{path}:rw")
            yield {"devices": nodes}


def ensure_image(client: Any, build: QemuBuild) -> str:
    """The id of a build's image, imported from its root if the engine has it not yet.

    The image is the root without what is in /usr: that is mounted from the root itself, which
    saves a second copy of it, and the storage driver's share in each start of a QEMU. Each cache
    has images of its own, so that it can remove them.

    The tag is for people: whoever reaches the engine can give it to another image. The id is a
    hash over the image, and is kept in the cache.
    """
    name, digest = build.root_name or build.name, build.root_digest or build.digest
    root = str(build.root.resolve())
    place = hashlib.sha256(os.fsencode(root)).hexdigest()
    image = f"{REPOSITORY}/{name}:{digest[:16]}-{place[:8]}"
    # Beside what the cache checks and removes as one: a stranger's root lies in a tree of those.
    above = build.root.parent
    entry = above if above.with_name(f"{above.name}.manifest").exists() else build.root
    file = Path(f"{entry}.docker")
    with _engine_errors(f"the image {image} cannot be imported"):
        if found := _imported(client, file, image):
            return found
        # One import at a time: the lock is the kernel's, on a directory that no sandbox sees.
        held = os.open(above, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            if found := _imported(client, file, image):
                return found
            # Of an earlier version, which kept no id, or of a cache that has lost it.
            former = client.api.images(image, quiet=True, filters={"label": f"{ROOT}={root}"})
            new = Path(f"{file}.new")
            try:
                with new.open("w") as opened:  # before the import: not all caches can be written
                    found = _import(client, build.root, image,
                                    {BUILD: name, DIGEST: digest, ROOT: root})
                    json.dump({**_cached_ids(file), image: found}, opened)
                new.replace(file)
            finally:
                new.unlink(missing_ok=True)
            for old in {*former} - {found}:
                with contextlib.suppress(docker.errors.APIError):  # it is in use
                    client.api.remove_image(old)
        finally:
            os.close(held)
    return found


def _imported(client: Any, file: Path, image: str) -> str | None:
    """The id that was kept of an image, if the engine still has it."""
    found = _cached_ids(file).get(image)
    if found is not None:
        with contextlib.suppress(docker.errors.ImageNotFound):
            client.api.inspect_image(found)
            return found
    return None


def _cached_ids(file: Path) -> dict[str, str]:
    """The ids of a root's images by their names, as they were kept."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        ids: dict[str, str] = json.loads(file.read_bytes())
        return ids
    return {}


def _import(client: Any, root: Path, image: str, labels: Mapping[str, str]) -> str:
    """Import a root's image, with the launcher's program in it; its id."""
    repository, _, tag = image.partition(":")

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return None if member.name.startswith("./usr/") else member

    with tempfile.TemporaryFile() as file:
        with tarfile.open(mode="w", fileobj=file) as archive:
            archive.add(root, ".", filter=plain)
            busybox = archive.gettarinfo(debian.follow(root, SHELL[0]), "." + _LAUNCHER)
            busybox.mode = LAUNCHER_MODE
            with debian.follow(root, SHELL[0]).open("rb") as content:
                archive.addfile(cast(tarfile.TarInfo, plain(busybox)), content)
        file.seek(0)
        answer: str = client.api.import_image_from_stream(
            iter(lambda: file.read(1 << 20), b""), repository=repository, tag=tag,
            changes=[f"LABEL {label}={json.dumps(value)}" for label, value in labels.items()],
        )
    # Errors come in the body of a success, as the last of several JSON objects, and so does the id:
    # asked of the tag, it could be another's already.
    found = _ID.search(answer)
    if '"error"' in answer or found is None:
        raise EngineError("docker: the import failed", tail=answer)
    return found[0]


def image_id(name: str) -> str:
    """The sha256 of an image that the engine has. Raises UserError if it has none of this name."""
    client = _connect(ANSWER_SECONDS)
    with contextlib.closing(client), _engine_errors(f"the image {name} cannot be looked up"):
        try:
            found: str = client.api.inspect_image(name)["Id"]
        except (docker.errors.NotFound, docker.errors.NullResource):
            raise UserError(f"the Docker engine has no image {name}",
                            hint=f"docker pull {name}, or build it") from None
        except docker.errors.APIError as error:
            if error.is_client_error():
                raise UserError(f"{name!r} is no name of an image") from None
            raise
    return found.removeprefix("sha256:")


def export_image(image: str, root: Path) -> None:
    """Unpack the file system of an image into ``root``, an empty directory.

    Nothing of the image is run. Its devices are left out. Raises UserError, without a place, for
    more than ``MOST_EXPORTED`` bytes.
    """
    argv = ["tar", "--extract", "--file", "-", "--directory", str(root), "--exclude=dev/*",
            "--exclude=./dev/*", "--no-same-owner", "--delay-directory-restore"]
    client = _connect(CALL_SECONDS)
    with contextlib.closing(client), _engine_errors("an image cannot be exported"):
        container = client.api.create_container(
            image, ["none"], labels={SESSION: "export", OWNER: str(os.getpid())}
        )["Id"]
        try:
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as tar:
                assert tar.stdin is not None
                with contextlib.suppress(BrokenPipeError):  # tar says why
                    left = MOST_EXPORTED
                    for piece in client.api.export(container):
                        left -= len(piece)
                        if left < 0:
                            tar.kill()
                            break
                        tar.stdin.write(piece)
                _, said = tar.communicate()
        finally:
            client.api.remove_container(container, v=True, force=True)
    if left < 0:
        raise UserError(f"the image is too large for a QEMU's: it unpacks to more than "
                        f"{MOST_EXPORTED >> 30} GiB")
    if tar.returncode:
        raise EngineError("docker: the image could not be unpacked", argv=argv,
                          status=tar.returncode, tail=said.decode(errors="replace"))


def remove_images(names: Sequence[str], home: Path) -> int:
    """Remove the images imported from these builds' roots in the cache ``home``; their number.

    0 where no engine answers. Images that other caches have of the same builds stay.
    """
    home = home.resolve()
    try:
        client = _connect(CALL_SECONDS)
    except EngineError:
        return 0
    removed = 0
    with contextlib.closing(client), _engine_errors("an image cannot be removed"):
        for name in names:
            for image in client.api.images(filters={"label": f"{BUILD}={name}"}):
                if home in Path(image["Labels"].get(ROOT, "")).parents:
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
    return tuple(found["Id"] for found in listed if session or _owner_is_dead(found))


def _owner_is_dead(found: Mapping[str, Any]) -> bool:
    """Whether a container is one of ours that nobody has any more.

    Anybody can give a container our labels: one whose owner is not written as a pid is none.
    """
    pid = found["Labels"].get(OWNER, "")
    return bool(_PID.fullmatch(pid)) and not Path(f"/proc/{pid}").exists()


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
