from __future__ import annotations

import random
from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.matrix.sampling import pairwise, spread

Rows = list[tuple[int | None, ...]]
tables = st.lists(
    st.tuples(*[st.one_of(st.none(), st.integers(0, 3))] * 5), min_size=1, max_size=60
)


def pairs(rows: Rows) -> set[object]:
    return {
        pair
        for row in rows
        for pair in combinations([(a, v) for a, v in enumerate(row) if v is not None], 2)
    }


def at(rows: Rows, picked: list[int]) -> Rows:
    return [rows[index] for index in picked]


@given(tables)
def test_every_pair_of_a_valid_row_is_held(rows: Rows) -> None:
    picked = pairwise(rows)
    assert pairs(at(rows, picked)) == pairs(rows)
    assert len(set(picked)) == len(picked)


@given(tables)
def test_no_row_is_picked_for_nothing(rows: Rows) -> None:
    picked = at(rows, pairwise(rows))
    for end in range(1, len(picked) + 1):
        assert pairs(picked[: end - 1]) < pairs(picked[:end])


@given(tables)
def test_each_choice_adds_the_most(rows: Rows) -> None:
    picked = pairwise(rows)
    held: set[object] = set()
    for index in picked:
        gains = [len(pairs([row]) - held) for row in rows]
        assert index == gains.index(max(gains))
        held |= pairs([rows[index]])


def test_pairs_that_only_rare_rows_hold_are_not_lost() -> None:
    # Value 9 of axis 0 lives only with value 9 of axis 1: what a filtered product would lose.
    rows: Rows = [*product(range(3), range(3), range(3)), (9, 9, 0)]
    assert rows.index((9, 9, 0)) in pairwise(rows)


def test_it_is_much_smaller_than_the_product() -> None:
    rows: Rows = list(product(*[range(4)] * 6))
    assert len(pairwise(rows)) < 35  # at least 16; the product has 4096


@given(tables, st.integers(1, 70))
def test_spread_takes_so_many_and_the_covering_ones_first(rows: Rows, count: int) -> None:
    names = [f"cell {index}" for index in range(len(rows))]
    picked = spread(rows, names, count)
    covering = pairwise(rows)
    assert len(set(picked)) == len(picked) == min(count, len(rows))
    assert picked[: len(covering)] == covering[:count]
    assert picked == spread(rows, names, count)
    assert set(picked) <= set(spread(rows, names, count + 1))


def test_spread_beyond_the_covering_rows_does_not_follow_their_order() -> None:
    rows: Rows = list(product(range(2), range(50)))
    names = [str(row) for row in rows]
    chosen = {names[index] for index in spread([(0, 0)] * 100, names, 20)}
    order = list(range(100))
    random.Random(7).shuffle(order)
    shuffled = [names[index] for index in order]
    again = {shuffled[index] for index in spread([(0, 0)] * 100, shuffled, 20)}
    # Only the covering row, the first one, may differ.
    assert len(chosen & again) >= 18
