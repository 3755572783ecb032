"""The short forms in which reports say things: firmware, hosts, durations, sort keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import count
from typing import Any

from harness.model import role_name

ASCII = str.maketrans({"✓": "+", "✗": "x", "≈": "=", "→": ">", "─": "-", "…": "~", "·": "-"})
LONGEST_FIRMWARE = 20


@cache
def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that puts 5.2.0 before 11.1.3."""
    return tuple(
        (1, int(part), "") if part.isdecimal() else (0, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    )


def hosts_of(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The hosts of a record's cell in the order of their roles: source, destination, ..."""
    for index in count():
        host = record["cell"].get(role_name(index))
        if host is None:
            return
        yield host


def host_name(host: Mapping[str, Any]) -> str:
    """What the matrix calls a host, or at least which QEMU build it has."""
    return str(host.get("host") or host.get("build") or host.get("qemu"))


def short_firmware(name: str) -> str:
    """A firmware's version where its name is known to hold one: 1.14.0-2, edk2 ones in full.

    Without what a Debian release adds to a version: ovmf-4m-2022.11-6.
    """
    if name.startswith("sha256:"):
        return name.removeprefix("sha256:")[:8]
    name = re.sub(r"\+deb\d+u\d+$", "", name.removeprefix("seabios-"))
    return name if len(name) <= LONGEST_FIRMWARE else name[: LONGEST_FIRMWARE - 1] + "…"


def duration(seconds: float) -> str:
    """Seconds for people: 0.041 s, 3.4 s, 2 min 05 s, 1 h 02 min."""
    if seconds < 1:
        return f"{seconds:.3f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plural(number: int, one: str, many: str | None = None) -> str:
    """A number and its noun: 1 cell, 2 cells."""
    return f"{number} {one if number == 1 else many or one + 's'}"
