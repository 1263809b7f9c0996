"""Batches: every item once, within budget, and ragged columns that cut and join without mixing rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.platform.encoder.plan import Budget, length_sorted_batches
from lakebed.platform.encoder.prepared import Prepared, Ragged, concat

costs_lists = st.lists(st.integers(0, 5000), max_size=60)


@given(costs_lists, st.integers(1, 4000), st.integers(1, 20))
def test_every_item_is_in_exactly_one_batch_within_budget(costs, cost, rows):
    array = np.array(costs, np.int64)
    batches = list(length_sorted_batches(array, Budget(cost, rows)))
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(costs)))
    for batch in batches:
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(1, array[batch].max()) <= cost


@given(costs_lists)
def test_the_dearest_come_first(costs):
    array = np.array(costs, np.int64)
    order = [array[place] for batch in length_sorted_batches(array, Budget()) for place in batch]
    assert order == sorted(order, reverse=True)


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="must be positive"):
        Budget(cost=0)


rows_lists = st.lists(st.lists(st.integers(-9, 9), max_size=5), min_size=1, max_size=8)


def _prepared(rows):
    ragged = Ragged.of([np.array(row, np.int64) for row in rows], np.int64)
    return Prepared({"values": ragged}, *(ragged.lengths for _ in range(4)))


def _rows(work):
    return [work.columns["values"].row(place).tolist() for place in range(len(work))]


@given(rows_lists, st.data())
def test_taking_rows_gives_those_rows(rows, data):
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
    taken = _prepared(rows).take(np.array(places, np.int64))
    assert _rows(taken) == [rows[place] for place in places]
    assert taken.costs.tolist() == [len(rows[place]) for place in places]


@given(st.lists(rows_lists, min_size=1, max_size=4))
def test_joining_keeps_order(parts):
    assert _rows(concat([_prepared(rows) for rows in parts])) == [row for rows in parts for row in rows]
