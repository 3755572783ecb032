"""Look at an nvram file without touching it, and mend what its redundancy allows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bootmatrix.errors import NvramError
from bootmatrix.nvram import layout
from bootmatrix.nvram.file import File, System
from bootmatrix.nvram.layout import HEAD, Header, Part
from bootmatrix.nvram.store import arrival, ends, named, waiting

LARGEST = 512 << 20
"""Bytes of a file that are read: AArch64's, of 128 MiB and a staged upgrade, is the largest."""


@dataclass(frozen=True)
class Inspection:
    """What a file holds. ``problems`` is empty where it may be used.

    ``unfinished``: an update was cut off; the next use finishes it.
    """

    header: Header
    contents: Mapping[Part, bytes]
    problems: tuple[str, ...]
    unfinished: bool


def inspect(path: Path) -> Inspection:
    """Read a file, which may be in use. Raises NvramError if its header cannot be read."""
    try:
        with os.fdopen(System().open(path, os.O_RDONLY), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST:
                raise NvramError(f"{path}: has {size} bytes, at most {LARGEST} are read")
            data = file.read()
    except OSError as error:
        raise NvramError(f"{path}: {os.strerror(error.errno or 0)}") from error
    with named(path):
        state = layout.parse(data[:HEAD], len(data), data[-16:])
    header = state.header
    contents = {
        window.part: data[window.offset:window.end] for window in header.windows
    }
    problems = []
    staged = header.staged
    if staged is not None and not _is_whole(
        data[staged.offset:staged.offset + staged.size], staged.sha256
    ):
        problems.append(f"the staged upgrade at {staged.offset:#x} is damaged")
    if header.lent is None and not (staged and staged.taking):
        for window in header.windows:
            damage = layout.damage(window, contents[window.part])
            if damage is not None:
                problems.append(damage)
    return Inspection(
        header, contents, tuple(problems), state.unfinished or bool(staged and staged.taking)
    )


def repair(
    path: Path,
    find: Callable[[str], bytes | None] = lambda digest: None,
    system: System | None = None,
) -> list[str]:
    """Mend a file; what was done, in sentences, empty where nothing was to do.

    ``find`` gives the firmware image that has a sha256, if it is known. Raises NvramError,
    with nothing changed, for what cannot be mended.
    """
    done = _take_over(path, system)
    if done:
        return done
    file = File(path, "bootmatrix nvram repair", system=system)
    try:
        with named(path):
            head, size, tail = ends(file)
            header = layout.salvage(head, size, tail)
            done, header, windows = _mended(file, header, find)
            try:
                layout.parse(head, size, tail)
            except NvramError:
                done.insert(0, f"the header is whole again, as of generation {header.generation}")
        if done:
            for offset, content in windows:
                file.write(content, offset)
            file.sync()
            file.commit(layout.encode(replace(header, generation=header.generation + 1)))
    finally:
        file.close()
    return done


def _mended(
    file: File, header: Header, find: Callable[[str], bytes | None]
) -> tuple[list[str], Header, list[tuple[int, bytes]]]:
    """What to tell, the header to write, and what to write into windows."""
    done: list[str] = []
    writes: list[tuple[int, bytes]] = []
    staged = header.staged
    taking = staged is not None and staged.taking
    if staged is not None and not _is_whole(file.read(staged.size, staged.offset), staged.sha256):
        done.append("the staged upgrade was damaged and is dropped")
        header = replace(header, staged=None)
        taking = False
    if header.lent is not None or taking:
        return done, header, writes  # the next use takes the windows as they are
    for window in header.windows:
        damage = layout.damage(window, file.read(window.size, window.offset))
        if damage is None:
            continue
        content = find(window.sha256) if window.part is Part.FIRMWARE else None
        if content is None or not _is_whole(content, window.sha256):
            raise NvramError(
                f"{damage}; it cannot be repaired: no image with sha256 {window.sha256} is known"
            )
        writes.append((window.offset, content))
        done.append(f"the {window.part} window is written anew from the known build")
    return done, header, writes


def _take_over(path: Path, system: System | None) -> list[str]:
    """Let a guest arrive whose move was cut off after it had left."""
    system = system or System()
    header = waiting(path, system)
    if header is None:
        return []
    file = File(arrival(path), "bootmatrix nvram repair", beside=True, system=system)
    try:
        try:
            left = inspect(Path(header.came_from)).header.moved is not None
        except NvramError:
            left = True  # gone, or out of reach from here
        if not left:
            file.remove()
            return [f"the guest has not left {header.came_from}: what came of it is removed"]
        if system.exists(path):
            File(path, "bootmatrix nvram repair", system=system).close()  # nobody uses it
        file.rename(path)
        return [f"the guest has arrived from {header.came_from}"]
    finally:
        file.close()


def _is_whole(content: bytes, digest: str) -> bool:
    return hashlib.sha256(content).hexdigest() == digest
