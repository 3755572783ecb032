"""The error tree: what can go wrong with the rig, and with what a user wrote.

    HarnessError            the rig broke; nothing was learnt about the firmware
     ├─ EngineError         a container engine, or a process in it, failed
     ├─ ImageError          an image could not be built, or is missing
     ├─ QemuError           a QEMU could not be started, or died
     ├─ MonitorError        the monitor (QMP) broke off or refused a command
     ├─ GdbError            the gdb stub answered what it should not
     ├─ QtestError          the qtest socket broke off or refused a request
     ├─ FwCfgError          the fw_cfg device is not there, or reported a DMA error
     ├─ NvramError          an nvram file is damaged, in use, or not what it should be
     └─ DeadlineExceeded    something did not happen in time
    UserError               a user's mistake, told in one line: where, what, what would be right

A claim that turned out false (another firmware ran, nothing came up) is neither: it is a
verdict, data in a run record, and never an exception.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class ImageError(HarnessError):
    """An image could not be built, or is not there."""


class QemuError(HarnessError):
    """A QEMU could not be started, or ended when it should not have."""


class MonitorError(HarnessError):
    """The monitor connection broke off, or QEMU refused a command."""


class GdbError(HarnessError):
    """The gdb stub answered what its protocol does not allow here."""


class QtestError(HarnessError):
    """The qtest connection broke off, or QEMU refused a request."""


class FwCfgError(HarnessError):
    """The fw_cfg device is not there, reported a DMA error, or its directory is malformed."""


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
            place = str(file)
            if line is not None:
                place += f":{line}"
                if column is not None:
                    place += f":{column}"
            place += ": "
        super().__init__(place + message + (f" ({hint})" if hint else ""))
        self.file = file
        self.line = line
        self.column = column
