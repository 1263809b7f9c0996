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
        sizes = [jobs[pick.job][i] for pick in batch for i in pick.indices]
        assert len(sizes) == 1 or max(sizes) * len(sizes) <= budget.cost
        assert len(sizes) <= budget.rows


@given(jobs, budgets)
def test_every_batch_moves_the_oldest_job_on(jobs: list[list[int]], budget: Budget) -> None:
    left = {job: len(items) for job, items in enumerate(jobs)}
    for batch in drained(filled(jobs, budget)):
        assert batch[0].job == min(job for job, count in left.items() if count)
        for pick in batch:
            left[pick.job] -= len(pick.indices)


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


def test_small_requests_ride_along_in_one_batch() -> None:
    batches = drained(filled([[10], [12], [9], [11]], Budget(cost=100, rows=8)))
    assert [[pick.job for pick in batch] for batch in batches] == [[0, 2], [1, 3]]


def test_a_job_is_queued_once_and_with_items() -> None:
    queue = filled([[1]], Budget())
    with pytest.raises(ValueError, match="queued already"):
        queue.add(0, np.array([1]))
    with pytest.raises(ValueError, match="no items"):
        queue.add(1, np.array([], int))
