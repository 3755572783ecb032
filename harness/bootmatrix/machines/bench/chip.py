"""A board's flash chip: written by a programmer, so that what was in it is never lost."""

from __future__ import annotations

from typing import Protocol

from bootmatrix.errors import ImageMisfit
from bootmatrix.firmware.identity import sha256
from bootmatrix.machines.bench.seat import Journal, Seat


class Programmer(Protocol):
    """What reads and writes a chip. Each raises BenchError where it cannot."""

    def read(self) -> bytes:
        """All that is in it."""

    def write(self, image: bytes) -> None:
        """An image into it, which is then verified."""


class Chip:
    """The chip of a board whose seat is held.

    ``restore``: what it held is to be in it again at the end. ``first`` is the sha256 of what it
    held when it was looked at first, "" before that; ``writes`` counts how often it was written.
    """

    def __init__(self, programmer: Programmer, seat: Seat, *, restore: bool) -> None:
        self._programmer, self._seat, self._restore = programmer, seat, restore
        self._known: bytes | None = None  # what is in it for certain
        self._saved: bytes | None = None
        self._written: bytes | None = None
        self._torn = False  # a write was begun, and nobody has verified it
        self.first = ""
        self.writes = 0

    @property
    def known(self) -> bytes | None:
        """What is in it for certain, without a look."""
        return self._known

    @property
    def written(self) -> bytes | None:
        """What was written last, verified, and not to be changed since; None: nothing."""
        return self._written

    @property
    def saved(self) -> bytes | None:
        """What it held before it was written; None where nobody has written it."""
        return self._saved

    def recover(self) -> str | None:
        """See to what a killed process has left; None for nothing, or what was found and done."""
        journal = self._seat.journal
        if journal is None:
            return None
        content = self.read()
        saved = self._seat.saved.read_bytes() if self._seat.saved.exists() else None
        # What was verified is whole, also where the board itself has changed it since.
        whole = (journal.done or content == saved
                 or sha256(content) in (journal.wanted, journal.held))
        if saved is None or content == saved or (whole and not journal.restore):
            self._seat.journal = None
            return None if whole else "the chip is half-written, and nothing was kept of it"
        self._write(saved)
        self._seat.journal = None
        found = "was not restored" if whole else "was left half-written"
        return f"the chip {found} by a killed or failed run: what it held before is restored"

    def read(self) -> bytes:
        """What is in it, by the programmer."""
        self._known = self._programmer.read()
        self.first = self.first or sha256(self._known)
        return self._known

    def program(self, image: bytes) -> None:
        """Have an image in it. What it held before is kept first. Raises BenchError."""
        content = self._known if self._known is not None else self.read()
        if content == image:
            return
        if len(content) != len(image):
            raise ImageMisfit(f"the image has {len(image):#x} bytes, the chip {len(content):#x}")
        if self._saved is None:
            self._saved = content
            self._seat.keep(content)
        self._seat.journal = Journal(sha256(image), done=False, restore=self._restore)
        self._write(image)
        self._seat.journal = Journal(sha256(image), done=True, restore=self._restore)

    def changed(self) -> None:
        """Somebody else may write it from now on: the board itself."""
        content = self._known if self._known is not None else self.read()
        if self._saved is None:
            self._saved = content
            self._seat.keep(content)
        self._known = self._written = None
        self._seat.journal = Journal(
            "", done=False, restore=self._restore, held=sha256(content))

    def distrust(self) -> None:
        """It does not hold what was verified: what it holds is nothing to keep."""
        self._torn, self._known = True, None
        self._seat.journal = Journal(
            sha256(self._written or b""), done=False, restore=self._restore)

    def finish(self) -> bool:
        """The board is let go: whether what it held before was written back.

        Raises BenchError where that is not possible: the next one who holds the board tries again.
        """
        restored = self._restore and self._saved is not None
        if restored:
            assert self._saved is not None
            if self.read() != self._saved:
                self._write(self._saved)
        if not self._torn:  # else the next who holds the board has to see to it
            self._seat.journal = None
        return restored

    def _write(self, image: bytes) -> None:
        self._known, self._written, self._torn = None, None, True
        self.writes += 1
        self._programmer.write(image)
        self._known, self._written, self._torn = image, image, False
