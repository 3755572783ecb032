"""The guest's TPM: swtpm beside a QEMU, in a sandbox of its own, with a directory in the cell.

QEMU connects to it and hands it its end of a connection for commands. Its state goes where the
guest goes: in the migration stream, and as a file to the next QEMU that the guest is started in.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from bootmatrix.deadline import Deadline
from bootmatrix.engines import Process, Sandbox
from bootmatrix.engines.confinement import CELL
from bootmatrix.engines.scratch import SWTPM_LOG, Scratch, tpm_directory
from bootmatrix.errors import HarnessError, TpmLost

# It takes some 20 ms.
START_SECONDS = 30.0
# It ends by itself, in milliseconds, when its QEMU has; one that no QEMU has connected to does not.
_END_SECONDS = 0.3
_LOOK_SECONDS = 0.002
_BY_SIGNAL = 128  # the exit status of what signal n has ended is this and n
_SOCKET, _PID, _STATE, _STATE_FILE = "tpm.sock", "pid", "state", "tpm2-00.permall"
_TAIL_BYTES = 4000


class Emulator:
    """The swtpm beside a QEMU on the host of a ``role``, and whether it has ended before that.

    It ends by itself once its QEMU has gone, with status 0. Where it is killed, or ends while
    its QEMU goes on (``goes_on``; asked only then), what is seen of the guest tells nothing.
    """

    def __init__(self, process: Process, role: str) -> None:
        self._process = process
        self._role = role
        self._lost = ""
        self._closed = False
        self.goes_on: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Raise TpmLost if it has ended too early, and as Process.poll does."""
        status = self._process.poll()
        # What we have killed has not ended by itself.
        if status is not None and not self._lost and not self._closed \
                and (status > _BY_SIGNAL or self.goes_on()):
            how = f"signal {status - _BY_SIGNAL}" if status > _BY_SIGNAL \
                else f"exit status {status}"
            self._lost = f"the guest's swtpm on {self._role} ended ({how})"
        if self._lost:
            raise TpmLost(self._lost)

    def look(self) -> None:
        """Check, for a later check to tell it."""
        with contextlib.suppress(HarnessError):
            self.check()

    def close(self) -> None:
        """Its QEMU has gone: wait for its end, and see to it."""
        with contextlib.suppress(HarnessError):
            self._process.wait(Deadline.after(_END_SECONDS))
        self.look()
        self._closed = True
        self._process.kill()


def start(
    binary: str, sandbox: Sandbox, scratch: Scratch, qemu: str, role: str, before: str
) -> Emulator:
    """Start the TPM of a QEMU that is called so; it listens when this returns.

    It has the state that the TPM of the QEMU ``before`` has left; "": a new one, or one that will
    come in a migration. It ends when QEMU's connection to it does. Raises HarnessError.
    """
    cell, at = scratch.cell, tpm_directory(qemu)
    cell.mkdir(at)
    cell.mkdir(f"{at}/{_STATE}")
    if before:
        with contextlib.suppress(FileNotFoundError):  # it has never been used
            cell.rename(f"{tpm_directory(before)}/{_STATE}/{_STATE_FILE}",
                        f"{at}/{_STATE}/{_STATE_FILE}")
    argv = (
        binary, "socket", "--tpm2", "--tpmstate", f"dir={CELL}/{at}/{_STATE}",
        "--ctrl", f"type=unixio,path={socket(qemu)}", "--log", f"file={CELL}/{at}/{SWTPM_LOG}",
        # It writes its pid once it listens. As a daemon it would end and nobody would know how.
        "--terminate", "--pid", f"file={CELL}/{at}/{_PID}",
    )  # fmt: skip
    log = f"{at}/{SWTPM_LOG}"
    process = sandbox.launch(argv, cell.path / log)
    deadline = Deadline.after(START_SECONDS)
    while not cell.exists(f"{at}/{_PID}"):
        if (status := process.poll()) is not None:
            raise HarnessError(f"the TPM of {qemu} does not start", argv=argv, status=status,
                               tail=cell.tail(log, _TAIL_BYTES).decode(errors="replace"))
        deadline.check(f"the TPM of {qemu}")
        time.sleep(_LOOK_SECONDS)
    return Emulator(process, role)


def socket(qemu: str) -> str:
    """Where the TPM of a QEMU listens, inside a sandbox."""
    return f"{CELL}/{tpm_directory(qemu)}/{_SOCKET}"
