"""How much a key may do in a minute: sliding windows over requests and tokens.

Pure: the caller tells the time, in seconds of a clock that never goes back. Knows neither keys nor HTTP nor Ray;
`key_limits` applies it to requests, `leases` shares one limit between replicas.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

WINDOW_SECONDS: Final = 60.0

_BUCKET_SECONDS: Final = 0.25


class Amounts(NamedTuple):
    """So many of each of what is limited."""

    requests: int = 0
    tokens: int = 0

    def __neg__(self) -> "Amounts":
        return Amounts(-self.requests, -self.tokens)

    def plus(self, other: "Amounts") -> "Amounts":
        """The sum, one by one; `+` joins tuples."""
        return Amounts(self.requests + other.requests, self.tokens + other.tokens)


NOTHING: Final = Amounts()


class Rate(NamedTuple):
    """The most of each in a minute; None is without limit."""

    requests: int | None = None
    tokens: int | None = None

    def shared(self, parts: int) -> "Rate":
        """The share of one of `parts` equal ones, at least 1."""
        return Rate(*(None if limit is None else max(1, limit // parts) for limit in self))

    def counted(self, amounts: Amounts) -> Amounts:
        """`amounts` without those that have no limit."""
        return Amounts(*(0 if limit is None else some for limit, some in zip(self, amounts, strict=True)))


@dataclass(frozen=True)
class Standing:
    """What is left of a rate, and in how many seconds all of it is there again if nothing more is asked for."""

    rate: Rate
    remaining: Amounts
    reset: tuple[float, float]

    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-…` headers of OpenAI, for what is limited."""
        headers = {}
        for name, limit, remaining, reset in zip(Rate._fields, self.rate, self.remaining, self.reset, strict=True):
            if limit is not None:
                headers[f"x-ratelimit-limit-{name}"] = str(limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(min(limit, max(0, remaining)))
                headers[f"x-ratelimit-reset-{name}"] = duration(reset)
        return headers


def duration(seconds: float) -> str:
    """Whole seconds, rounded up, as OpenAI writes them: `0s`, `59s`, `6m0s`."""
    minutes, rest = divmod(math.ceil(max(0.0, seconds)), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


class SlidingWindow:
    """The sum of what was added in the last `seconds`.

    What was added counts until the whole quarter of a second it was added in has left the window: never too
    short, and at most that much too long. So memory is bounded, however much is added.
    """

    def __init__(self, seconds: float = WINDOW_SECONDS) -> None:
        self._seconds = seconds
        self._buckets: dict[int, int] = {}  # oldest first, as time only goes on
        self._total = 0

    def add(self, amount: int, now: float) -> int:
        """Add `amount`; returns the bucket it lies in, for `change`."""
        bucket = math.floor(now / _BUCKET_SECONDS)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + amount
        self._total += amount
        return bucket

    def change(self, bucket: int, amount: int) -> None:
        """Add `amount`, which may be negative, to what lies in `bucket`; does nothing once that has left."""
        if bucket in self._buckets:
            self._buckets[bucket] += amount
            self._total += amount

    def total(self, now: float) -> int:
        """The sum at `now`."""
        while self._buckets and self._leaves(oldest := next(iter(self._buckets))) <= now:
            self._total -= self._buckets.pop(oldest)
        return self._total

    def seconds_until(self, most: int, now: float) -> float:
        """In how many seconds the sum is at most `most`, if nothing is added; 0 when it is."""
        left = self.total(now)
        for bucket, amount in self._buckets.items():
            if left <= most:
                break
            left -= amount
            leaves = self._leaves(bucket)
            if left <= most:
                return leaves - now
        return 0.0

    def seconds_until_empty(self, now: float) -> float:
        """In how many seconds nothing counts any more."""
        self.total(now)
        return max(0.0, self._leaves(next(reversed(self._buckets))) - now) if self._buckets else 0.0

    def _leaves(self, bucket: int) -> float:
        return (bucket + 1) * _BUCKET_SECONDS + self._seconds


class Meter:
    """What one key has used of each lately."""

    def __init__(self, seconds: float = WINDOW_SECONDS) -> None:
        self._windows = (SlidingWindow(seconds), SlidingWindow(seconds))

    def add(self, amounts: Amounts, now: float) -> int:
        """Count `amounts`; returns the bucket they lie in, for `change`."""
        buckets = [window.add(some, now) for window, some in zip(self._windows, amounts, strict=True)]
        return buckets[0]

    def change(self, bucket: int, amounts: Amounts) -> None:
        """Correct what lies in `bucket`; does nothing once that has left."""
        for window, some in zip(self._windows, amounts, strict=True):
            window.change(bucket, some)

    def used(self, now: float) -> Amounts:
        """What counts at `now`."""
        return Amounts(*(window.total(now) for window in self._windows))

    def seconds_until(self, rate: Rate, amounts: Amounts, now: float) -> float:
        """In how many seconds `amounts` fit into `rate` beside what counts; 0 when they do.

        Infinite when they never will, because one of them alone is over its limit.
        """
        wait = 0.0
        for window, limit, some in zip(self._windows, rate, amounts, strict=True):
            if limit is not None:
                wait = max(wait, math.inf if some > limit else window.seconds_until(limit - some, now))
        return wait

    def free(self, rate: Rate, now: float) -> Amounts:
        """What `rate` leaves, 0 of what is without limit or overdrawn."""
        return Amounts(
            *(
                0 if limit is None else max(0, limit - used)
                for limit, used in zip(rate, self.used(now), strict=True)
            )
        )

    def standing(self, rate: Rate, now: float) -> Standing:
        """What to tell the key's owner."""
        first, second = (window.seconds_until_empty(now) for window in self._windows)
        return Standing(rate, self.free(rate, now), (first, second))

    def idle(self, now: float) -> bool:
        """Whether nothing counts, and nothing would be lost by forgetting this meter."""
        return all(window.seconds_until_empty(now) == 0 for window in self._windows)


class Meters:
    """A meter for each key that was used lately."""

    def __init__(self, seconds: float = WINDOW_SECONDS) -> None:
        self._seconds = seconds
        self._meters: dict[str, Meter] = {}  # least recently used first

    def __len__(self) -> int:
        return len(self._meters)

    def of(self, key: str, now: float) -> Meter:
        """The meter of `key`; forgets those that count nothing any more."""
        meter = self._meters.pop(key, None) or Meter(self._seconds)
        while self._meters and next(iter(self._meters.values())).idle(now):
            del self._meters[next(iter(self._meters))]
        self._meters[key] = meter
        return meter
