"""Who may ask: bearer keys, looked up in the store and remembered for seconds.

Only keys that were found are remembered, so guesses neither fill memory nor push known keys out.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from lakebed.serve.errors import NotReadyError, UnauthorizedError
from lakebed.serve.store.keys import Key, digest_of, find_key

_REMEMBERED: Final = 10_000
_LONGEST_SECRET: Final = 1024


class Authenticator(Protocol):
    """Decides whether a request may go on."""

    async def check(self, authorization: str | None) -> Key | None:
        """Return the caller's key, or None where none is needed; raises UnauthorizedError."""
        ...


class NoKeys:
    """Lets everyone in; for a server on loopback that was told so."""

    async def check(self, authorization: str | None) -> Key | None:
        """Ask for nothing."""
        return None


class StoredKeys:
    """Bearer keys from the store. `seconds` is how long a key that was found is trusted unasked."""

    def __init__(self, engine: Engine, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._seconds = seconds
        self._clock = clock
        self._known: dict[str, tuple[Key, float]] = {}

    async def check(self, authorization: str | None) -> Key:
        """Return the caller's key; raises UnauthorizedError, or NotReadyError when the store does not answer."""
        secret = bearer_token(authorization)
        digest = digest_of(secret)
        key, until = self._known.get(digest, (None, 0.0))
        if key is None or self._clock() >= until:
            key = await self._look_up(secret)
            if key is None:
                self._known.pop(digest, None)
                raise UnauthorizedError(f"incorrect API key provided: {_masked(secret)}", hint=_HINT)
            self._remember(digest, key)
        if not key.works_at(datetime.now(UTC)):
            state = "was revoked" if key.revoked else "has expired"
            raise UnauthorizedError(f"API key {key.prefix}… {state}", hint=_HINT)
        return key

    async def _look_up(self, secret: str) -> Key | None:
        try:
            return await asyncio.to_thread(find_key, self._engine, secret)
        except SQLAlchemyError:
            raise NotReadyError("the key store does not answer", hint="try again in a moment") from None

    def _remember(self, digest: str, key: Key) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[digest] = (key, self._clock() + self._seconds)


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
