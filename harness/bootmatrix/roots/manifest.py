"""What a tree in the cache must hold, and whether it still does.

A tree is read whole once, when it is made. Later a look at each path is enough: what was written
to has another time of change (ctime, which no program can set). On doubt all is read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bootmatrix.errors import ImageError

_DIRECTORY = "directory"


@dataclass(frozen=True)
class Entry:
    """One path of a tree: its mode, its bytes, when it was last changed, and what is in it.

    ``content`` is the sha256 of a file's content or of a link's target.
    """

    mode: int
    size: int
    changed: int
    content: str


@dataclass(frozen=True)
class Manifest:
    """The entries of a tree by their path in it."""

    entries: Mapping[str, Entry]

    @classmethod
    def of(cls, root: Path) -> Self:
        """That of a tree as it is. Raises ImageError for what is no file, directory or link."""
        return cls({path: _entry(root / path, info) for path, info in walk(root)})

    @property
    def digest(self) -> str:
        """The sha256 over (path, mode, size, content) of all in the tree, sorted by path."""
        digest = hashlib.sha256()
        for path in sorted(self.entries, key=lambda path: path.split("/")):
            entry = self.entries[path]
            line = f"{json.dumps(path)} {entry.mode:o} {entry.size} {entry.content}\n"
            digest.update(line.encode())
        return digest.hexdigest()

    @property
    def size(self) -> int:
        """The bytes of all in the tree."""
        return sum(entry.size for entry in self.entries.values())

    def looks_like(self, root: Path, passed_over: Sequence[str] = ()) -> bool:
        """Whether all in a tree looks as it did. Nothing is read.

        ``passed_over`` are directories that are not looked into.
        """
        seen = 0
        for path, info in walk(root, passed_over):
            entry = self.entries.get(path)
            if entry is None or (entry.changed, entry.mode, entry.size) != _look(info):
                return False
            seen += 1
        inside = tuple(f"{path}/" for path in passed_over)
        return seen == sum(not path.startswith(inside) for path in self.entries)

    def difference(self, now: Manifest) -> str:
        """What is otherwise in the tree ``now``, about its first such path."""
        for path in sorted(self.entries.keys() | now.entries.keys()):
            old, new = self.entries.get(path), now.entries.get(path)
            if old is None:
                return f"{path} does not belong there"
            if new is None:
                return f"{path} is gone"
            if old.size != new.size:
                return f"{path} has {new.size} bytes instead of {old.size}"
            if (old.mode, old.content) != (new.mode, new.content):
                return f"{path} is not what it was"
        return "its list of files is not what it was"

    def write(self, file: Path) -> None:
        """Write it down, in one step."""
        new = file.with_name(f"{file.name}.{os.getpid()}")
        new.write_text(json.dumps({
            path: [entry.mode, entry.size, entry.changed, entry.content]
            for path, entry in self.entries.items()}))
        new.replace(file)

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """The one that was written down; None if there is none that can be read."""
        try:
            rows = json.loads(file.read_bytes())
            return cls({path: Entry(*row) for path, row in rows.items()})
        except (OSError, ValueError, TypeError, AttributeError):
            return None


def damage(
    root: Path, file: Path, digest: str | None = None, *, whole: bool = False,
    passed_over: Sequence[str] = (),
) -> str | None:
    """What is not as it was in a tree of this digest, in a few words; None if all is.

    ``file`` is where its manifest is, which is made anew where it no longer fits a tree that is
    intact; without a digest it alone says what was. With ``whole`` all is read, else what looks
    as it did is believed.
    """
    recorded = Manifest.read(file)
    if digest is None:
        if recorded is None:
            return "nothing says what was in it"
        digest = recorded.digest
    try:
        if recorded is not None and not whole and recorded.looks_like(root, passed_over):
            return None
        now = Manifest.of(root)
    except (OSError, ImageError) as error:
        return f"it cannot be read: {error}"
    if now.digest != digest:
        return recorded.difference(now) if recorded else f"its sha256 is {now.digest}, not {digest}"
    if now != recorded:
        with contextlib.suppress(OSError):  # where it cannot be written, all is read each time
            now.write(file)
    return None


def walk(root: Path, passed_over: Sequence[str] = ()) -> Iterator[tuple[str, os.stat_result]]:
    """All that is below a directory, by its path from there. No link is followed."""
    pending = [""]
    while pending:
        above = pending.pop()
        with os.scandir(root / above) as found:
            for item in found:
                info = item.stat(follow_symlinks=False)
                path = above + item.name
                if item.is_dir(follow_symlinks=False) and path not in passed_over:
                    pending.append(f"{path}/")
                yield path, info


def _look(info: os.stat_result) -> tuple[int, int, int]:
    """When it was changed, its mode and its bytes, as an entry has them."""
    if stat.S_ISLNK(info.st_mode):
        return info.st_ctime_ns, 0o777, info.st_size
    # A directory changes with what is in it, which is looked at anyway.
    if stat.S_ISDIR(info.st_mode):
        return 0, stat.S_IMODE(info.st_mode), 0
    return info.st_ctime_ns, stat.S_IMODE(info.st_mode), info.st_size


def _entry(path: Path, info: os.stat_result) -> Entry:
    changed, mode, _ = _look(info)
    if stat.S_ISDIR(info.st_mode):
        return Entry(mode, 0, 0, _DIRECTORY)
    if stat.S_ISLNK(info.st_mode):
        content = os.fsencode(path.readlink())
    elif stat.S_ISREG(info.st_mode):
        with path.open("rb") as file:  # not whole in memory: one of 16 GiB is still a root's
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Entry(mode, info.st_size, changed, digest)
    else:
        raise ImageError(f"{path} is neither file, directory nor link")
    return Entry(mode, len(content), changed, hashlib.sha256(content).hexdigest())
