"""One limit for several replicas: an authority hands out leases, replicas spend them without asking.

Pure: no clock, no network. A lease is a part of a key's limit, counted by the authority from the moment it is
handed out, and good for `LEASE_SECONDS`. The authority's window is longer than a minute by that much, so whatever
was spent within any minute was handed out within one window: the replicas together never go over the limit, and
stay under it by the length of a lease at most, and by what others hold. No two clocks are compared.
"""

from dataclasses import dataclass, field
from typing import Final

from lakebed.serve.limits import NOTHING, WINDOW_SECONDS, Amounts, Meters, Rate, Standing

LEASE_SECONDS: Final = 2.0

_HELD_AHEAD: Final = 0.05
"""The most of a limit that all replicas together hold and have not spent."""

NOW: Final = -1
"""In place of a lease's stamp: spent without one."""


@dataclass(frozen=True)
class Ask:
    """A replica wants a lease: `need` or nothing, and up to `share` if there is more.

    `settled` says of earlier leases how much more, or less, was spent than they held.
    """

    key: str
    rate: Rate
    need: Amounts
    share: Amounts
    settled: tuple[tuple[int, Amounts], ...] = ()


@dataclass(frozen=True)
class Grant:
    """A lease, or the seconds after which asking again makes sense. `standing` does not count what is held."""

    stamp: int
    amounts: Amounts
    wait: float
    standing: Standing


class Authority:
    """Counts what was handed out, for every key. The only one of its kind."""

    def __init__(self) -> None:
        self._meters = Meters(WINDOW_SECONDS + LEASE_SECONDS)

    def lease(self, ask: Ask, now: float) -> Grant:
        """Hand out what was asked for, if it is there."""
        self.settle(ask.key, ask.settled, now)
        meter = self._meters.of(ask.key, now)
        wait = meter.seconds_until(ask.rate, ask.need, now)
        if wait:
            return Grant(NOW, NOTHING, wait, meter.standing(ask.rate, now))
        free = meter.free(ask.rate, now)
        amounts = Amounts(*(min(most, max(pair)) for most, *pair in zip(free, ask.need, ask.share, strict=True)))
        stamp = meter.add(amounts, now)
        return Grant(stamp, amounts, 0.0, meter.standing(ask.rate, now))

    def settle(self, key: str, settled: tuple[tuple[int, Amounts], ...], now: float) -> None:
        """Correct what leases were counted for."""
        meter = self._meters.of(key, now)
        for stamp, amounts in settled:
            if stamp == NOW:
                meter.add(amounts, now)
            else:
                meter.change(stamp, amounts)


@dataclass
class Leasehold:
    """A replica's side, for one key: the lease it has, and what it has not yet told about earlier ones."""

    stamp: int = NOW
    balance: Amounts = NOTHING
    until: float = 0.0
    unsettled: dict[int, Amounts] = field(default_factory=dict)

    def take(self, amounts: Amounts, now: float) -> int | None:
        """Spend from the lease; returns its stamp, or None when it does not hold that much, or not any more."""
        if now >= self.until or any(has < some for has, some in zip(self.balance, amounts, strict=True)):
            return None
        self.balance = self.balance.plus(-amounts)
        return self.stamp

    def correct(self, stamp: int, more: Amounts, now: float) -> None:
        """`more`, which may be negative, was spent of the lease `stamp` than was taken from it."""
        if stamp == self.stamp != NOW and now < self.until:
            self.balance = self.balance.plus(-more)
        else:
            self.unsettled[stamp] = self.unsettled.get(stamp, NOTHING).plus(more)

    def settlement(self) -> tuple[tuple[int, Amounts], ...]:
        """Give the lease up, and say what the authority should know; it is said once."""
        if any(self.balance):
            self.unsettled[self.stamp] = self.unsettled.get(self.stamp, NOTHING).plus(-self.balance)
        self.stamp, self.balance, self.until = NOW, NOTHING, 0.0
        settled, self.unsettled = tuple(self.unsettled.items()), {}
        return tuple((stamp, amounts) for stamp, amounts in settled if any(amounts))

    def receive(self, grant: Grant, asked: float) -> None:
        """Hold what was granted, from the moment it was asked for: that is before it was handed out."""
        self.stamp, self.balance, self.until = grant.stamp, grant.amounts, asked + LEASE_SECONDS


def share_of(rate: Rate, replicas: int) -> Amounts:
    """How much one of `replicas` holds ahead."""
    return Amounts(*(0 if limit is None else int(limit * _HELD_AHEAD / replicas) for limit in rate))
