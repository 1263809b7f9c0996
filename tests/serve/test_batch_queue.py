"""The batching rule, whatever the costs and whoever leaves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.platform.encoder.plan import Budget
from lakebed.serve.batch_queue import BatchQueue, Pick

costs = st.lists(st.integers(0, 400), min_size=1, max_size=30)
jobs = st.lists(costs, min_size=1, max_size=12)
budgets = st.builds(Budget, cost=st.integers(1, 600), rows=st.integers(1, 20))


def filled(jobs: list[list[int]], budget: Budget) -> BatchQueue:
    queue = BatchQueue(budget)
    for number, items in enumerate(jobs):
        queue.add(number, np.array(items))
    return queue


def drained(queue: BatchQueue) -> list[list[Pick]]:
    batches = []
    while batch := queue.next_batch():
        batches.append(batch)
    return batches


@given(jobs, budgets)
def test_every_item_runs_exactly_once(jobs: list[list[int]], budget: Budget) -> None:
    ran = [(pick.job, int(i)) for batch in drained(filled(jobs, budget)) for pick in batch for i in pick.indices]
    assert sorted(ran) == [(job, index) for job, items in enumerate(jobs) for index in range(len(items))]


@given(jobs, budgets)
def test_a_batch_keeps_the_budget_unless_it_is_one_item(jobs: list[list[int]], budget: Budget) -> None:
    for batch in drained(filled(jobs, budget)):
        sizes = [max(1, jobs[pick.job][i]) for pick in batch for i in pick.indices]
        assert len(sizes) == 1 or sum(sizes) <= budget.cost
        assert len(sizes) <= budget.rows


@given(jobs, budgets)
def test_the_oldest_job_and_the_one_that_got_least_lead_in_turn(jobs: list[list[int]], budget: Budget) -> None:
    got = dict.fromkeys(range(len(jobs)), 0)
    left = {job: len(items) for job, items in enumerate(jobs)}
    for turn, batch in enumerate(drained(filled(jobs, budget))):
        waiting = [job for job in left if left[job]]
        assert batch[0].job == (min(waiting, key=lambda job: (got[job], job)) if turn % 2 else waiting[0])
        for pick in batch:
            got[pick.job] += sum(max(1, jobs[pick.job][i]) for i in pick.indices)
            left[pick.job] -= len(pick.indices)


@given(costs, st.lists(costs, max_size=5), st.integers(1, 400), budgets, st.integers(1, 20))
def test_anothers_single_item_is_in_the_next_batch(
    huge: list[int], more: list[list[int]], single: int, budget: Budget, batches_before: int
) -> None:
    queue = filled([huge * 50, *more], budget)
    for _ in range(batches_before):
        queue.next_batch()
    queue.add(99, np.array([single]), owner="another")
    assert 99 in [pick.job for pick in queue.next_batch()]


@given(costs, st.integers(1, 400), budgets)
def test_a_single_item_of_the_same_caller_waits_for_one_batch_at_most(
    huge: list[int], single: int, budget: Budget
) -> None:
    queue = filled([huge * 50], budget)
    queue.next_batch()
    queue.add(99, np.array([single]))
    assert 99 in [pick.job for _ in range(2) for pick in queue.next_batch()]


@given(costs, st.integers(1, 400), budgets)
def test_a_stream_of_small_requests_of_the_same_caller_does_not_starve_a_huge_one(
    huge: list[int], single: int, budget: Budget
) -> None:
    queue, left = filled([huge], budget), len(huge)
    for batch in range(2 * len(huge)):
        queue.add(1 + batch, np.array([single]))
        left -= sum(len(pick.indices) for pick in queue.next_batch() if pick.job == 0)
    assert not left


@given(st.lists(st.integers(0, 400), min_size=1, max_size=8), st.integers(40, 400), budgets)
def test_a_stream_of_anothers_small_requests_gets_no_more_than_a_huge_one(
    huge: list[int], single: int, budget: Budget
) -> None:
    queue, left, spent, number = filled([huge], budget), len(huge), [0, 0], 0
    while left:
        number += 1
        queue.add(number, np.array([single]), "another")
        for pick in queue.next_batch():
            spent[pick.job > 0] += sum(max(1, ([single] if pick.job else huge)[i]) for i in pick.indices)
            left -= 0 if pick.job else len(pick.indices)
    assert spent[1] <= spent[0] + max(budget.cost, 400)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 400)), min_size=1, max_size=60), budgets)
def test_callers_who_always_wait_get_the_same(arrivals: list[tuple[str, int]], budget: Budget) -> None:
    queue, got = BatchQueue(budget), dict.fromkeys("abc", 0)
    for number, owner in enumerate("abc"):
        queue.add(number, np.array([cost for who, cost in arrivals if who == owner] * 10 or [100] * 100), owner)
    while len(queue) == 3:
        for pick in queue.next_batch():
            got["abc"[pick.job]] += len(pick.indices)
    assert len(queue) < 3


@given(jobs, budgets)
def test_no_item_is_padded_to_more_than_four_times_its_cost(jobs: list[list[int]], budget: Budget) -> None:
    for batch in drained(filled(jobs, budget)):
        sizes = [max(1, jobs[pick.job][i]) for pick in batch for i in pick.indices]
        assert max(sizes) <= 4 * min(sizes)


@given(jobs, budgets, st.data())
def test_a_dropped_job_does_not_run_and_harms_no_other(
    jobs: list[list[int]], budget: Budget, data: st.DataObject
) -> None:
    queue = filled(jobs, budget)
    first = queue.next_batch()
    gone = data.draw(st.integers(0, len(jobs) - 1))
    queue.drop(gone)
    rest = drained(queue)
    assert all(pick.job != gone for batch in rest for pick in batch)
    ran = [(pick.job, int(i)) for batch in [first, *rest] for pick in batch for i in pick.indices]
    others = [(job, i) for job, items in enumerate(jobs) if job != gone for i in range(len(items))]
    assert sorted(entry for entry in ran if entry[0] != gone) == others


def test_a_batch_is_smaller_while_a_small_request_waits_beside_one_that_had_its_turn() -> None:
    queue = filled([[10] * 100], Budget(cost=80, rows=100))
    assert sum(len(pick.indices) for pick in queue.next_batch()) == 8
    queue.add(1, np.array([10]))
    assert sorted((pick.job, len(pick.indices)) for pick in queue.next_batch()) == [(0, 1), (1, 1)]
    queue.add(2, np.array([10] * 100))
    assert sum(len(pick.indices) for pick in queue.next_batch()) == 8


def test_small_requests_ride_along_in_one_batch() -> None:
    batches = drained(filled([[10], [12], [9], [11]], Budget(cost=100, rows=8)))
    assert [[pick.job for pick in batch] for batch in batches] == [[0, 2], [1, 3]]


def test_who_comes_back_has_no_credit_and_no_debt() -> None:
    queue = BatchQueue(Budget(cost=10, rows=1))
    queue.add(0, np.array([10] * 100), "steady")
    queue.add(1, np.array([10] * 3), "comes and goes")
    order = [queue.next_batch()[0].job for _ in range(20)]
    queue.add(2, np.array([10] * 3), "comes and goes")
    assert order[:6] == [0, 1, 0, 1, 0, 1]
    assert [queue.next_batch()[0].job for _ in range(6)] == [2, 0, 2, 0, 2, 0]


def test_a_job_is_queued_once_and_with_items() -> None:
    queue = filled([[1]], Budget())
    with pytest.raises(ValueError, match="queued already"):
        queue.add(0, np.array([1]))
    with pytest.raises(ValueError, match="no items"):
        queue.add(1, np.array([], int))
