"""The guest's TPM: swtpm beside a QEMU, in a sandbox of its own, with a directory in the cell.

QEMU connects to it and hands it its end of a connection for commands. Its state goes where the
guest goes: in the migration stream, and as a file to the next QEMU that the guest is started in.
"""

from __future__ import annotations

import contextlib

from bootmatrix.deadline import Deadline
from bootmatrix.engines import Sandbox
from bootmatrix.engines.confinement import CELL
from bootmatrix.engines.scratch import SWTPM_LOG, Scratch, tpm_directory
from bootmatrix.errors import HarnessError

# It takes some 20 ms.
START_SECONDS = 30.0
_SOCKET, _STATE, _STATE_FILE = "tpm.sock", "state", "tpm2-00.permall"
_TAIL_BYTES = 4000


def start(binary: str, sandbox: Sandbox, scratch: Scratch, qemu: str, before: str) -> None:
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
        # As a daemon it goes on by itself once it listens: that its parent ends tells so.
        "--terminate", "--daemon",
    )  # fmt: skip
    log = f"{at}/{SWTPM_LOG}"
    process = sandbox.launch(argv, cell.path / log)
    if status := process.wait(Deadline.after(START_SECONDS)):
        raise HarnessError(f"the TPM of {qemu} does not start", argv=argv, status=status,
                           tail=cell.tail(log, _TAIL_BYTES).decode(errors="replace"))


def socket(qemu: str) -> str:
    """Where the TPM of a QEMU listens, inside a sandbox."""
    return f"{CELL}/{tpm_directory(qemu)}/{_SOCKET}"
