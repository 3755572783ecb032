"""The scratch directory of a guest: what its sandboxes can write, what they see, what they do not.

    cell/            at /cell in every sandbox: disk, variables, nvram, QEMU's logs
    shown/PLACE/     at SHOWN in the sandboxes of a build, read-only: firmware, and the sockets
                     that its QEMUs connect to
    kept/            in no sandbox: consoles, migration streams
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Self

from bootmatrix.engines import Engine, Sandbox
from bootmatrix.errors import CellError
from bootmatrix.files.cell_files import CellDir
from bootmatrix.model import DEFAULT_LIMITS, Grant, Limits, QemuBuild

QEMU_LOG, CONSOLE_LOG, FIRMWARE_LOG = "qemu.log", "console.log", "firmware.log"
SWTPM_LOG = "swtpm.log"
LOG_BYTES = 4 << 20
"""Bytes of one QEMU's log that are kept: the first and the last half of a longer one."""


class Scratch:
    """A scratch directory, which is made if it is not there; its parts last as long as it does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        # Other users of this host could run a set-user-ID program that lies in the cell.
        self.directory.chmod(0o700)
        self.private = _made(self.directory / "kept")
        self._shown = _made(self.directory / "shown")
        self.cell = CellDir(_made(self.directory / "cell"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; what is in it stays."""
        self.cell.close()

    def shown(self, build: QemuBuild) -> Path:
        """What the sandboxes of a build see and cannot change; builds of one place have one."""
        place = hashlib.sha256(repr(build.place).encode()).hexdigest()
        return _made(self._shown / place[:16])

    def sandbox(
        self, engine: Engine, build: QemuBuild, *, grants: Collection[Grant] = (),
        keep: bool = False, limits: Limits = DEFAULT_LIMITS,
    ) -> Sandbox:
        """A sandbox of a build with its parts in it."""
        return engine.sandbox(build, self.cell.path, grants, keep, self.shown(build), limits)

    def keep_logs(self, artifacts: Path) -> CellError | None:
        """Put what a person may want to read into a new directory, and empty this one.

        QEMU's logs are copied: what a sandbox could write can have other names there. Returns
        what is wrong with one of them.
        """
        wrong = None
        try:
            artifacts.mkdir(parents=True)
            for process in sorted(path for path in self.private.iterdir() if path.is_dir()):
                target = artifacts / process.name
                target.mkdir()
                for log in (CONSOLE_LOG, FIRMWARE_LOG):
                    if (process / log).exists():
                        (process / log).rename(target / log)
                for at, log in ((process.name, QEMU_LOG), (tpm_directory(process.name), SWTPM_LOG)):
                    try:
                        self.cell.copy_out(f"{at}/{log}", target / log, LOG_BYTES)
                    except FileNotFoundError:
                        pass  # its own to remove, or there was none
                    except CellError as error:
                        wrong = wrong or error
        finally:
            self.empty()
        return wrong

    def empty(self) -> None:
        """Remove all but the directories that sandboxes may still have."""
        self.cell.empty()
        for part in (self.private, *self._shown.iterdir()):
            with CellDir(part) as directory:
                directory.empty()


def tpm_directory(process: str) -> str:
    """The directory in the cell of the TPM beside a QEMU process."""
    return f"{process}-tpm"


def _made(directory: Path) -> Path:
    """A directory of the harness's that programs in a sandbox may look into."""
    if not directory.is_dir():
        directory.mkdir()
        directory.chmod(0o755)
    return directory
