"""What a QEMU that nobody trusts yet says of itself, asked for in the sandbox that a cell has."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from bootmatrix.deadline import Deadline
from bootmatrix.engines.bubblewrap import BubblewrapEngine
from bootmatrix.engines.confinement import SHELL
from bootmatrix.errors import CellError, DeadlineExceeded, ImageError, SandboxLost
from bootmatrix.files.cell_files import CellDir, temporary
from bootmatrix.model import QemuBuild

SECONDS = 30.0
"""Time for one answer; a QEMU takes some 50 ms."""
ANSWER_BYTES = 256 << 10
"""The longest answer that is heard: the machine types of a QEMU take some 20 KB."""

_ANSWER, _COMPLAINT = "answer.log", "complaint.log"
_SCRIPT = f'exec "$@" 2>{_COMPLAINT}'


def ask(
    build: QemuBuild, *arguments: str, environment: Mapping[str, str] | None = None
) -> str:
    """What a build's program prints on its standard output.

    It runs as a QEMU of a cell does: not as root, without a network, with an engine's limits, in
    a sandbox of its own that ends with it. Raises ImageError if it fails, does not end, or says
    too much, and EngineError where bubblewrap does not work, which images are made with as well.
    """
    settings = [f"{name}={value}" for name, value in (environment or {}).items()]
    argv = (build.binary, *arguments)
    failure = f"{build.binary} does not run"
    with temporary("bootmatrix-ask-") as place:
        with BubblewrapEngine() as engine, engine.sandbox(build, place) as sandbox:
            process = sandbox.launch(
                (*SHELL, "-c", _SCRIPT, "sh", "/bin/busybox", "env", *settings, *argv),
                place / _ANSWER)
            try:
                status = process.wait(Deadline.after(SECONDS))
            except DeadlineExceeded as error:
                raise ImageError(f"{failure}: no end after {SECONDS:.0f} s", argv=argv) from error
            except (CellError, SandboxLost) as error:
                raise ImageError(f"{failure}: {error.message}", argv=argv) from error
        with CellDir(place) as cell:
            try:
                answer = cell.read(_ANSWER, ANSWER_BYTES).decode(errors="replace")
            except (CellError, FileNotFoundError) as error:
                raise ImageError(f"{failure}: {error}", argv=argv) from error
            tail = ""
            with contextlib.suppress(CellError, FileNotFoundError):
                tail = cell.tail(_COMPLAINT, ANSWER_BYTES).decode(errors="replace")
    if status:
        raise ImageError(failure, argv=argv, status=status, tail="\n".join(tail.splitlines()[-20:]))
    return answer
