"""How much is kept of one cell: of logs and texts that QEMUs and guests can make ever longer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

LOG_BYTES = 4 << 20
"""Bytes that are kept of a log. What a longer one says in its middle is left out."""

TEXT_LENGTH = 8192
"""Characters of one text in a record, where a QEMU or a guest is its author."""

LEFT_OUT = "\n[... left out ...]\n"


def cut_logs(directory: Path) -> tuple[str, ...]:
    """Shorten the logs below a directory that no sandbox can write; names of those that were."""
    return tuple(sorted(
        str(log.relative_to(directory)) for log in directory.glob("*/*.log") if _cut_log(log)
    ))


def _cut_log(log: Path) -> bool:
    """Leave the first and the last half of what is kept."""
    half = (LOG_BYTES - len(LEFT_OUT)) // 2
    with log.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= LOG_BYTES:
            return False
        file.seek(size - half)
        end = file.read(half)
        file.seek(half)
        file.write(LEFT_OUT.encode() + end)
        file.truncate()
    return True


Data = TypeVar("Data")


def cut(value: Data) -> Data:
    """Data of a record with its texts shortened; what is short enough is as it was."""
    return cast(Data, _cut(value))


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TEXT_LENGTH:
        half = (TEXT_LENGTH - len(LEFT_OUT)) // 2
        return value[:half] + LEFT_OUT + value[-half:]
    if isinstance(value, Mapping):
        return {key: _cut(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cut(entry) for entry in value)
    return value
