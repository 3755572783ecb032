"""Which cells a CI job runs when several share a matrix: the same in every job, and balanced."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bootmatrix.errors import UserError

Key = tuple[str, str]


@dataclass(frozen=True)
class Shard:
    """Part ``number`` (from 1) of ``count``."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``2/5``. Raises UserError."""
        number, slash, count = text.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal()
                and 1 <= int(number) <= int(count)):
            raise UserError(f"--shard: no part of a whole: {text!r}", hint="such as 2/5")
        return cls(int(number), int(count))

    def pick(self, cells: Iterable[Key], times: Mapping[Key, float]) -> set[Key]:
        """The cells, (matrix, id), of this part; all parts together are all cells, each once.

        Without ``times`` (seconds, from an earlier run) an id's own hash says where it belongs,
        whatever other cells there are. With them the longest cells are dealt out first, each
        to the part that has least to do. Neither depends on the cells' order.
        """
        every = sorted(set(cells))
        if not times:
            return {one for one in every if _hash(one[1]) % self.count == self.number - 1}
        usual = statistics.median(times.values())
        load = [0.0] * self.count
        mine = set()
        for one in sorted(every, key=lambda one: (-times.get(one, usual), _hash(one[1]), one)):
            least = load.index(min(load))
            load[least] += times.get(one, usual)
            if least == self.number - 1:
                mine.add(one)
        return mine


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
