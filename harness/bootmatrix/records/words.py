"""The short forms in which reports say things: firmware, hosts, durations, sort keys."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from bootmatrix.model import role_name
from bootmatrix.terminal import one_line

if TYPE_CHECKING:
    from bootmatrix.records.model import HostRow, Record

ASCII = str.maketrans({"✓": "+", "✗": "x", "≈": "=", "→": ">", "─": "-", "…": "~", "·": "-"})
LONGEST_FIRMWARE = 20
LONGEST_NUMBER = 99  # digits; Python makes no number of thousands of them


@cache
def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that puts 5.2.0 before 11.1.3."""
    return tuple(
        (1, int(part[:LONGEST_NUMBER]), "") if part.isdecimal() else (0, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    )


def matrix_name(record: Record) -> str:
    """The name of a record's matrix within its run: its file's, wherever that lay.

    Where a run has several files of that name, the record says by which longer name it goes.
    """
    return str(record.get("matrix_name") or str(record.get("matrix") or "").rpartition("/")[2])


def declared(record: Record) -> str:
    """What the matrix declares of a cell, with the link that goes with it."""
    link = record.get("known_link")
    return f"{record.get('known')}{f' ({link})' if link else ''}"


def called(record: Record) -> str:
    """A cell's name among the others of a report: its id, unless several matrices have that."""
    return str(record.get("called") or record["cell"]["id"])


def host_of(record: Record, role: str) -> HostRow | None:
    """The host that has a role in a record's cell."""
    return cast("Mapping[str, HostRow]", record["cell"]).get(role)


def hosts_of(record: Record) -> Iterator[HostRow]:
    """The hosts of a record's cell in the order of their roles: source, destination, ..."""
    for index in count():
        if (host := host_of(record, role_name(index))) is None:
            return
        yield host


def versions(record: Record) -> list[tuple[str, str]]:
    """The QEMU and the firmware of each host, as properties: ``source.qemu``, 7.2.22."""
    return [(f"{role_name(index)}.{name}", str(host[name]))
            for index, host in enumerate(hosts_of(record))
            for name in ("qemu", "firmware") if host.get(name)]


def host_name(host: HostRow) -> str:
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


def quoted(word: str) -> str:
    """A word as bash takes it, on one line and without what steers a terminal."""
    if one_line(word) == word:
        return shlex.quote(word)
    return "$'" + "".join(
        char if char.isascii() and char.isprintable() and char not in "\\'" else
        "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
        for char in word) + "'"


def command_line(qemu: Mapping[str, Any]) -> str:
    """Who a QEMU of a record was, and its whole command line; paths are those in its sandbox."""
    return f"{qemu['role']}: {joined(map(str, qemu['argv']))}"


def joined(words: Iterable[str]) -> str:
    """Words as one command line."""
    return " ".join(map(quoted, words))


def plural(number: int, one: str, many: str | None = None) -> str:
    """A number and its noun: 1 cell, 2 cells."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def steady(text: str) -> str:
    """A reason without what differs from run to run: durations, addresses, paths, processes."""
    # It brings pydantic, which most commands, and --help, have no use of.
    from bootmatrix.witnesses.moment import repeatable

    text = re.sub(r"\b\d+(\.\d+)? (ms|s|min)\b", "N s", repeatable(text))
    text = re.sub(r"(?<![\w.])/[^\s:,;'\")]+", "PATH", text)
    text = re.sub(r"\b0x[0-9a-fA-F]{6,}\b", "ADDRESS", text)
    return re.sub(r"\bpid \d+", "pid N", text)
