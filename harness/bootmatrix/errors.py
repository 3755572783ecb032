"""The error tree: what can go wrong with the rig, and with what a user wrote; exit statuses.

    HarnessError            the rig broke; nothing was learnt about the firmware
     ├─ EngineError         a container engine, or a process in it, failed
     │   └─ SandboxLost     a sandbox ended, or was broken from inside, while it was in use
     ├─ ImageError          an image could not be built, or is missing
     ├─ QemuError           a QEMU could not be started, or died
     ├─ TpmLost             the swtpm beside a QEMU ended before it
     ├─ MonitorError        the monitor (QMP) broke off or refused a command
     ├─ GdbError            the gdb stub answered what it should not
     ├─ QtestError          the qtest socket broke off or refused a request
     ├─ FwCfgError          the fw_cfg device reported a DMA error, or its directory is malformed
     │   └─ NoFwCfgError    there is no fw_cfg device where a PC has its
     ├─ CellError           a file of a cell is not what it should be: a link, a FIFO, too large
     ├─ BenchError          a board's bench failed: its power, its console, its programmer
     │   ├─ PlaceTaken      somebody else has the board
     │   │   └─ BoardTaken  and that is another process of this user's
     │   └─ ImageMisfit     an image is not of its chip's size
     ├─ LeftTooLate         a guest that was to leave during its POST was up before
     ├─ NvramError          an nvram file is damaged, in use, or not what it should be
     └─ DeadlineExceeded    something did not happen in time
    UserError               a user's mistake, told in one line: where, what, what would be right
     └─ PartError           it is in a file that is given beside another

A claim that turned out false (another firmware ran, nothing came up) is neither: it is a
verdict, data in a run record, and never an exception.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path


class HarnessError(Exception):
    """The rig broke.

    ``argv``, ``status`` and ``tail`` (the last lines of stderr or of the console) are kept,
    so that a person who reads the record needs no second run to understand it.
    """

    def __init__(
        self,
        message: str,
        *,
        argv: Sequence[str] = (),
        status: int | None = None,
        tail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.argv = tuple(argv)
        self.status = status
        self.tail = tail

    def __str__(self) -> str:
        lines = [self.message]
        if self.status is not None:
            lines.append(f"exit status: {self.status}")
        if self.argv:
            lines.append("command: " + " ".join(self.argv))
        if self.tail:
            lines.append("last output:\n" + self.tail.rstrip())
        return "\n".join(lines)


class EngineError(HarnessError):
    """A container engine, or a process it was to run, failed."""


class SandboxLost(EngineError):
    """A sandbox ended while it was in use, or what ran in it has broken it."""


class ImageError(HarnessError):
    """An image could not be built, or is not there."""


class QemuError(HarnessError):
    """A QEMU could not be started, or ended when it should not have."""


class TpmLost(HarnessError):
    """The swtpm beside a QEMU has ended while that was still to be used; the message is one line.
    """


class MonitorError(HarnessError):
    """The monitor connection broke off, or QEMU refused a command."""


class GdbError(HarnessError):
    """The gdb stub answered what its protocol does not allow here."""


class QtestError(HarnessError):
    """The qtest connection broke off, or QEMU refused a request."""


class FwCfgError(HarnessError):
    """The fw_cfg device reported a DMA error, or its directory is malformed."""


class NoFwCfgError(FwCfgError):
    """There is no fw_cfg device where a PC has its."""


class CellError(HarnessError):
    """What a sandbox can write is not what it should be; the message says what was found."""


class BenchError(HarnessError):
    """What is around a board does not do what it must: ``message`` says what of it."""


class PlaceTaken(BenchError):
    """The board is somebody else's now, and the bench is in order."""


class BoardTaken(PlaceTaken):
    """Another process of this user's has it, or it was not waited for any more."""


class ImageMisfit(BenchError):
    """An image is not for this chip, and the bench is in order."""


class LeftTooLate(HarnessError):
    """A guest that was to leave while its firmware ran was up before it had left."""


class NvramError(HarnessError):
    """An nvram file is damaged, foreign, in use, or must not be used: ``message`` is one line."""


class DeadlineExceeded(HarnessError):
    """Something did not happen before its deadline."""


class UserError(Exception):
    """A mistake in what the user gave: one line with place, finding and remedy.

    ``line`` and ``column`` count from 1.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        column: int | None = None,
        hint: str = "",
    ) -> None:
        place = ""
        if file is not None:
            place = str(file).replace("\n", "\\n")  # it is to be one line
            if line is not None:
                place += f":{line}"
                if column is not None:
                    place += f":{column}"
            place += ": "
        super().__init__(place + message + (f" ({hint})" if hint else ""))
        self.file = file
        self.line = line
        self.column = column


class PartError(UserError):
    """A mistake in a file that is given beside another: ``part`` is its key, such as variables."""

    def __init__(self, message: str, part: str) -> None:
        super().__init__(message)
        self.part = part


class Status(IntEnum):
    """The exit statuses of all commands."""

    GREEN = 0
    RED = 1  # a cell failed, a migration would be refused, something got worse, ...
    USER_ERROR = 2  # a mistake in what was given
    RIG_BROKEN = 3  # nothing was learnt, or what was could not be printed
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


TRACEBACK = "BOOTMATRIX_TRACEBACK"
"""With this variable in the environment, where a fault of ours came from is printed, too."""

_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP)


def in_a_line(error: Exception) -> tuple[str, int]:
    """What to tell of an error that nobody has foreseen at its place, and the exit status.

    A fault of ours is neither the user's nor the firmware's.
    """
    if isinstance(error, UserError):
        return str(error), Status.USER_ERROR
    if isinstance(error, HarnessError):
        return str(error), Status.RIG_BROKEN
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename is not None else ""
        status = Status.USER_ERROR if error.errno in _NO_PATH else Status.RIG_BROKEN
        return f"{named}{error.strerror}", status
    if isinstance(error, MemoryError):
        return "out of memory", Status.RIG_BROKEN
    words = " ".join(str(error).split())
    return (f"a fault of bootmatrix's own, please report it: {type(error).__name__}: {words} "
            f"({TRACEBACK}=1 shows where)"), Status.RIG_BROKEN
