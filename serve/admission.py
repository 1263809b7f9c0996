"""Who is let in: by tokens, before anything expensive is done with a request, and by how long it would wait.

A request waits for others only as long as they are served beside it: the device is shared fairly, so a small one
waits for the small ones inside and for as much of each large one as it is itself large. While that is short
enough, it may come in, however much there is to do. Pure; the caller supplies estimates and corrects them when the
true cost is known.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lakebed.serve.errors import OverloadedError
from lakebed.serve.meter import Meter

_LEAST_RETRY_SECONDS: Final = 0.25
_UNKNOWN_RETRY_SECONDS: Final = 1.0
_REMEMBERED: Final = 0.95
"""What a request still counts for when the next one's cost is known."""

_LEAST_SHARE: Final = 0.25
"""Of an estimate: answers from a cache cost nothing, but the next request may be for others."""


class Guesses:
    """What requests of some estimate cost, by what the last ones turned out to; at first half of it."""

    def __init__(self) -> None:
        self._cost, self._estimate = 500.0, 1000.0

    def of(self, estimate: int) -> int:
        """Guess a cost, at most the estimate: who is let in is soon known better, who is refused is not."""
        share = self._cost / self._estimate
        return max(1, round(estimate * min(1.0, max(_LEAST_SHARE, share))))

    def learn(self, estimate: int, cost: int) -> None:
        """Count what a request of this estimate did cost."""
        self._cost = self._cost * _REMEMBERED + cost
        self._estimate = self._estimate * _REMEMBERED + estimate


class Ticket:
    """What one request holds: token equivalents, and what it costs the device."""

    def __init__(self, admission: "Admission", estimate: int) -> None:
        self._admission = admission
        self._estimate = estimate
        self.tokens = estimate
        self.cost = admission.guesses.of(estimate)

    def correct(self, tokens: int, cost: int) -> None:
        """Replace the estimate by what is true; a request that was let in stays in."""
        self._admission.tokens += tokens - self.tokens
        self._admission.guesses.learn(self._estimate, cost)
        self.tokens, self.cost = tokens, cost


class Admission:
    """Counts requests that were let in and not yet answered.

    `capacity` bounds their token equivalents together, `wait_seconds` how long a request may have to wait for
    others at the rate that `meter` has found. However slow that is, a request may wait for `always` token
    equivalents; one that finds nobody inside is always let in.
    """

    def __init__(self, capacity: int, wait_seconds: float, meter: Meter, always: int = 0) -> None:
        self.capacity = capacity
        self._always = always
        self.tokens = 0
        self.guesses = Guesses()
        self._wait_seconds = wait_seconds
        self._meter = meter
        self._inside: dict[int, Ticket] = {}

    @property
    def requests(self) -> int:
        """How many are inside."""
        return len(self._inside)

    @contextmanager
    def enter(self, estimate: int) -> Iterator[Ticket]:
        """Hold `estimate` tokens while the body runs; raises OverloadedError when it would wait too long."""
        if self._inside:
            self._refuse_if_too_much(estimate)
        ticket = Ticket(self, estimate)
        self._inside[id(ticket)] = ticket
        self.tokens += estimate
        try:
            yield ticket
        finally:
            del self._inside[id(ticket)]
            self.tokens -= ticket.tokens

    def _refuse_if_too_much(self, estimate: int) -> None:
        rate = self._meter.rate
        if self.tokens + estimate > self.capacity:
            raise _overloaded(_UNKNOWN_RETRY_SECONDS if rate is None else self.tokens / rate)
        if rate is not None:
            cost = self.guesses.of(estimate)
            before = sum(min(ticket.cost, cost) for ticket in self._inside.values())
            if before > max(self._wait_seconds * rate, self._always):
                raise _overloaded(before / rate)


def _overloaded(wait: float) -> OverloadedError:
    seconds = max(wait, _LEAST_RETRY_SECONDS)
    return OverloadedError(
        "the server is busy: this request would have to wait too long",
        hint=f"try again in {seconds:.2g} s",
        retry_after=seconds,
    )
