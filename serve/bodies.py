"""Reading a request's body without being held by it: not compressed, not too long, and not too slow.

A client that trickles bytes would otherwise keep a connection, and what has come so far, for as long as it likes;
and many that send much would fill the memory before any of it is counted as work.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fastapi import Request

from lakebed.platform.config.serve import Limits
from lakebed.serve.errors import OverloadedError, TooLargeError, TooSlowError, UnsupportedMediaError

_READ_AS_JSON: Final = frozenset(
    {"", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded"}
)
"""JSON, and what curl and browsers say of a body when they are told nothing."""

_MOST_DIGITS: Final = 18
"""Of a length; Python refuses to read a number of thousands."""


_SMALL: Final = 2**16
"""Bytes of a body that is read however many others are."""


class Arriving:
    """Counts the bytes of bodies that have come in part; large ones are given up when all have `capacity`."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.size = 0

    @contextmanager
    def body(self) -> Iterator["ArrivingBody"]:
        """Count one body until it has come, or has not."""
        body = ArrivingBody(self)
        try:
            yield body
        finally:
            self.size -= body.size

    @property
    def full(self) -> bool:
        """Whether there is more than there may be."""
        return self.size > self._capacity


class ArrivingBody:
    """One of them."""

    def __init__(self, all_bodies: Arriving) -> None:
        self._all = all_bodies
        self.size = 0

    def grow(self, size: int) -> None:
        """Count more of it; raises OverloadedError."""
        self.size += size
        self._all.size += size
        if self._all.full and self.size > _SMALL:
            raise OverloadedError(
                "the server is busy: too many large requests arrive at once", hint="try again in a moment"
            )


async def read_body(request: Request, limits: Limits, arriving: Arriving) -> bytes:
    """Read the whole body.

    Raises UnsupportedMediaError, TooLargeError, TooSlowError or OverloadedError, and ClientDisconnect when the
    client has left.
    """
    _check_media(request)
    announced = request.headers.get("content-length", "").lstrip("0")
    if announced.isdecimal() and (len(announced) > _MOST_DIGITS or int(announced) > limits.max_body_bytes):
        raise _too_large(limits)
    try:
        with arriving.body() as body:
            return await _read_in_time(request, limits, body)
    except TimeoutError:
        raise TooSlowError(
            f"the request body did not arrive in time: {limits.body_seconds:g} s, and one more for every "
            f"{limits.body_bytes_per_second:,} bytes",
            hint="try again",
        ) from None


async def _read_in_time(request: Request, limits: Limits, body: ArrivingBody) -> bytes:
    """As Apache's mod_reqtimeout has it: every byte that comes buys a little time."""
    chunks = []
    start = asyncio.get_running_loop().time()
    async with asyncio.timeout(limits.body_seconds) as deadline:
        async for chunk in request.stream():
            body.grow(len(chunk))
            if body.size > limits.max_body_bytes:
                raise _too_large(limits)
            chunks.append(chunk)
            deadline.reschedule(start + limits.body_seconds + body.size / limits.body_bytes_per_second)
    return b"".join(chunks)


def _check_media(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaError("compressed request bodies are not accepted", hint="send plain JSON")
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in _READ_AS_JSON and not media.endswith("+json"):
        raise UnsupportedMediaError(
            f"a body of type {media[:80]!r} is not accepted", hint="send JSON, as application/json"
        )


def _too_large(limits: Limits) -> TooLargeError:
    return TooLargeError(
        f"the request body is over {limits.max_body_bytes:,} bytes", hint="send fewer inputs at a time"
    )
