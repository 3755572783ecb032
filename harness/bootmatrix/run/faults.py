"""What is behind an error: the cell itself, the disk that it writes to, or the engine."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path

from bootmatrix.deadline import Deadline
from bootmatrix.engines import Engine
from bootmatrix.engines.confinement import FILE_BYTES
from bootmatrix.engines.scratch import Scratch
from bootmatrix.errors import (
    CellError,
    DeadlineExceeded,
    EngineError,
    HarnessError,
    SandboxLost,
    TpmLost,
)
from bootmatrix.model import Host, QemuBuild
from bootmatrix.run.guest import Guest

# No cell can be run in a directory that says this.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK_FAULTS = (*_FULL, errno.EROFS, errno.EIO)
_NOTHING = ("/bin/busybox", "true")
_ENGINE_SECONDS = 30.0


def check_disk(error: BaseException, run_dir: Path, hosts: Sequence[Host]) -> SandboxLost | None:
    """Raise HarnessError if it is the disk that is behind an error.

    A disk that has room again now that the sandboxes have ended was full of what they had
    removed and held open: they are lost for it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _DISK_FAULTS:
            enough = shutil.disk_usage(run_dir).free >= FILE_BYTES
            if cause.errno in _FULL and enough:
                builds = " and ".join(sorted({host.qemu.name for host in hosts}))
                return SandboxLost(f"the disk of {run_dir} was full while {builds} ran, "
                                   "and has room again now that their sandboxes have ended")
            raise HarnessError(f"cannot go on in {run_dir}: {cause.strerror}") from error
        cause = cause.__cause__ or cause.__context__
    return None


def check_engine(
    error: HarnessError, guest: Guest | None, lost: SandboxLost | None, engine: Engine,
    scratch_directory: Path, build: QemuBuild,
) -> HarnessError:
    """What is behind an error. Raises EngineError if it is the engine.

    ``lost`` is how a sandbox was lost when the cell was run before.
    """
    if guest is not None and not isinstance(error, EngineError):
        try:
            guest.hosts.check_engine()
        except (SandboxLost, CellError, TpmLost) as behind:
            error = behind
    if isinstance(error, EngineError) and not (lost and isinstance(error, SandboxLost)):
        raise error
    # It may have fallen silent: then a program that does nothing does not end either.
    with Scratch(scratch_directory) as scratch, scratch.sandbox(engine, build) as sandbox:
        probe = sandbox.launch(_NOTHING, sandbox.cell_dir / "probe.log")
        try:
            probe.wait(Deadline.after(_ENGINE_SECONDS))
        except DeadlineExceeded:
            raise EngineError(f"{engine.name} no longer runs programs") from error
        finally:
            scratch.empty()
    return error
