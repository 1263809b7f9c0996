"""One limit for several replicas: the protocol alone, and with a real authority."""

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass, field

import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.waiting import wait_until

from lakebed.serve.errors import RateLimitedError
from lakebed.serve.leases import LEASE_SECONDS, NOW, Ask, Authority, Grant, Leasehold, share_of
from lakebed.serve.limit_authority import AuthorityActor, RayAuthority
from lakebed.serve.limiters import AuthorityLostError, LeasedLimiter, Limiter, LocalLimiter, Settled
from lakebed.serve.limits import Amounts, Rate


@dataclass
class Fleet:
    """Replicas and an authority in a time of their own, and all that was ever spent."""

    rate: Rate
    replicas: int
    now: float = 0.0
    asked: int = 0
    spent: list[tuple[float, Amounts]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.authority = Authority()
        self.holds = [Leasehold() for _ in range(self.replicas)]

    def request(self, replica: int, estimate: int, true: int) -> bool:
        """One request that turns out to be `true` tokens large; whether it was let in."""
        hold, amounts = self.holds[replica], self.rate.counted(Amounts(1, estimate))
        stamp = hold.take(amounts, self.now)
        if stamp is None:
            ask = Ask("key", self.rate, amounts, share_of(self.rate, self.replicas), hold.settlement())
            grant = self.authority.lease(ask, self.now)
            self.asked += 1
            if grant.wait:
                return False
            hold.receive(grant, self.now)
            stamp = hold.take(amounts, self.now)
        assert stamp is not None
        hold.correct(stamp, self.rate.counted(Amounts(0, true - estimate)), self.now)
        self.spent.append((self.now, self.rate.counted(Amounts(1, true))))
        return True

    def most_in_a_minute(self) -> Amounts:
        """The most that was spent within any minute."""
        sums = [[amounts for moment, amounts in self.spent if end - 60 < moment <= end] for end, _ in self.spent]
        return Amounts(*(max((sum(some[of] for some in minute) for minute in sums), default=0) for of in (0, 1)))


requests = st.lists(
    st.tuples(st.floats(0, 6), st.integers(0, 2), st.integers(1, 100), st.floats(0, 1)), max_size=120
)


@settings(max_examples=200)
@given(requests, st.integers(1, 40) | st.none(), st.integers(100, 1000) | st.none())
def test_replicas_together_never_go_over_a_limit(
    requests: list[tuple[float, int, int, float]], per_minute: int | None, tokens: int | None
) -> None:
    fleet = Fleet(Rate(per_minute, tokens), replicas=3)
    for pause, replica, estimate, part in requests:
        fleet.now += pause
        fleet.request(replica, estimate, int(estimate * part))
    most = fleet.most_in_a_minute()
    assert per_minute is None or most.requests <= per_minute
    assert tokens is None or most.tokens <= tokens


@pytest.mark.parametrize("replicas", [1, 2, 4, 8])
@pytest.mark.parametrize("busy", [1, 8])
def test_under_overload_nine_tenths_of_the_limit_are_let_in(replicas: int, busy: int) -> None:
    fleet = Fleet(Rate(240, 12_000), replicas)
    for step in range(180 * 12):  # three minutes, 12 requests a second, three times the limit
        fleet.now = step / 12
        fleet.request(step % min(busy, replicas), estimate=60, true=40)
    last = [moment for moment, _ in fleet.spent if moment > 60]
    assert 0.9 * 240 * 2 <= len(last) <= 240 * 2
    assert fleet.most_in_a_minute().requests <= 240


def test_most_requests_ask_nobody() -> None:
    fleet = Fleet(Rate(60_000, None), replicas=4)
    for step in range(5_000):
        fleet.now = step / 1000
        assert fleet.request(step % 4, 1, 1)
    assert fleet.asked < 5_000 / 50


def test_a_lease_is_good_for_its_time_only_and_what_is_left_goes_back() -> None:
    authority, hold, rate = Authority(), Leasehold(), Rate(100, None)
    hold.receive(authority.lease(Ask("key", rate, Amounts(1), Amounts(50)), 0.0), 0.0)
    assert hold.take(Amounts(20), 1.0) is not None
    assert hold.take(Amounts(1), LEASE_SECONDS) is None
    assert authority.lease(Ask("key", rate, Amounts(60), Amounts()), 3.0).wait > 0
    authority.settle("key", hold.settlement(), 3.0)
    assert authority.lease(Ask("key", rate, Amounts(80), Amounts()), 3.0).amounts.requests == 80
    assert hold.settlement() == ()


def test_keys_do_not_share_a_limit() -> None:
    authority, rate = Authority(), Rate(1, None)
    assert authority.lease(Ask("mine", rate, Amounts(1), Amounts()), 0.0).wait == 0
    assert authority.lease(Ask("yours", rate, Amounts(1), Amounts()), 0.0).wait == 0
    assert authority.lease(Ask("mine", rate, Amounts(1), Amounts()), 0.0).wait > 0


async def admitted(limiter: LeasedLimiter, rate: Rate, times: int, key: str = "key") -> int:
    """How many of so many requests at one time were let in."""
    results = await asyncio.gather(*(limiter.admit(key, rate, 1) for _ in range(times)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(error, RateLimitedError) for error in refused), refused
    return len(results) - len(refused)


@pytest.fixture
def authority_name(ray_cluster: str) -> str:
    """Name of an authority of this test's own; its actor ends with the test's Ray."""
    return f"limits-{uuid.uuid4().hex[:8]}"


def test_several_replicas_and_one_real_authority_hold_the_limit(authority_name: str) -> None:
    async def run() -> int:
        replicas = [LeasedLimiter(RayAuthority(authority_name, 30), 4) for _ in range(4)]
        return sum(await asyncio.gather(*(admitted(each, Rate(400, None), 300) for each in replicas)))

    assert 0.9 * 400 <= asyncio.run(run()) <= 400


def test_what_a_replica_leaves_another_may_use(authority_name: str) -> None:
    """Tokens that were estimated and not needed, and a lease that nobody spent."""

    async def run() -> None:
        first, second = (LeasedLimiter(RayAuthority(authority_name, 30), 2) for _ in range(2))
        rate = Rate(None, 1000)
        charge = await first.admit("key", rate, 900)
        with pytest.raises(RateLimitedError):
            await second.admit("key", rate, 900)
        charge.change(10)
        give_up = time.monotonic() + 30
        while True:
            try:
                await second.admit("key", rate, 900)
                return
            except RateLimitedError:
                assert time.monotonic() < give_up
                await asyncio.sleep(0.05)

    asyncio.run(run())


@pytest.mark.parametrize("for_good", [False, True])
def test_an_authority_that_dies_is_replaced_by_shares_and_comes_back(
    authority_name: str, caplog: pytest.LogCaptureFixture, for_good: bool
) -> None:
    now = 0.0

    async def run() -> None:
        limiter = LeasedLimiter(RayAuthority(authority_name), 4, clock=lambda: now)
        await until_logged(limiter, "")
        ray.kill(ray.get_actor(authority_name, namespace="lakebed"), no_restart=for_good)
        await until_logged(limiter, "keeps to its share")
        assert await admitted(limiter, Rate(40, None), 30, "during") == 10
        await until_logged(limiter, "answers again")
        assert await admitted(limiter, Rate(40, None), 50, "after") == 40

    async def until_logged(limiter: LeasedLimiter, words: str) -> None:
        """Ask for one lease after the other."""
        nonlocal now
        give_up = time.monotonic() + 60
        await admitted(limiter, Rate(1_000_000, None), 1)
        while words not in caplog.text:
            assert time.monotonic() < give_up
            now += 5
            await admitted(limiter, Rate(1_000_000, None), 1)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())


def test_an_authority_that_no_replica_talks_to_ends(authority_name: str) -> None:
    options = {"name": authority_name, "namespace": "lakebed", "lifetime": "detached", "max_restarts": -1}
    actor = ray.remote(AuthorityActor).options(num_cpus=0, **options).remote(alone_seconds=0.5)
    ray.get(actor.hear.remote())
    wait_until(lambda: not is_there(authority_name))


def is_there(name: str) -> bool:
    try:
        ray.get_actor(name, namespace="lakebed")
    except ValueError:
        return False
    return True


class Gone:
    """An authority that cannot be reached, until it can; keeps what it was told."""

    def __init__(self, there: bool = False) -> None:
        self.there = there
        self.authority = Authority()
        self.calls = 0

    async def lease(self, ask: Ask) -> Grant:
        self.calls += 1
        if not self.there:
            raise AuthorityLostError("it is gone")
        return self.authority.lease(ask, 0.0)

    async def settle(self, key: str, settled: Settled) -> None:
        raise AuthorityLostError("it is gone")


def test_without_an_authority_each_replica_keeps_to_its_share(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        gone = Gone()
        replicas = [LeasedLimiter(gone, 4) for _ in range(4)]
        assert [await admitted(each, Rate(100, None), 60) for each in replicas] == [25] * 4
        assert gone.calls == 4

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert len(caplog.records) == 4


def test_what_a_replica_has_let_in_before_counts_in_its_share() -> None:
    async def run() -> None:
        gone, now = Gone(there=True), [0.0]
        limiter = LeasedLimiter(gone, 4, clock=lambda: now[0])
        assert await admitted(limiter, Rate(100, None), 20) == 20
        gone.there, now[0] = False, 10.0
        assert await admitted(limiter, Rate(100, None), 20) == 5

    asyncio.run(run())


def test_a_request_that_is_called_off_is_not_counted() -> None:
    async def run(limiter: Limiter) -> None:
        for _ in range(3):
            charge = await limiter.admit("key", Rate(1, 10), 10)
            charge.cancel()

    for limiter in (LocalLimiter(), LeasedLimiter(Gone(), 1), LeasedLimiter(Gone(there=True), 2)):
        asyncio.run(run(limiter))


def test_a_request_larger_than_a_share_still_gets_in_without_an_authority() -> None:
    async def run() -> None:
        limiter = LeasedLimiter(Gone(), 4)
        charge = await limiter.admit("key", Rate(None, 100), 90)
        assert charge.standing().headers()["x-ratelimit-limit-tokens"] == "100"
        with pytest.raises(RateLimitedError):
            await limiter.admit("key", Rate(None, 100), 1)

    asyncio.run(run())


def test_the_authority_hears_afterwards_what_was_spent_without_it() -> None:
    async def run() -> None:
        gone, now = Gone(), [0.0]
        limiter = LeasedLimiter(gone, 2, clock=lambda: now[0])
        assert await admitted(limiter, Rate(100, None), 60) == 50
        gone.there, now[0] = True, 10.0
        assert await admitted(limiter, Rate(100, None), 60) == 50

    asyncio.run(run())


def test_a_refused_replica_does_not_ask_for_every_request() -> None:
    async def run() -> None:
        gone = Gone(there=True)
        limiter = LeasedLimiter(gone, 2, clock=lambda: 0.0)
        assert await admitted(limiter, Rate(10, None), 500) == 10
        assert gone.calls <= 11

    asyncio.run(run())


def test_spending_without_a_lease_is_counted_when_it_is_told() -> None:
    authority, hold = Authority(), Leasehold()
    hold.correct(NOW, Amounts(7), 0.0)
    authority.settle("key", hold.settlement(), 0.0)
    assert authority.lease(Ask("key", Rate(10, None), Amounts(4), Amounts()), 0.0).wait > 0
    assert authority.lease(Ask("key", Rate(10, None), Amounts(3), Amounts()), 0.0).wait == 0
