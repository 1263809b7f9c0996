"""Too many keys that do not work, from one address or from many."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from lakebed.serve.auth import StoredKeys
from lakebed.serve.errors import RateLimitedError, UnauthorizedError
from lakebed.serve.failed_attempts import FailedAttempts
from lakebed.serve.store.database import open_database
from lakebed.serve.store.keys import create_key


@pytest.fixture
def engine(key_store: str) -> Engine:
    return open_database(key_store)


class Clock:
    """Stands still until told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def outcome(keys: StoredKeys, secret: str, address: str) -> type[Exception] | None:
    try:
        asyncio.run(keys.check(f"Bearer {secret}", address))
    except (UnauthorizedError, RateLimitedError) as error:
        return type(error)
    return None


def test_an_address_that_guesses_is_told_to_wait_and_others_are_not(engine: Engine) -> None:
    clock = Clock()
    keys = StoredKeys(engine, 2.0, clock, failures_per_minute=3)
    outcomes = [outcome(keys, f"guess{number}", "192.0.2.1") for number in range(5)]
    assert outcomes == [UnauthorizedError] * 3 + [RateLimitedError] * 2
    assert outcome(keys, "guess", "192.0.2.2") is UnauthorizedError
    clock.now += 61
    assert outcome(keys, "guess", "192.0.2.1") is UnauthorizedError


def test_the_time_to_wait_is_the_time_after_which_it_may_fail_again(engine: Engine) -> None:
    clock = Clock()
    keys = StoredKeys(engine, 2.0, clock, failures_per_minute=1)
    assert outcome(keys, "guess", "192.0.2.1") is UnauthorizedError
    clock.now += 20
    with pytest.raises(RateLimitedError) as caught:
        asyncio.run(keys.check("Bearer guess", "192.0.2.1"))
    assert 39 < caught.value.retry_after < 41
    clock.now += caught.value.retry_after
    assert outcome(keys, "guess", "192.0.2.1") is UnauthorizedError


def test_a_key_that_works_is_let_in_from_an_address_that_guesses(engine: Engine) -> None:
    secret, _ = create_key(engine, "me")
    keys = StoredKeys(engine, 2.0, Clock(), failures_per_minute=1)
    assert outcome(keys, "guess", "192.0.2.1") is UnauthorizedError
    assert outcome(keys, "guess", "192.0.2.1") is RateLimitedError
    assert outcome(keys, secret, "192.0.2.1") is None


def test_a_request_without_a_key_is_no_guess(engine: Engine) -> None:
    keys = StoredKeys(engine, 2.0, Clock(), failures_per_minute=1)
    for _ in range(3):
        with pytest.raises(UnauthorizedError, match="no API key"):
            asyncio.run(keys.check(None, "192.0.2.1"))


@pytest.mark.parametrize(
    "address_of",
    [
        lambda number: f"2001:db8:1:1::{number:x}",
        lambda number: "::ffff:192.0.2.1" if number % 2 else "192.0.2.1",
        lambda number: ["", "testclient", None][number % 3],
    ],
    ids=["one network", "one address in two forms", "addresses that cannot be told"],
)
def test_what_one_client_may_call_itself_is_one_address(address_of: Callable[[int], str | None]) -> None:
    attempts = FailedAttempts(10, Clock())
    for number in range(10):
        assert attempts.seconds_until_allowed(address_of(number)) == 0
        attempts.note(address_of(number))
    assert attempts.seconds_until_allowed(address_of(0)) > 0
    assert len(attempts) == 1


def test_many_addresses_together_are_bounded_in_what_they_may_and_in_memory() -> None:
    clock = Clock()
    attempts = FailedAttempts(1, clock)
    for number in range(20):
        assert attempts.seconds_until_allowed(f"192.0.2.{number}") == 0
        attempts.note(f"192.0.2.{number}")
    assert attempts.seconds_until_allowed("192.0.2.99") > 0
    for number in range(12_000):
        attempts.note(f"10.0.{number // 250}.{number % 250}")
    assert len(attempts) == 10_000
    clock.now += 61
    attempts.note("192.0.2.1")
    assert len(attempts) == 1
