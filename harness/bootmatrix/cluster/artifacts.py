"""What a cell leaves behind, on its way from a worker: files in directories, one deep, compressed.

What comes is data of a machine elsewhere: names are checked, and nothing is written but below the
place that the cell has in its run.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import zlib
from pathlib import Path

from bootmatrix.errors import HarnessError
from bootmatrix.files.given_file import Unreadable
from bootmatrix.files.run_files import logs, open_log
from bootmatrix.run.bounds import LOG_BYTES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MOST_FILES = 1000
MOST_BYTES = 64 << 20
"""Of all files of a cell, as they are unpacked."""


def pack(place: Path, run_dir: Path) -> bytes:
    """The files of a cell's place, as far as there is room for them; empty if there are none."""
    made, total = io.BytesIO(), 0
    with tarfile.open(fileobj=made, mode="w:gz", compresslevel=3) as tar:
        for name in logs(str(place), str(run_dir))[:MOST_FILES]:
            try:
                with open_log(f"{place}/{name}", str(run_dir), 2 * LOG_BYTES) as log:
                    content = log.read()
            except Unreadable:
                continue
            if total + len(content) > MOST_BYTES:
                break
            total += len(content)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue() if total else b""


def unpack(data: bytes, place: Path) -> None:
    """Write them below a cell's place, in the place of what is there.

    Raises HarnessError for what no worker of ours has packed, OSError where it cannot be written.
    """
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
            for number, member in enumerate(tar):
                total += member.size
                parts = member.name.split("/")
                if (not member.isreg() or len(parts) > 2 or number >= MOST_FILES
                        or total > MOST_BYTES or not all(map(_NAME.fullmatch, parts))):
                    raise HarnessError(f"{member.name!r} is no file of a cell")
                content = tar.extractfile(member)
                assert content is not None
                target = place / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                new = target.with_name(f".{target.name}.new")
                new.write_bytes(content.read())
                new.replace(target)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise HarnessError(f"a cell's files came damaged: {error}") from None


def inside(run_dir: Path, named: str) -> Path:
    """The place that a record names, in a run's directory. Raises HarnessError if elsewhere."""
    place = Path(os.path.normpath(run_dir / named))
    if not named or place == run_dir or not place.is_relative_to(run_dir / "cells"):
        raise HarnessError(f"{named!r} is no place of a cell")
    return place
