"""Matches declared incompatibilities against what running a cell found; decides nothing by itself.

An entry's conditions are globs over the flattened cell of a run record (docs/record.md); a
firmware can be named by its upstream version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from bootmatrix.cell import AXES
from bootmatrix.firmware.names import means
from bootmatrix.matrix.axes import DEFAULTS
from bootmatrix.model import Known, Verdict, role_index

ROLE_KEYS = ("host", "qemu", "build", "firmware")
CELL_KEYS = (*AXES, "id")
# What nothing was learnt from says nothing about an entry either.
_NOTHING_LEARNT = (Verdict.ERROR, Verdict.UNSUPPORTED)


class KnownState(StrEnum):
    """What a cell's verdict means for the known entries that match the cell."""

    KNOWN = "known"
    FIXED = "fixed"
    CHANGED = "changed"
    NONE = "none"


@dataclass(frozen=True)
class Match:
    """The state, and the entry it is about (None with KnownState.NONE)."""

    state: KnownState
    entry: Known | None = None


def accepts_key(key: str) -> bool:
    """Whether ``key`` is one of a flattened cell: ``machine``, ``source.qemu``, ..."""
    role, dot, attribute = key.partition(".")
    if not dot:
        return key in CELL_KEYS
    try:
        role_index(role)
    except ValueError:
        return False
    return attribute in ROLE_KEYS


def accepted_keys() -> tuple[str, ...]:
    """The keys a condition can name, for messages; ``host-3`` stands for all further hosts."""
    roles = ("source", "destination", "host-3")
    return tuple(f"{role}.{key}" for role in roles for key in ROLE_KEYS) + CELL_KEYS


def flatten(cell: Mapping[str, Any]) -> dict[str, str]:
    """The record's cell with dotted keys and text values; what is None is left out."""
    flat: dict[str, str] = {}
    for key, value in cell.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": text for inner, text in flatten(value).items()})
        elif value is not None:
            flat[key] = str(value)
    return flat


def matches(entry: Known, flat: Mapping[str, str]) -> bool:
    """Whether all conditions hold; one about a host that the cell does not have never does."""
    return all(
        key in flat and any(_fits(key, flat[key], pattern) for pattern in patterns)
        for key, patterns in entry.when
    )


def could_match(entry: Known, flat: Mapping[str, str]) -> bool:
    """Whether all conditions hold that are about values which are there; of others, anything can.

    ``flat`` has the name of each host that the cell goes to; their builds are not known yet.
    """
    return all(
        any(_fits(key, flat[key], pattern) for pattern in patterns) if key in flat
        else f"{key.partition('.')[0]}.host" in flat
        for key, patterns in entry.when
    )


def _fits(key: str, value: str, pattern: str) -> bool:
    return means(pattern, value) if key.endswith(".firmware") else fnmatchcase(value, pattern)


def match(known: Sequence[Known], cell: Mapping[str, Any], verdict: Verdict) -> Match:
    """What the entries say about a record's cell that ended in ``verdict``.

    KNOWN: an entry matches and its verdict happened. FIXED: one matches, but the cell passed.
    CHANGED: one matches, but something else went wrong. NONE: no entry matches, or the run
    taught nothing (``error``, ``unsupported``) and no entry expected just that. Where several
    entries match, the first whose verdict happened counts, else the first.
    """
    flat = flatten({**DEFAULTS, **cell})
    matching = [entry for entry in known if matches(entry, flat)]
    for entry in matching:
        if verdict in entry.verdict:
            return Match(KnownState.KNOWN, entry)
    if not matching or verdict in _NOTHING_LEARNT:
        return Match(KnownState.NONE)
    state = KnownState.FIXED if verdict is Verdict.PASS else KnownState.CHANGED
    return Match(state, matching[0])
