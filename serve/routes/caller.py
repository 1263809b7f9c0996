"""Who is asking: the key that came with a request, and the address it came from."""

from fastapi import Request

from lakebed.serve.service import Service
from lakebed.serve.store.keys import Key


async def caller(service: Service, request: Request) -> Key | None:
    """The caller's key, or None where none is needed.

    Raises UnauthorizedError, RateLimitedError after too many of those from one address, or NotReadyError.
    """
    address = None if request.client is None else request.client.host
    return await service.authenticator.check(request.headers.get("authorization"), address)
