"""Admission by tokens, and by how long a request would wait for others."""

from contextlib import ExitStack

import pytest

from lakebed.serve.admission import Admission, Guesses
from lakebed.serve.errors import OverloadedError
from lakebed.serve.meter import Meter


def admission_of(capacity: int = 10**9, rate: int | None = None, wait_seconds: float = 1.0) -> Admission:
    meter = Meter()
    if rate is not None:
        meter.add(rate, 1.0)
    return Admission(capacity, wait_seconds, meter)


def inside(admission: Admission, stack: ExitStack, *sizes: int) -> None:
    """Let in requests of these sizes, which cost what was estimated."""
    for size in sizes:
        stack.enter_context(admission.enter(size)).correct(size, size)


def test_what_does_not_fit_is_told_when_to_come_back() -> None:
    admission = admission_of(100)
    with admission.enter(80), pytest.raises(OverloadedError) as caught, admission.enter(30):
        pass
    assert 0 < caught.value.retry_after <= 5
    assert (admission.tokens, admission.requests) == (0, 0)


def test_the_true_cost_replaces_the_estimate() -> None:
    admission = admission_of(100)
    with admission.enter(80) as ticket:
        ticket.correct(10, 10)
        with admission.enter(90):
            assert admission.tokens == 100
    assert admission.tokens == 0


def test_an_empty_server_takes_any_request() -> None:
    admission = admission_of(100, rate=1)
    with admission.enter(150):
        assert admission.tokens == 150


def test_a_request_that_fails_gives_its_share_back() -> None:
    admission = admission_of(100)
    with pytest.raises(ValueError, match="broken"), admission.enter(50):
        raise ValueError("broken")
    assert (admission.tokens, admission.requests) == (0, 0)


def test_a_request_that_would_wait_too_long_is_refused_and_told_for_how_long() -> None:
    admission = admission_of(rate=1000)
    with ExitStack() as stack:
        inside(admission, stack, *[10] * 101)
        with pytest.raises(OverloadedError) as caught, admission.enter(20):
            pass
        assert caught.value.retry_after == pytest.approx(1.01)


def test_a_small_request_comes_in_beside_a_huge_one_and_another_huge_one_does_not() -> None:
    admission = admission_of(rate=1000)
    with ExitStack() as stack:
        inside(admission, stack, 100_000)
        with admission.enter(10):
            pass
        with pytest.raises(OverloadedError), admission.enter(100_000):
            pass


def test_nobody_waits_too_long_by_a_rate_that_is_not_known() -> None:
    admission = admission_of()
    with ExitStack() as stack:
        inside(admission, stack, *[1000] * 1000)
        with admission.enter(1000):
            assert admission.requests == 1001


def test_a_meter_forgets_what_was_long_ago() -> None:
    meter = Meter()
    assert meter.rate is None
    meter.add(1000, 1.0)
    assert meter.rate == pytest.approx(1000)
    for _ in range(100):
        meter.add(10, 1.0)
    assert meter.rate == pytest.approx(10)


def test_a_cost_is_guessed_from_what_the_last_requests_turned_out_to() -> None:
    guesses = Guesses()
    assert guesses.of(100) == 50
    for _ in range(200):
        guesses.learn(1000, 800)
    assert guesses.of(100) == 80


@pytest.mark.parametrize(("cost", "guess"), [(0, 25), (5000, 100)])
def test_a_guess_is_neither_more_than_the_estimate_nor_next_to_nothing(cost: int, guess: int) -> None:
    guesses = Guesses()
    for _ in range(200):
        guesses.learn(1000, cost)
    assert guesses.of(100) == guess


def test_requests_whose_cost_is_not_known_yet_count_what_such_requests_cost() -> None:
    admission = admission_of(rate=1000)
    for _ in range(200):
        with admission.enter(100) as ticket:
            ticket.correct(100, 100)
    with ExitStack() as stack:
        for _ in range(11):
            stack.enter_context(admission.enter(100))
        with pytest.raises(OverloadedError), admission.enter(100):
            pass


def test_some_work_may_always_wait_however_slow_the_device_is() -> None:
    meter = Meter()
    meter.add(10, 1.0)
    admission = Admission(10**9, 1.0, meter, always=1000)
    with ExitStack() as stack:
        inside(admission, stack, *[100] * 11)
        with pytest.raises(OverloadedError) as caught, admission.enter(200):
            pass
    assert caught.value.retry_after == pytest.approx(110)
