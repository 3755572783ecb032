"""Picks few of many cells: a covering array over the cells that exist, and a deterministic spread.

The rows given are the *valid* combinations; nothing else is ever picked, and no pair of values
that occurs in one of them is lost (generators that filter a full product lose some silently).
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Hashable, Sequence
from itertools import combinations

Row = Sequence[Hashable]
"""One value an axis; None where the row has no such axis."""


def pairwise(rows: Sequence[Row]) -> list[int]:
    """Indices of rows that together hold every pair of values that occurs in any row.

    A pair is two values of two different axes in one row. The order is that of the greedy
    choice: each row adds the most pairs not held yet (the earliest such row where several
    do), so any prefix covers as much as a greedy choice of that length can.
    """
    bits: dict[Hashable, int] = {}
    masks = [_mask(row, bits) for row in rows]
    missing = (1 << len(bits)) - 1
    # Lazy greedy: what a row adds can only shrink, so an old gain is an upper bound, and a
    # row that keeps the top of the heap after its gain was renewed is the best there is.
    heap = [(-mask.bit_count(), index) for index, mask in enumerate(masks)]
    heapq.heapify(heap)
    picked = []
    while missing and heap:
        gain, index = heap[0]
        renewed = -(masks[index] & missing).bit_count()
        if renewed != gain:
            heapq.heapreplace(heap, (renewed, index))
            continue
        heapq.heappop(heap)
        missing &= ~masks[index]
        picked.append(index)
    return picked


def spread(rows: Sequence[Row], names: Sequence[str], count: int) -> list[int]:
    """Indices of ``count`` rows: the covering ones first, then more, spread by their names' hash.

    With fewer rows asked for than cover all pairs, these are the first ones of the greedy
    choice. ``names`` must be unique; they make the choice independent of the rows' order
    beyond the covering ones.
    """
    picked = pairwise(rows)[:count]
    taken = set(picked)
    rest = [index for index in range(len(rows)) if index not in taken]
    rest.sort(key=lambda index: hashlib.sha256(names[index].encode()).digest())
    return picked + rest[: count - len(picked)]


def _mask(row: Row, bits: dict[Hashable, int]) -> int:
    """The row's pairs as a set of bits; new pairs get the next free bit."""
    mask = 0
    values = [(axis, value) for axis, value in enumerate(row) if value is not None]
    for pair in combinations(values, 2):
        mask |= 1 << bits.setdefault(pair, len(bits))
    return mask
