"""The store that owns a guest's firmware: a flash image, and what is known about it.

The image is a plain file, so that QEMU maps it as pflash as it is; a small JSON file beside it
holds the version stamp and a staged upgrade. Both travel together (``move_to``).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.errors import HarnessError

ERASED = b"\xff"  # what NOR flash reads as when nothing has been programmed


@dataclass(frozen=True)
class _About:
    stamp: str  # the QEMU version that initialised the firmware
    staged: str | None = None  # file name of the staged image


class Nvram:
    """A guest's nvram in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.image = directory / "nvram.bin"
        self._about = directory / "nvram.json"
        self._staged = directory / "nvram.staged"

    @property
    def initialised(self) -> bool:
        """Whether the guest has firmware of its own here."""
        return self._about.exists()

    @property
    def stamp(self) -> str:
        """The QEMU version that initialised the firmware."""
        return self._read().stamp

    @property
    def staged(self) -> bool:
        """Whether an upgrade waits for the next reset or start."""
        return self.initialised and self._read().staged is not None

    @property
    def size(self) -> int:
        """Bytes of the flash."""
        return self.image.stat().st_size

    def initialise(self, firmware: bytes, stamp: str) -> None:
        """Put firmware into the nvram. Raises HarnessError if there is some already."""
        if self.initialised:
            raise HarnessError(f"{self.image}: initialised already; it is never overwritten")
        self.image.write_bytes(firmware)
        self._write(_About(stamp))

    def expect_migration(self, size: int) -> None:
        """Make room for an nvram that a migration will bring; QEMU writes it when it runs."""
        if not self.image.exists() or self.size != size:
            self.image.write_bytes(ERASED * size)

    def received_from(self, source: Nvram) -> None:
        """A migration has brought the image: take over what is known about it."""
        self._write(source._read())
        if source._staged.exists():
            self._staged.write_bytes(source._staged.read_bytes())
        source.forget()

    def move_to(self, directory: Path) -> Nvram:
        """Move the nvram of a guest that does not run to another host's directory."""
        target = Nvram(directory)
        if directory != self.directory:
            target.forget()
            for file in (self.image, self._staged, self._about):
                if file.exists():
                    file.replace(directory / file.name)
        return target

    def stage(self, firmware: bytes) -> None:
        """Keep an upgrade ready; ``take_staged`` makes it the firmware."""
        about = self._read()
        if len(firmware) != self.size:
            raise HarnessError(
                f"{self.image}: an image of {len(firmware):#x} bytes does not fit "
                f"into a flash of {self.size:#x}"
            )
        self._staged.write_bytes(firmware)
        self._write(replace(about, staged=self._staged.name))

    def take_staged(self) -> bytes | None:
        """Make the staged upgrade, if there is one, the firmware, and return its bytes.

        The file is written in place: a running QEMU has it open.
        """
        about = self._read()
        if about.staged is None:
            return None
        firmware = self._staged.read_bytes()
        with self.image.open("r+b") as image:
            image.write(firmware)
        self._write(replace(about, staged=None))
        self._staged.unlink()
        return firmware

    def clear(self) -> None:
        """Empty the nvram: the next start initialises it again."""
        self.image.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Drop what is known about the image; the file itself stays as it is."""
        self._about.unlink(missing_ok=True)
        self._staged.unlink(missing_ok=True)

    def _read(self) -> _About:
        if not self.initialised:
            raise HarnessError(f"{self.image}: no nvram here, or it has moved away")
        return _About(**json.loads(self._about.read_text()))

    def _write(self, about: _About) -> None:
        temporary = self._about.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(about)))
        temporary.replace(self._about)
