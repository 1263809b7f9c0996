"""The book of suspects, against processes that die of rows, of too many rows, and of nothing of theirs."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from lakebed.jobs.suspects import DEATHS, Suspects, Turns, guarded


class DeathError(BaseException):
    """What a process that is killed does: it goes no further."""


@dataclass
class Fleet:
    """Processes that take a batch again until one gets through it, as Ray's do; `dies` says of which rows."""

    dies: Callable[[range], bool]
    book: Suspects = field(default_factory=Suspects)
    deaths: list[range] = field(default_factory=list)
    calls: list[range] = field(default_factory=list)

    def embed(self, rows: int, batch: bytes = b"batch") -> tuple[list[int], list[int]]:
        """Return rows that were embedded, and rows that were condemned."""
        while True:
            embedded: list[int] = []
            condemned: list[int] = []
            try:
                self._process(batch, rows, embedded, condemned)
            except DeathError:
                continue
            return embedded, condemned

    def _process(self, batch: bytes, rows: int, embedded: list[int], condemned: list[int]) -> None:
        def run(start: int, stop: int) -> None:
            self.calls.append(range(start, stop))
            if self.dies(range(start, stop)):
                self.deaths.append(range(start, stop))
                raise DeathError
            embedded.extend(range(start, stop))

        guarded(self.book, Turns(), batch, rows, run, condemned.append)


def batches(most: int) -> st.SearchStrategy[tuple[int, set[int]]]:
    """Sizes of batches with poisoned rows in them."""
    return st.integers(1, most).flatmap(
        lambda rows: st.tuples(st.just(rows), st.sets(st.integers(0, rows - 1), max_size=4))
    )


@settings(deadline=None)
@given(batches(300))
def test_exactly_the_rows_that_kill_are_condemned_and_all_others_embedded_once(case: tuple[int, set[int]]) -> None:
    rows, poison = case
    fleet = Fleet(lambda run: any(row in poison for row in run))
    embedded, condemned = fleet.embed(rows)
    assert (sorted(embedded), sorted(condemned)) == (sorted(set(range(rows)) - poison), sorted(poison))
    assert len(fleet.deaths) <= 1 + 5 * len(poison)


@settings(deadline=None, max_examples=50)
@given(batches(40), st.integers(0, 2**32), st.floats(0, 0.3))
def test_a_row_is_condemned_only_after_two_deaths_alone_whatever_else_kills(
    case: tuple[int, set[int]], seed: int, rate: float
) -> None:
    rows, poison = case
    chance = random.Random(seed)
    fleet = Fleet(lambda run: any(row in poison for row in run) or chance.random() < rate)
    embedded, condemned = fleet.embed(rows)
    assert poison <= set(condemned)
    assert sorted(embedded + condemned) == list(range(rows))
    alone = Counter(run[0] for run in fleet.deaths if len(run) == 1)
    assert all(alone[row] >= DEATHS for row in condemned)


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 20), st.sets(st.integers(0, 199), max_size=2))
def test_too_many_rows_at_once_cost_none_of_them(rows: int, most: int, poison: set[int]) -> None:
    fleet = Fleet(lambda run: len(run) > most or any(row in poison for row in run))
    embedded, condemned = fleet.embed(rows)
    assert set(condemned) == {row for row in poison if row < rows}
    assert sorted(embedded + condemned) == list(range(rows))


def test_a_process_killed_from_outside_costs_no_row_and_few_calls() -> None:
    deaths = iter([True])
    fleet = Fleet(lambda _: next(deaths, False))
    assert fleet.embed(2048) == (list(range(2048)), [])
    assert len(fleet.calls) == 1 + 16


def test_one_row_in_many_is_found_in_few_deaths_and_harmless_rows_are_repeated_together() -> None:
    fleet = Fleet(lambda run: 2047 in run)
    assert fleet.embed(2048) == (list(range(2047)), [2047])
    assert [len(run) for run in fleet.deaths] == [2048, 128, 8, 1, 1]
    assert fleet.calls[-1] == range(2047)


def test_a_condemned_row_is_not_tried_again_when_its_batch_is() -> None:
    fleet = Fleet(lambda run: 7 in run)
    fleet.embed(40)
    deaths = len(fleet.deaths)
    assert fleet.embed(40)[1] == [7]
    assert len(fleet.deaths) == deaths


def test_batches_that_get_through_are_forgotten() -> None:
    fleet = Fleet(lambda _: False)
    for batch in (b"a", b"b"):
        fleet.embed(10, batch)
    assert fleet.book.remembered == 0


def test_announcing_twice_is_no_death_and_a_process_that_lost_its_batch_has_no_say() -> None:
    book = Suspects()
    orders = book.begin(b"batch", "first", 1)
    assert book.begin(b"batch", "first", 1) == orders
    assert book.begin(b"batch", "second", 1).alone
    book.through(b"batch", "first", (0, 1))
    book.trying(b"batch", "first", (0, 1))
    assert book.begin(b"batch", "third", 1).condemned == (), "the second had not begun"


def test_a_row_that_was_not_alone_in_its_process_is_not_counted_against() -> None:
    book = Suspects()
    book.begin(b"batch", "beside others", 1)
    book.begin(b"batch", "alone", 1)
    book.trying(b"batch", "alone", (0, 1))
    assert book.begin(b"batch", "alone again", 1).runs == ((0, 1),)


def test_processes_that_die_before_they_are_ready_are_given_up() -> None:
    book = Suspects(processes=2)
    assert all(book.starting() for _ in range(7))
    assert not book.starting()
    book.ready()
    assert book.starting()


def test_who_must_be_alone_waits_for_the_others_and_keeps_new_ones_out() -> None:
    turns = Turns()
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def shared() -> None:
        with turns.shared():
            inside.set()
            leave.wait(10)
            order.append("shared")

    def alone() -> None:
        with turns.alone():
            order.append("alone")

    threads = [threading.Thread(target=shared), threading.Thread(target=alone)]
    threads[0].start()
    inside.wait(10)
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join()
    assert order == ["shared", "alone"]
