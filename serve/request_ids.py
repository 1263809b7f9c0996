"""The id of a request: the client's own when it is fit to be repeated, else a new one.

It goes into the `x-request-id` header, into the body of an error and into logs, so it is short and of plain
characters whatever a client sends. Behind Serve the ids are given, and echoed, by what stands before this app.
"""

import re
import uuid
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER: Final = "x-request-id"

FIT_FOR_AN_ID: Final = "^[A-Za-z0-9_.:/+=@-]{1,128}$"
"""A regular expression that HAProxy reads as Python does."""

_FIT: Final = re.compile(FIT_FOR_AN_ID)
_KEY: Final = "lakebed.request_id"


def request_id_of(scope: Scope) -> str:
    """The id of the request that `scope` belongs to; empty where no middleware has given one."""
    return str(scope.get(_KEY, ""))


class RequestIds:
    """ASGI middleware, to stand outside of every other, so that failures of theirs carry the id as well.

    `echoed` says that the server around this app has put an id into the request's headers and will add it to the
    response's, as Serve does: then none is added here, or there would be two.
    """

    def __init__(self, app: ASGIApp, *, echoed: bool) -> None:
        self._app = app
        self._echoed = echoed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if self._echoed or _FIT.fullmatch(given) else str(uuid.uuid4())
        scope[_KEY] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self._app(scope, receive, send if self._echoed else send_with_id)
