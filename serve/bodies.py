"""Reading a request's body without being held by it: not compressed, not too long, and not too slow.

A client that trickles bytes would otherwise keep a connection, and what has come so far, for as long as it likes.
"""

import asyncio
from typing import Final

from fastapi import Request

from lakebed.platform.config.serve import Limits
from lakebed.serve.errors import TooLargeError, TooSlowError, UnsupportedMediaError

_READ_AS_JSON: Final = frozenset(
    {"", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded"}
)
"""JSON, and what curl and browsers say of a body when they are told nothing."""

_MOST_DIGITS: Final = 18
"""Of a length; Python refuses to read a number of thousands."""


async def read_body(request: Request, limits: Limits) -> bytes:
    """Read the whole body.

    Raises UnsupportedMediaError, TooLargeError or TooSlowError, and ClientDisconnect when the client has left.
    """
    _check_media(request)
    announced = request.headers.get("content-length", "").lstrip("0")
    if announced.isdecimal() and (len(announced) > _MOST_DIGITS or int(announced) > limits.max_body_bytes):
        raise _too_large(limits)
    try:
        return await _read_in_time(request, limits)
    except TimeoutError:
        raise TooSlowError(
            f"the request body did not arrive in time: {limits.body_seconds:g} s, and one more for every "
            f"{limits.body_bytes_per_second:,} bytes",
            hint="try again",
        ) from None


async def _read_in_time(request: Request, limits: Limits) -> bytes:
    """As Apache's mod_reqtimeout has it: every byte that comes buys a little time."""
    chunks, size = [], 0
    start = asyncio.get_running_loop().time()
    async with asyncio.timeout(limits.body_seconds) as deadline:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limits.max_body_bytes:
                raise _too_large(limits)
            chunks.append(chunk)
            deadline.reschedule(start + limits.body_seconds + size / limits.body_bytes_per_second)
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
