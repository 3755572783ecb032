"""The store itself: one guest's nvram file, and the acts by which its content may change."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from bootmatrix.errors import HarnessError, NvramError
from bootmatrix.nvram import layout
from bootmatrix.nvram.file import File, System
from bootmatrix.nvram.layout import (
    HEAD,
    Change,
    ChangedBy,
    Header,
    Lent,
    Moved,
    Origin,
    Part,
    Staged,
    Window,
)

ERASED = b"\xff"  # what NOR flash reads as when nothing has been programmed
_TAIL = 16
_LONGEST_PATH = 200  # characters of a path that the header keeps


class Nvram:
    """A guest's nvram in the file ``path``, which this object alone may change until closed.

    The file need not exist: ``initialise`` makes it. Opening one that does finishes what a
    crash has cut off, and takes over what a guest has done to its flash since. Raises
    NvramError, with nothing changed, for a file that is damaged, foreign, of another format,
    in use, or (unless ``force``) that has moved away.
    """

    def __init__(
        self,
        path: Path,
        *,
        role: str = "harness",
        force: bool = False,
        system: System | None = None,
    ) -> None:
        self.path = path
        self._role = role
        self._system = system or System()
        self._file: File | None = None
        self._header: Header | None = None
        self._stale = False  # the last update failed: what counts is in the file
        self._arriving = False
        _check_nothing_waits(path, self._system)
        if self._system.exists(path):
            self._file = File(path, role, system=self._system)
            try:
                self._take_up(force)
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Room that no migration came to is removed."""
        if self._file is None:
            return
        try:
            if self._arriving:
                self._file.remove()
            else:
                # Who opens it next does the same: a QEMU that still runs is no reason to fail.
                with contextlib.suppress(HarnessError):
                    self.settle()
        finally:
            self._file.close()
            self._file = None
            self._header = None

    # -- what is known ---------------------------------------------------------------------

    @property
    def initialised(self) -> bool:
        """Whether the guest has firmware of its own here."""
        return self._file is not None and self.header.origin is not None

    @property
    def header(self) -> Header:
        """All that is known. Raises NvramError where there is no file."""
        if self._file is None or self._header is None:
            raise NvramError(f"{self.path}: no nvram here")
        if self._stale:
            self._finish()
        return self._header

    @property
    def stamp(self) -> str:
        """The QEMU version that initialised the firmware."""
        return self._origin.qemu

    @property
    def staged(self) -> bool:
        """Whether an upgrade waits for the next reset or start."""
        return self.initialised and self.header.staged is not None

    @property
    def window(self) -> Window:
        """The firmware's window, QEMU's pflash unit 0."""
        return self._window(self.header, Part.FIRMWARE)

    @property
    def size(self) -> int:
        """Bytes of the firmware's flash."""
        return self.window.size

    @property
    def _origin(self) -> Origin:
        origin = self.header.origin
        if origin is None:
            raise NvramError(f"{self.path}: the nvram is empty, it is to be initialised first")
        return origin

    def read(self, part: Part = Part.FIRMWARE) -> bytes:
        """The content of a window, as it is at this moment."""
        window = self._window(self.header, part)
        return self._opened.read(window.size, window.offset)

    def contents(self) -> dict[Part, bytes]:
        """The contents of all windows."""
        return {window.part: self.read(window.part) for window in self.header.windows}

    # -- the user's acts -------------------------------------------------------------------

    def initialise(
        self,
        firmware: bytes,
        *,
        qemu: str,
        machine: str = "",
        policy: str = "",
        name: str = "",
        variables: bytes = b"",
        by: ChangedBy = ChangedBy.HARNESS,
    ) -> None:
        """Put firmware (and a variable store) into the nvram.

        ``qemu`` is the version that becomes the stamp; ``name`` that of the firmware build.
        Raises NvramError if there is firmware already: it is never overwritten.
        """
        if self.initialised:
            raise NvramError(f"{self.path}: initialised already; it is never overwritten")
        contents = {Part.FIRMWARE: firmware} | ({Part.VARIABLES: variables} if variables else {})
        origin = Origin(
            _now(), qemu, machine, policy, name, hashlib.sha256(firmware).hexdigest()
        )
        before = self.header if self._file is not None else _blank()
        self._rebuild(
            replace(before, origin=origin, firmware=name, staged=None), contents, by
        )

    def replace_contents(
        self, contents: Mapping[Part, bytes], name: str = "", by: ChangedBy = ChangedBy.USER
    ) -> None:
        """Put plain images in the place of what is there; the stamp stays, what was staged goes."""
        self.settle()
        _ = self._origin
        self._rebuild(replace(self.header, firmware=name, staged=None), contents, by)

    def stage(self, firmware: bytes, name: str = "") -> None:
        """Keep an upgrade ready; ``take_staged`` makes it the firmware."""
        _ = self._origin
        header, file = self.header, self._opened
        if len(firmware) != self.size:
            raise NvramError(
                f"{self.path}: an image of {len(firmware):#x} bytes does not fit "
                f"into a flash of {self.size:#x}"
            )
        first, second = layout.staging_areas(header.windows)
        offset = second if header.staged and header.staged.offset == first else first
        digest = hashlib.sha256(firmware).hexdigest()
        staged = Staged(offset, len(firmware), digest, name, taking=False)
        try:
            file.write(firmware, offset)
            file.sync()
            self._update(replace(header, staged=staged))
        except HarnessError:
            with contextlib.suppress(HarnessError):
                file.truncate(max(self.header.end, HEAD))  # leave a full disk no fuller
            raise

    def take_staged(self) -> bytes | None:
        """Make the staged upgrade, if there is one, the firmware, and return its bytes.

        The window is written in place: a running QEMU has the file open.
        """
        _ = self._origin
        header = self.header
        if header.staged is None:
            return None
        firmware = self._staged_content(header.staged)
        self._update(replace(header, staged=replace(header.staged, taking=True)))
        self._finish_taking(firmware)
        return firmware

    def clear(self, by: ChangedBy = ChangedBy.USER) -> None:
        """Empty the nvram: the next start initialises it again."""
        if self._file is None:
            return
        self.settle()
        self._update(
            replace(
                self.header, origin=None, firmware="", windows=(), staged=None,
                changed=Change(by, _now(), 0),
            )
        )
        with contextlib.suppress(HarnessError):
            self._file.truncate(HEAD)

    # -- a QEMU has it ---------------------------------------------------------------------

    def lend(self, qemu: str, role: str) -> None:
        """Let one QEMU map the windows. From now on the guest may change them."""
        self.settle()
        _ = self._origin
        self._update(replace(self.header, lent=Lent(_now(), qemu, role)))
        self._opened.let_a_qemu_in()

    def settle(self) -> None:
        """The QEMU has ended: take over what its guest did to the flash.

        Raises NvramError if it has not ended. Nothing to do where no QEMU had it.
        """
        if self._file is None or self.header.lent is None:
            return
        self._file.lock_out_qemus()
        self._update(replace(self._measured(), lent=None))

    # -- the guest goes elsewhere ----------------------------------------------------------

    @classmethod
    def expecting(cls, path: Path, like: Nvram, *, qemu: str, role: str) -> Nvram:
        """Room for the nvram that a migration will bring to ``path``, lent to a QEMU.

        It is a file of its own: what ``path`` holds stays until ``received_from``.
        """
        nvram = cls._arriving_at(path, like, role)
        try:
            header = replace(
                _blank(), guest=like.header.guest, lent=Lent(_now(), qemu, role)
            )
            contents = {window.part: ERASED * window.size for window in like.header.windows}
            nvram._fill(header, contents)
            nvram._opened.let_a_qemu_in()
        except BaseException:
            nvram.close()
            raise
        return nvram

    def same_windows_as(self, other: Nvram) -> bool:
        """Whether the windows of both are equal byte for byte."""
        return self.contents() == other.contents()

    def received_from(self, source: Nvram) -> None:
        """A migration has brought the windows: take over the rest, and the guest with it.

        The source's is marked as moved away, and closed. Until that mark is written the guest
        lives there, from then on here: at no moment in both.
        """
        _ = source._origin
        known = source._measured()
        measured = self._measured(known.windows)
        if measured.changed.by is not ChangedBy.GUEST:
            measured = replace(measured, firmware=known.firmware, changed=known.changed)
        staged = None
        if known.staged is not None:
            firmware = source._staged_content(known.staged)
            staged = replace(known.staged, offset=layout.staging_areas(measured.windows)[0])
            self._opened.write(firmware, staged.offset)
            self._opened.sync()
        self._update(
            replace(
                known, windows=measured.windows, firmware=measured.firmware,
                changed=measured.changed, staged=staged, lent=self.header.lent, moved=None,
                came_from=_header_path(source.path),
            ),
            known.generation,
        )
        self._take_over(source)

    def move_to(self, path: Path) -> Nvram:
        """Move the nvram of a guest that does not run to another file, and return that.

        This one is marked as moved away, and closed.
        """
        if path == self.path:
            return self
        if self._file is None:
            return Nvram(path, role=self._role, system=self._system)
        self.settle()
        header = self.header
        target = self._arriving_at(path, self, self._role)
        try:
            contents = self.contents()
            if header.staged is not None:
                staged = self._staged_content(header.staged)
                at = layout.staging_areas(layout.lay_out(contents))[0]
                target._opened.write(staged, at)
                header = replace(header, staged=replace(header.staged, offset=at))
            target._fill(replace(header, came_from=_header_path(self.path)), contents)
            target._take_over(self)
        except BaseException:
            target.close()
            raise
        return target

    # -- how it is done --------------------------------------------------------------------

    @classmethod
    def _beside(cls, path: Path, role: str, system: System) -> Nvram:
        """An empty file, for an nvram that gets its lasting name once it is complete."""
        nvram = cls.__new__(cls)
        nvram.path = path
        nvram._role = role
        nvram._system = system
        nvram._header = None
        nvram._stale = False
        nvram._arriving = True
        nvram._file = File(path, role, create=True, beside=True, system=system)
        try:
            nvram._file.truncate(0)
        except BaseException:
            nvram._file.close()
            raise
        return nvram

    @classmethod
    def _arriving_at(cls, path: Path, source: Nvram, role: str) -> Nvram:
        there = waiting(path, source._system)
        if there is not None and there.guest != source.header.guest:
            _check_nothing_waits(path, source._system)
        return cls._beside(arrival(path), role, source._system)

    def _take_over(self, source: Nvram) -> None:
        """This file is complete: the guest leaves ``source`` and lives here."""
        final = self.path.with_name(self.path.name.removesuffix(_ARRIVAL))
        there = None
        if final != source.path and self._system.exists(final):
            there = File(final, self._role, system=self._system)  # nobody else may be using it
        try:
            self._arriving = False  # it may be the guest's only one now: never remove it
            if final != source.path:
                moved = Moved(_now(), _header_path(final))
                source._update(replace(source._measured(), lent=None, moved=moved))
            self._opened.rename(final)
            self.path = final
        finally:
            if there is not None:
                there.close()
        source.close()

    def _take_up(self, force: bool) -> None:
        """Check an existing file, and finish what was left unfinished in it."""
        file = self._opened
        with named(self.path):
            state = layout.parse(*ends(file))
        header = state.header
        if header.moved is not None and not force:
            raise NvramError(
                f"{self.path}: the guest has moved away to {header.moved.to} "
                f"({header.moved.when}); it must not run twice"
            )
        if header.staged is not None:
            self._staged_content(header.staged)
        if header.lent is None and not (header.staged and header.staged.taking):
            for window in header.windows:
                with named(self.path):
                    damage = layout.damage(window, file.read(window.size, window.offset))
                    if damage is not None:
                        raise NvramError(damage)
        file.sign()
        self._finish()
        self.settle()
        if header.moved is not None:
            self._update(replace(self.header, moved=None))

    def _finish(self) -> None:
        """Read the header, and finish the update or upgrade that was cut off."""
        with named(self.path):
            state = layout.parse(*ends(self._opened))
        if state.unfinished:
            self._opened.write_headers(layout.encode(state.header))
        self._header = state.header
        self._stale = False
        if state.header.staged is not None and state.header.staged.taking:
            self._finish_taking(self._staged_content(state.header.staged))

    def _update(self, header: Header, at_least: int = 0) -> None:
        """Make ``header`` count, all at once."""
        file = self._opened
        generation = max(self.header.generation, at_least) + 1
        header = replace(header, generation=generation)
        with named(self.path):
            page = layout.encode(header)
        self._stale = True
        file.commit(page)
        self._header = header
        self._stale = False

    def _fill(self, header: Header, contents: Mapping[Part, bytes]) -> None:
        """Write a whole file anew, the header last."""
        file = self._opened
        with named(self.path):
            header = replace(
                header, windows=layout.lay_out(contents), generation=header.generation + 1
            )
            page = layout.encode(header)
        for window in header.windows:
            file.write(contents[window.part], window.offset)
        file.write(bytes(HEAD), 0)
        file.sync()
        file.write_headers(page)
        file.sign()
        self._header = header

    def _rebuild(self, header: Header, contents: Mapping[Part, bytes], by: ChangedBy) -> None:
        """Put a whole new file in the place of this one, all at once."""
        with named(self.path):
            firmware = layout.lay_out(contents)[0]
        old = header.window(Part.FIRMWARE)
        blocks = len(layout.differing_blocks(old.blocks if old else "", firmware.blocks))
        if old is None or old.sha256 != firmware.sha256:
            header = replace(header, changed=Change(by, _now(), blocks))
        new = self._beside(
            self.path.with_name(self.path.name + ".new"), self._role, self._system
        )
        try:
            if self._file is not None:
                new._opened.own_like(self._file)
            new._fill(header, contents)
            new._opened.rename(self.path)
        except BaseException:
            new.close()
            raise
        replaced, self._file, self._header = self._file, new._file, new._header
        self._stale = False
        if replaced is not None:
            replaced.close()

    def _measured(self, before: tuple[Window, ...] | None = None) -> Header:
        """The header, with the windows as they are; ``before``: as they were known to be."""
        header = self.header
        old = header.windows if before is None else before
        windows = tuple(
            layout.window_of(window.part, window.offset, self.read(window.part))
            for window in header.windows
        )
        if windows and windows[0].sha256 != old[0].sha256:
            blocks = layout.differing_blocks(old[0].blocks, windows[0].blocks)
            header = replace(
                header, firmware="", changed=Change(ChangedBy.GUEST, _now(), len(blocks))
            )
        return replace(header, windows=windows)

    def _staged_content(self, staged: Staged) -> bytes:
        content = self._opened.read(staged.size, staged.offset)
        if hashlib.sha256(content).hexdigest() != staged.sha256:
            raise NvramError(
                f"{self.path}: the staged upgrade at {staged.offset:#x} is damaged: "
                "`bootmatrix nvram repair` drops it"
            )
        return content

    def _finish_taking(self, firmware: bytes) -> None:
        file, header = self._opened, self.header
        old = self._window(header, Part.FIRMWARE)
        assert header.staged is not None
        self._stale = True
        file.write(firmware, old.offset)
        file.sync()
        self._stale = False
        new = layout.window_of(Part.FIRMWARE, old.offset, firmware)
        blocks = len(layout.differing_blocks(old.blocks, new.blocks))
        self._update(
            replace(
                header, windows=(new, *header.windows[1:]), firmware=header.staged.name,
                staged=None, changed=Change(ChangedBy.USER, _now(), blocks),
            )
        )
        with contextlib.suppress(HarnessError):
            file.truncate(self.header.end)

    @property
    def _opened(self) -> File:
        if self._file is None:
            raise NvramError(f"{self.path}: no nvram here")
        return self._file

    def _window(self, header: Header, part: Part) -> Window:
        window = header.window(part)
        if window is None:
            raise NvramError(f"{self.path}: the nvram has no {part}")
        return window


_ARRIVAL = ".incoming"


def arrival(path: Path) -> Path:
    """The file beside ``path`` in which an nvram is made before it takes that name."""
    return path.with_name(path.name + _ARRIVAL)


def waiting(path: Path, system: System) -> Header | None:
    """The header of a complete nvram that arrived for ``path`` and was not taken over, if any."""
    try:
        fd = system.open(arrival(path), os.O_RDONLY | os.O_NOFOLLOW)
    except (OSError, NvramError):
        return None
    try:
        header = layout.parse(os.pread(fd, HEAD, 0), os.fstat(fd).st_size).header
    except (OSError, NvramError):
        return None
    finally:
        os.close(fd)
    return header if header.came_from else None


def _check_nothing_waits(path: Path, system: System) -> None:
    header = waiting(path, system)
    if header is not None:
        raise NvramError(
            f"{path}: the guest has come from {header.came_from}, but a crash kept it from "
            "arriving: `bootmatrix nvram repair` takes it over"
        )


def ends(file: File) -> tuple[bytes, int, bytes]:
    """A file's first bytes, its size, and its last bytes."""
    size = file.size
    return file.read(HEAD, 0), size, file.read(_TAIL, max(0, size - _TAIL))


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Put the file's name before the message of what goes wrong inside."""
    try:
        yield
    except NvramError as error:
        raise NvramError(f"{path}: {error.message}") from None


def _blank() -> Header:
    """What is known of an nvram that was never initialised."""
    return Header(
        guest=uuid.uuid4().hex, generation=0, origin=None, firmware="",
        changed=Change(ChangedBy.HARNESS, _now(), 0), windows=(), staged=None, lent=None,
        moved=None, came_from="",
    )


def _header_path(path: Path) -> str:
    return str(path.absolute())[-_LONGEST_PATH:]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
