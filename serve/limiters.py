"""Letting requests in by their key's rate: in one replica, or in several that share one authority.

Knows the windows and the lease protocol; knows neither HTTP nor Ray, nor what a key is besides a name.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from lakebed.serve.errors import RateLimitedError
from lakebed.serve.leases import LEASE_SECONDS, NOW, Ask, Grant, Leasehold, share_of
from lakebed.serve.limits import NOTHING, Amounts, Meters, Rate, Standing

_log = logging.getLogger(__name__)

Clock = Callable[[], float]

_ASK_AGAIN_SECONDS: Final = 0.25
"""For so long after the authority refused, this replica refuses the same without asking it."""

_LOST_SECONDS: Final = 5.0
"""For so long after the authority did not answer, it is not asked."""

Settled = tuple[tuple[int, Amounts], ...]


class AuthorityLostError(Exception):
    """The authority did not answer; the caller limits on its own meanwhile."""


class AuthorityClient(Protocol):
    """The authority as a replica reaches it; both raise AuthorityLostError."""

    async def lease(self, ask: Ask) -> Grant:
        """Ask for a lease."""
        ...

    async def settle(self, key: str, settled: Settled) -> None:
        """Say what was spent of earlier leases."""
        ...


class Charge:
    """What a request that was let in is counted for."""

    def __init__(self, tokens: int, correct: Callable[[Amounts], None], standing: Callable[[], Standing]) -> None:
        self.tokens = tokens
        self._correct = correct
        self._standing = standing

    def change(self, tokens: int) -> None:
        """Count it for `tokens` instead."""
        self._add(Amounts(0, tokens - self.tokens))

    def cancel(self) -> None:
        """Do not count it at all."""
        self._add(Amounts(-1, -self.tokens))

    def _add(self, more: Amounts) -> None:
        self.tokens += more.tokens
        self._correct(more)

    def standing(self) -> Standing:
        """What the key has left now."""
        return self._standing()


class Limiter(Protocol):
    """Counts what keys use."""

    async def admit(self, key: str, rate: Rate, tokens: int) -> Charge:
        """Count one request of `tokens`; raises RateLimitedError when it does not fit into `rate` now.

        `tokens` must not be above the rate: such a request would never fit.
        """
        ...


class LocalLimiter:
    """For one replica: nothing to ask anyone."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._meters = Meters()

    async def admit(self, key: str, rate: Rate, tokens: int) -> Charge:
        """Count one request."""
        return self.admit_now(key, rate, tokens)

    def admit_now(self, key: str, rate: Rate, tokens: int, told: Rate | None = None) -> Charge:
        """Count one request, without awaiting anything. `told` is the rate that the caller hears of."""
        now = self._clock()
        meter = self._meters.of(key, now)
        wait = meter.seconds_until(rate, rate.counted(Amounts(1, tokens)), now)
        if wait:
            raise _refusal(wait, replace(meter.standing(rate, now), rate=told or rate))
        return self.count(key, rate, tokens, told)

    def count(self, key: str, rate: Rate, tokens: int, told: Rate | None = None) -> Charge:
        """Count one request, whether or not it fits."""
        now = self._clock()
        meter = self._meters.of(key, now)
        bucket = meter.add(rate.counted(Amounts(1, tokens)), now)
        return Charge(
            tokens,
            lambda more: meter.change(bucket, rate.counted(more)),
            lambda: replace(meter.standing(rate, self._clock()), rate=told or rate),
        )


@dataclass
class _Hold:
    """What this replica holds for one key."""

    lease: Leasehold = field(default_factory=Leasehold)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    granted: Grant | None = None
    refused: Amounts = NOTHING
    refused_at: float = 0.0
    timer: asyncio.TimerHandle | None = None


class LeasedLimiter:
    """For one of several replicas: spends leases of an authority, and asks it when they do not suffice.

    While the authority does not answer, each replica keeps to its equal share of every limit, with what it has
    let in before, and tells the authority afterwards what was spent. `clock` must be monotonic; clocks of
    replicas need not agree.
    """

    def __init__(self, authority: AuthorityClient, replicas: int, clock: Clock = time.monotonic) -> None:
        self._authority = authority
        self._replicas = replicas
        self._clock = clock
        self._alone = LocalLimiter(clock)
        self._holds: dict[str, _Hold] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._lost_until = 0.0
        self._lost = False

    async def admit(self, key: str, rate: Rate, tokens: int) -> Charge:
        """Count one request."""
        amounts = rate.counted(Amounts(1, tokens))
        hold = self._hold(key)
        async with hold.lock:
            stamp = hold.lease.take(amounts, self._clock())
            if stamp is None:
                self._refuse_again(hold, rate, amounts)
                if not await self._renew(key, hold, rate, amounts):
                    return self._admit_alone(key, rate, tokens)
                stamp = hold.lease.take(amounts, self._clock())
        if stamp is None:  # the grant was longer on its way than a lease is good for
            return self._admit_alone(key, rate, tokens)
        here = self._alone.count(key, rate, tokens)
        return self._charge(key, stamp, rate, tokens, here, lambda: self._standing(hold, rate))

    def _hold(self, key: str) -> _Hold:
        return self._holds.setdefault(key, _Hold())

    def _refuse_again(self, hold: _Hold, rate: Rate, amounts: Amounts) -> None:
        """Raise RateLimitedError when the authority has just refused as much."""
        since = self._clock() - hold.refused_at
        asks_no_less = all(some >= refused for some, refused in zip(amounts, hold.refused, strict=True))
        if hold.granted and asks_no_less and since < min(hold.granted.wait, _ASK_AGAIN_SECONDS):
            raise _refusal(hold.granted.wait - since, self._standing(hold, rate))

    async def _renew(self, key: str, hold: _Hold, rate: Rate, amounts: Amounts) -> bool:
        """Get a lease of at least `amounts`; False when the authority does not answer.

        Raises RateLimitedError when it refuses.
        """
        asked = self._clock()
        if asked < self._lost_until:
            return False
        owed = {stamp: spent for stamp, spent in hold.lease.unsettled.items() if stamp == NOW}
        ask = Ask(key, rate, amounts, share_of(rate, self._replicas), hold.lease.settlement())
        try:
            grant = await self._authority.lease(ask)
        except AuthorityLostError as error:
            hold.lease.unsettled.update(owed)
            self._lose(error)
            return False
        except asyncio.CancelledError:
            hold.lease.unsettled.update(owed)
            raise
        self._find()
        hold.granted = grant
        if grant.wait:
            hold.refused, hold.refused_at = amounts, asked
            raise _refusal(grant.wait, grant.standing)
        hold.lease.receive(grant, asked)
        self._settle_later(key, hold)
        return True

    def _admit_alone(self, key: str, rate: Rate, tokens: int) -> Charge:
        """Count one request against this replica's share of the limits. A larger one takes all of it."""
        share = rate.shared(self._replicas)
        most = tokens if share.tokens is None else min(tokens, share.tokens)
        here = self._alone.admit_now(key, share, most, told=rate)
        self._correct(key, NOW, rate.counted(Amounts(1, tokens)))
        return self._charge(key, NOW, rate, tokens, here, here.standing)

    def _charge(
        self, key: str, stamp: int, rate: Rate, tokens: int, here: Charge, standing: Callable[[], Standing]
    ) -> Charge:
        """A charge that is corrected with the authority and in what this replica counts itself."""

        def correct(more: Amounts) -> None:
            self._correct(key, stamp, rate.counted(more))
            if more.requests:
                here.cancel()
            else:
                here.change(max(0, here.tokens + more.tokens))

        return Charge(tokens, correct, standing)

    def _correct(self, key: str, stamp: int, more: Amounts) -> None:
        hold = self._hold(key)
        hold.lease.correct(stamp, more, self._clock())
        self._settle_later(key, hold)

    def _standing(self, hold: _Hold, rate: Rate) -> Standing:
        """What the authority said last, with what is held added to what is left."""
        assert hold.granted is not None
        told = hold.granted.standing
        return replace(told, rate=rate, remaining=told.remaining.plus(hold.lease.balance))

    def _settle_later(self, key: str, hold: _Hold, seconds: float = LEASE_SECONDS) -> None:
        if hold.timer is None:
            hold.timer = asyncio.get_running_loop().call_later(seconds, self._settle, key, hold)

    def _settle(self, key: str, hold: _Hold) -> None:
        """Give back what an expired lease still held, and forget a key that is not used."""
        hold.timer = None
        now = self._clock()
        if hold.lock.locked() or now < hold.lease.until or now < self._lost_until:
            self._settle_later(key, hold)
            return
        settled = hold.lease.settlement()
        if settled:
            task = asyncio.get_running_loop().create_task(self._send(key, settled))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        if self._holds.get(key) is hold:
            del self._holds[key]

    async def _send(self, key: str, settled: Settled) -> None:
        try:
            await self._authority.settle(key, settled)
        except AuthorityLostError as error:
            self._lose(error)
            for stamp, amounts in settled:
                if stamp == NOW:
                    self._correct(key, stamp, amounts)

    def _lose(self, error: AuthorityLostError) -> None:
        self._lost_until = self._clock() + _LOST_SECONDS
        if not self._lost:
            _log.warning("rate limits: %s; each of %d replicas keeps to its share", error, self._replicas)
        self._lost = True

    def _find(self) -> None:
        if self._lost:
            _log.warning("rate limits: the authority answers again")
        self._lost = False


def _refusal(wait: float, standing: Standing) -> RateLimitedError:
    limits = " and ".join(
        f"{limit:,} {name} a minute"
        for name, limit in zip(Rate._fields, standing.rate, strict=True)
        if limit is not None
    )
    return RateLimitedError(
        f"this key's limit is reached: {limits}",
        hint=f"try again in {max(0.1, wait):.1f} s",
        retry_after=wait,
        headers=standing.headers(),
    )
