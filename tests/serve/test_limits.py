"""Sliding windows over requests and tokens, against a list of everything that was ever added."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.serve.limits import Amounts, Meter, Meters, Rate, SlidingWindow, duration
from lakebed.serve.token_estimate import estimate_tokens

BUCKET = 0.25

steps = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 50)), max_size=60)


@given(steps)
def test_a_window_counts_a_minute_and_at_most_a_quarter_of_a_second_more(steps: list[tuple[float, int]]) -> None:
    window, added, now = SlidingWindow(), [], 0.0
    for pause, amount in steps:
        now += pause
        window.add(amount, now)
        added.append((now, amount))
        total = window.total(now)
        assert total >= sum(amount for moment, amount in added if moment > now - 60)
        assert total <= sum(amount for moment, amount in added if moment > now - 60 - BUCKET - 1e-6)


@given(steps, st.integers(1, 100))
def test_what_waits_as_long_as_it_is_told_gets_in_and_not_before(
    steps: list[tuple[float, int]], limit: int
) -> None:
    meter, rate, now = Meter(), Rate(requests=limit), 0.0
    for pause, amount in steps:
        now += pause
        amounts = Amounts(min(amount, limit))
        wait = meter.seconds_until(rate, amounts, now)
        assert 0 <= wait <= 60 + BUCKET
        if wait:
            assert meter.seconds_until(rate, amounts, now + wait - BUCKET / 2) > 0
        now += wait
        assert meter.seconds_until(rate, amounts, now) == 0
        meter.add(amounts, now)
        assert meter.used(now).requests <= limit


@given(steps, st.data())
def test_what_is_corrected_counts_as_if_it_had_been_so_at_once(
    steps: list[tuple[float, int]], data: st.DataObject
) -> None:
    corrected, exact, now = SlidingWindow(), SlidingWindow(), 0.0
    for pause, amount in steps:
        now += pause
        true = data.draw(st.integers(0, 100))
        corrected.change(corrected.add(amount, now), true - amount)
        exact.add(true, now)
        assert corrected.total(now) == exact.total(now)
    assert corrected.total(now + corrected.seconds_until_empty(now)) == 0


def test_a_correction_that_comes_after_the_window_is_nothing() -> None:
    window = SlidingWindow()
    bucket = window.add(5, 0.0)
    assert window.total(61.0) == 0
    window.change(bucket, -5)
    assert window.total(61.0) == 0


def test_either_limit_holds_back_and_what_has_none_does_not() -> None:
    meter = Meter()
    meter.add(Amounts(1, 90), 0.0)
    assert meter.seconds_until(Rate(1, None), Amounts(1, 0), 1.0) == pytest.approx(59.25)
    assert meter.seconds_until(Rate(None, 100), Amounts(1, 11), 1.0) == pytest.approx(59.25)
    assert meter.seconds_until(Rate(2, 100), Amounts(1, 10), 1.0) == 0
    assert math.isinf(meter.seconds_until(Rate(None, 100), Amounts(1, 101), 1.0))


def test_headers_say_what_is_limited_and_never_less_than_nothing() -> None:
    meter = Meter()
    meter.add(Amounts(1, 90), 0.0)
    assert meter.standing(Rate(3, None), 0.0).headers() == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "1m1s",
    }
    assert meter.standing(Rate(None, 80), 50.0).headers()["x-ratelimit-remaining-tokens"] == "0"
    assert meter.standing(Rate(), 0.0).headers() == {}


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0s"), (0.01, "1s"), (59, "59s"), (59.5, "1m0s"), (61, "1m1s"), (360, "6m0s")]
)
def test_durations_are_written_as_openai_writes_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_keys_that_are_not_used_are_forgotten() -> None:
    meters = Meters()
    for number in range(100):
        meters.of(f"key{number}", 0.0).add(Amounts(1), 0.0)
    assert len(meters) == 100
    assert meters.of("key7", 30.0).used(30.0).requests == 1
    meters.of("key7", 30.0).add(Amounts(1), 30.0)
    meters.of("other", 70.0)
    assert len(meters) == 2
    assert meters.of("key7", 70.0).used(70.0).requests == 1


ENGLISH = '{"model": "m", "input": ["The pump at the north gate has rattled since the bearings were replaced."]}'


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (ENGLISH.encode(), 14),
        (b'{"input": [{"time_series": [[' + b"-0.12345678, " * 15_999 + b"1.0]]}]}", 1000),
        (b'{"input": "' + b"word " * 600_000 + b'"}', 600_000),
    ],
    ids=["a text", "a series", "more than is looked at"],
)
def test_an_estimate_is_near_for_texts_and_for_series(body: bytes, tokens: int) -> None:
    assert tokens / 2 <= estimate_tokens(body) <= tokens * 2


def test_nothing_is_estimated_at_nothing() -> None:
    assert estimate_tokens(b"") == 1
