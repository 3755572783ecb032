"""Which cells a job runs: each in one of them, whatever the order."""

from __future__ import annotations

import pytest

from bootmatrix.errors import UserError
from bootmatrix.matrix.shards import Shard


def test_shards_are_a_partition_whatever_the_order() -> None:
    ids = [(f"m{number % 2}", f"cell-{number // 2}") for number in range(500)]
    times = {one: 1.0 + (number % 50 == 0) * 40 for number, one in enumerate(ids)}
    for known in ({}, times):
        parts = [Shard(number, 5).pick(ids, known) for number in range(1, 6)]
        assert sorted(one for part in parts for one in part) == sorted(ids)
        assert [Shard(number, 5).pick(reversed(ids), known) for number in range(1, 6)] == parts
    loads = [sum(times[one] for one in part) for part in parts]
    assert max(loads) / min(loads) < 1.05
    # Without times, a new cell moves no other.
    new = ("m0", "new")
    assert Shard(1, 5).pick([*ids, new], {}) - {new} == Shard(1, 5).pick(ids, {})


@pytest.mark.parametrize("text", ["", "0/5", "6/5", "1", "a/b", "1/", "/2", "-1/2"])
def test_no_shard(text: str) -> None:
    with pytest.raises(UserError):
        Shard.parse(text)
