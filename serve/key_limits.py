"""Holds each request to the rate of its key, from its estimated size to its true one.

Knows keys and the server's defaults; what is left is counted by a limiter.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lakebed.platform.config.serve import KeyLimits
from lakebed.platform.errors import LakebedError
from lakebed.serve.errors import InvalidRequestError, OverloadedError
from lakebed.serve.limiters import Charge, Limiter, LocalLimiter
from lakebed.serve.limits import Rate
from lakebed.serve.store.keys import Key


class Allowance:
    """What a request that was let in takes of its key's rate."""

    def __init__(self, rate: Rate, charge: Charge | None) -> None:
        self._rate = rate
        self._charge = charge

    def correct(self, tokens: int) -> None:
        """Replace the estimate by the true size; raises InvalidRequestError when it is over the key's limit."""
        refuse_hopeless(self._rate, tokens)
        if self._charge is not None:
            self._charge.change(tokens)

    def give_back(self, error: BaseException) -> None:
        """Count a request that failed without its tokens, and one that the server was too busy for not at all."""
        if self._charge is not None and isinstance(error, OverloadedError):
            self._charge.cancel()
        elif self._charge is not None:
            self._charge.change(0)

    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-…` headers; empty for a key without limits."""
        return {} if self._charge is None else self._charge.standing().headers()


class KeyRates:
    """Lets requests in by the rates of their keys; `defaults` are for keys that say nothing themselves."""

    def __init__(self, defaults: KeyLimits, limiter: Limiter | None = None) -> None:
        self._defaults = defaults
        self._limiter = limiter or LocalLimiter(time.monotonic)

    @asynccontextmanager
    async def hold(self, key: Key | None, estimate: int) -> AsyncIterator[Allowance]:
        """Count a request of about `estimate` tokens for as long as it takes; one that fails keeps no tokens.

        Raises RateLimitedError when it does not fit now, and InvalidRequestError when it never will. Errors that
        leave the block carry the headers.
        """
        rate = self.rate_of(key)
        if key is None or rate == Rate():
            yield Allowance(rate, None)
            return
        refuse_hopeless(rate, estimate)
        allowance = Allowance(rate, await self._limiter.admit(key.id, rate, estimate))
        try:
            yield allowance
        except BaseException as error:
            allowance.give_back(error)
            if isinstance(error, LakebedError):
                error.context["headers"] = allowance.headers()
            raise

    def rate_of(self, key: Key | None) -> Rate:
        """What the key may do in a minute; everything where no keys are asked for."""
        if key is None:
            return Rate()
        return Rate(
            key.terms.requests_per_minute or self._defaults.requests_per_minute,
            key.terms.tokens_per_minute or self._defaults.tokens_per_minute,
        )


def refuse_hopeless(rate: Rate, tokens: int) -> None:
    """Raise InvalidRequestError, which clients do not retry, for a request that will not fit into any minute."""
    if rate.tokens is not None and tokens > rate.tokens:
        raise InvalidRequestError(
            f"the request has about {tokens:,} token equivalents, and this key may use {rate.tokens:,} a minute",
            hint="send fewer inputs at a time, or have the key's limit raised: `lakebed keys update`",
            param="input",
            code="request_over_rate_limit",
        )
