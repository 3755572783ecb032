"""The command in a process of its own that need not import everything anew.

Most of what a short command costs is Python reading its modules. One process has them all, and
forks for each command: the child has its own directory, environment and output, and is as far
from the test as one that was started. What differs: its modules and the shipped catalogue, if that
is read, are there already. Tests of what is imported, of a terminal, and of who reads the output
start a Python of their own.
"""

from __future__ import annotations

import atexit
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

PROGRAM = "import sys\nfrom bootmatrix.__main__ import main\nsys.exit(main())\n"
"""What the installed ``bootmatrix`` is."""


def run(
    arguments: Sequence[str | Path], *, cwd: Path, env: dict[str, str], program: str = PROGRAM,
    imported: str = "bootmatrix", timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """As ``subprocess.run`` with the output captured; ``arguments`` are sys.argv.

    ``imported`` is a module, or a package with all that is in it, which ``program`` finds there.
    """
    argv = [os.fspath(word) for word in arguments]
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with theirs:
            request = {"argv": argv, "cwd": os.fspath(cwd), "env": env, "program": program}
            handed = [theirs.fileno(), out.fileno(), err.fileno()]
            socket.send_fds(_server(imported), [b"x"], handed)
        ours.sendall(json.dumps(request).encode() + b"\n")
        ours.settimeout(timeout)
        with ours.makefile("r") as answers:
            pid = int(answers.readline())
            try:
                status = answers.readline()
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(argv, timeout) from None
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode().replace("\r\n", "\n"))
    return subprocess.CompletedProcess(argv, int(status), *said)


CLIENT = """
import json, os, socket, sys
_, server, program, *words = sys.argv
ours, theirs = socket.socketpair()
socket.send_fds(socket.socket(fileno=int(server)), [b"x"], [theirs.fileno(), 1, 2])
theirs.close()
ours.sendall(json.dumps({"argv": [program, *words], "cwd": os.getcwd(), "env": {**os.environ},
                         "program": open(program).read()}).encode() + b"\\n")
_, status = ours.makefile("r")
os._exit(int(status) & 0xFF)
"""


def executable(path: Path, program: Path) -> int:
    """Make an executable file that is this program, forked, for a shell that runs it by its name.

    Its output is the caller's, its environment and directory, too. Returns a descriptor which the
    shell must be given (``pass_fds``).
    """
    server = _server("bootmatrix").fileno()
    client = path.with_name(f".{path.name}.py")
    words = shlex.join([sys.executable, "-IS", str(client), str(server), str(program)])
    for file, text in ((client, CLIENT), (path, f'#!/bin/sh\nexec {words} "$@"\n')):
        # At once: one that was started before may be about to read it, and half of it is a program.
        (new := file.with_name(f"{file.name}.new")).write_text(text)
        new.chmod(0o755)
        new.replace(file)
    return server


@cache
def _server(imported: str) -> socket.socket:
    """The socket of the process that forks; it ends with the one that asked first."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    with theirs:
        process = subprocess.Popen([sys.executable, __file__, str(theirs.fileno()), imported],
                                   cwd="/", env=environment, pass_fds=[theirs.fileno()])

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# ---- the process that forks ------------------------------------------------------------------


def _serve(requests: socket.socket, imported: str) -> None:
    _import_all(imported)
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 16, 3)
        if not message:
            return
        if not os.fork():  # the parent of one command, which waits for it
            requests.close()
            if os.fork():
                os._exit(0)
            _oversee(*descriptors)
        os.wait()
        for descriptor in descriptors:
            os.close(descriptor)


def _import_all(name: str) -> None:
    import gc
    import importlib
    import pkgutil

    for wanted in (name, "xdist.plugin", "_pytest") if name == "bootmatrix" else (name,):
        package = importlib.import_module(wanted)
        for module in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{wanted}."):
            if not module.name.endswith(("__main__", ".board", ".docker")):
                importlib.import_module(module.name)
    if name == "bootmatrix":  # its catalogue takes as long to read as a command that does little
        from bootmatrix.builds.catalogue import load
        from bootmatrix.builds.image_store import CATALOGUE

        load(CATALOGUE)
    gc.collect()
    gc.freeze()  # so that no child copies it all to look for garbage


def _oversee(connection: int, out: int, err: int) -> None:
    with socket.socket(fileno=connection) as answers:
        with answers.makefile("r") as asked:
            request = json.loads(asked.readline())
        child = os.fork()
        if not child:
            answers.close()
            _command(request, out, err)
        answers.sendall(f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        answers.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _command(request: dict[str, Any], out: int, err: int) -> None:
    status: object = 1
    try:
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.closerange(3, 64)
        sys.argv = request["argv"]
        sys.path[0] = request["cwd"]
        exec(compile(request["program"], request["argv"][0], "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
        _end(status)


def _end(status: int) -> None:
    """As Python ends: what is to be done at the end is done, then all is written."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(status & 0xFF)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
