"""Who may ask: bearer keys, looked up in the store and remembered for seconds.

Only keys that were found are remembered, so guesses neither fill memory nor push known keys out. An address that
sends too many keys that do not work is told to wait instead; a key that works is let in from anywhere.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Final, Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from lakebed.platform.config.serve import KeyLimits
from lakebed.serve.errors import NotReadyError, RateLimitedError, UnauthorizedError
from lakebed.serve.failed_attempts import FailedAttempts
from lakebed.serve.store.keys import Key, digest_of, find_key

_REMEMBERED: Final = 10_000
_LONGEST_SECRET: Final = 1024


class Authenticator(Protocol):
    """Decides whether a request may go on."""

    async def check(self, authorization: str | None, address: str | None = None) -> Key | None:
        """Return the caller's key, or None where none is needed; raises UnauthorizedError."""
        ...


class NoKeys:
    """Lets everyone in; for a server on loopback that was told so."""

    async def check(self, authorization: str | None, address: str | None = None) -> Key | None:
        """Ask for nothing."""
        return None


class StoredKeys:
    """Bearer keys from the store. `seconds` is how long a key that was found is trusted unasked.

    An address may send keys that do not work `failures_per_minute` times.
    """

    def __init__(
        self,
        engine: Engine,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        failures_per_minute: int = KeyLimits().failures_per_minute,
    ) -> None:
        self._engine = engine
        self._seconds = seconds
        self._clock = clock
        self._known: dict[str, tuple[Key, float]] = {}
        self._failures = FailedAttempts(failures_per_minute, clock)
        self._suspects = asyncio.Lock()

    async def check(self, authorization: str | None, address: str | None = None) -> Key:
        """Return the caller's key; raises UnauthorizedError, or NotReadyError when the store does not answer.

        Raises RateLimitedError instead of UnauthorizedError when `address` has failed too often.
        """
        secret = bearer_token(authorization)
        try:
            return await self._find(secret, address)
        except UnauthorizedError:
            wait = self._failures.seconds_until_allowed(address)
            if wait:
                raise RateLimitedError(
                    "too many keys that do not work were sent from this address", retry_after=wait
                ) from None
            self._failures.note(address)
            raise

    async def _find(self, secret: str, address: str | None) -> Key:
        digest = digest_of(secret)
        key, until = self._known.get(digest, (None, 0.0))
        if key is None or self._clock() >= until:
            key = await self._look_up(secret, address)
            if key is None:
                self._known.pop(digest, None)
                raise UnauthorizedError(f"incorrect API key provided: {_masked(secret)}", hint=_HINT)
            self._remember(digest, key)
        if not key.works_at(datetime.now(UTC)):
            state = "was revoked" if key.revoked else "has expired"
            raise UnauthorizedError(f"API key {key.prefix}… {state}", hint=_HINT)
        return key

    async def _look_up(self, secret: str, address: str | None) -> Key | None:
        """Ask the store. Those who have failed too often wait for each other, and hold up nobody else."""
        suspect = self._failures.seconds_until_allowed(address) > 0
        try:
            async with self._suspects if suspect else nullcontext():
                return await asyncio.to_thread(find_key, self._engine, secret)
        except SQLAlchemyError:
            raise NotReadyError("the key store does not answer", hint="try again in a moment") from None

    def _remember(self, digest: str, key: Key) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[digest] = (key, self._clock() + self._seconds)


def permitted_models(key: Key | None) -> Callable[[str], bool]:
    """Which model names a caller may use; all where no keys are asked for."""
    return (lambda _name: True) if key is None else key.may_use


_HINT: Final = "`lakebed keys create` makes one; send it as `Authorization: Bearer KEY`"


def bearer_token(authorization: str | None) -> str:
    """The key in an Authorization header; raises UnauthorizedError when there is none."""
    if not authorization:
        raise UnauthorizedError("no API key was sent", hint=_HINT, code="missing_api_key")
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_SECRET:
        raise UnauthorizedError("the Authorization header holds no bearer key", hint=_HINT)
    return token


def _masked(secret: str) -> str:
    """Enough of a wrong key to recognise it by, too little to use."""
    return f"{secret[:4]}…" if secret.isascii() and secret.isprintable() and len(secret) > 12 else "(not shown)"
