"""How much work is inside: admits by tokens, before anything expensive is done with a request.

Pure; the caller supplies estimates and corrects them when the true cost is known.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from lakebed.serve.errors import OverloadedError

_RETRY_AFTER_SECONDS = 1.0


class Ticket:
    """The share of the capacity that one request holds."""

    def __init__(self, admission: "Admission", tokens: int) -> None:
        self._admission = admission
        self.tokens = tokens

    def correct(self, tokens: int) -> None:
        """Replace the estimate by the true cost; a request that was let in stays in."""
        self._admission.tokens += tokens - self.tokens
        self.tokens = tokens


class Admission:
    """Counts the token equivalents of requests that were let in and not yet answered."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tokens = 0
        self.requests = 0

    @contextmanager
    def enter(self, estimate: int) -> Iterator[Ticket]:
        """Hold `estimate` tokens while the body runs; raises OverloadedError when they do not fit."""
        if self.tokens and self.tokens + estimate > self.capacity:
            raise OverloadedError(
                f"the server is busy: {self.tokens:,} tokens are waiting",
                hint=f"try again in {_RETRY_AFTER_SECONDS:g} s",
                retry_after=_RETRY_AFTER_SECONDS,
            )
        ticket = Ticket(self, estimate)
        self.tokens += estimate
        self.requests += 1
        try:
            yield ticket
        finally:
            self.tokens -= ticket.tokens
            self.requests -= 1
