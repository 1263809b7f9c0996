"""The one mapping from errors to HTTP: status, headers, and a body that all three vendors' clients can read.

openai-python reads `error{message,type,param,code}`, inertialai-python reads `detail`: both are always there, and
`request_id` beside them.
The path decides between 400 and 422 for a faulty request, because each client picks its exception by status.
"""

import logging
import math
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from lakebed.platform import errors as platform_errors
from lakebed.platform.errors import LakebedError
from lakebed.serve import errors
from lakebed.serve.logs import described
from lakebed.serve.request_ids import request_id_of
from lakebed.serve.request_record import record_in

_log = logging.getLogger(__name__)

_NATIVE_PREFIX: Final = "/api/"
"""Under this prefix InertialAI's conventions hold, elsewhere OpenAI's."""

_TYPES: Final = {
    401: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "payload_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
}

_STATUSES: Final[tuple[tuple[type[LakebedError], int], ...]] = (
    (errors.UnauthorizedError, 401),
    (errors.ModelNotAllowedError, 403),
    (errors.TooLargeError, 413),
    (errors.TooSlowError, 408),
    (errors.UnsupportedMediaError, 415),
    (errors.OverloadedError, 429),
    (errors.NotReadyError, 503),
    (errors.DeadlineError, 504),
    (platform_errors.ModelNotFoundError, 404),
)
"""Errors whose status does not depend on the path."""

_HTTP_CODES: Final = {404: "not_found", 405: "method_not_allowed"}

_MOST_SHOWN: Final = 200
"""Characters of a path that are repeated to who sent it."""


@dataclass(frozen=True)
class Refusal:
    """An error as HTTP says it."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    detail: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> bytes:
        """The JSON body."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error, "detail": self.detail or self.message, "request_id": request_id})

    def response(self, request: Request) -> Response:
        """The whole answer to `request`."""
        body = self.body(request_id_of(request.scope))
        return Response(body, self.status, self.headers, media_type="application/json")


def proxy_refusals() -> list[Refusal]:
    """What is said where no replica has been reached, or where Serve around it has refused in plain text."""
    unavailable = errors.NotReadyError("the server is starting or stopping", hint="try again in a moment")
    return [
        Refusal(400, "this is no HTTP request that can be read", "bad_request"),
        Refusal(403, "this is not allowed", "forbidden"),
        Refusal(404, "no such path", _HTTP_CODES[404]),
        Refusal(408, "the request did not arrive, or was not answered, in time", errors.TooSlowError.default_code),
        internal_error(),
        refusal_of(unavailable, "/"),
    ]


def install(app: FastAPI) -> None:
    """Make every error of `app` answer in this form; `access` answers for those that nobody foresaw."""
    app.add_exception_handler(LakebedError, _on_lakebed_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def refusal_of(error: LakebedError, path: str) -> Refusal:
    """Say over HTTP what went wrong in answering `path`."""
    refusal = _refusal_of(error, path)
    refusal.headers.update(error.context.get("headers", {}))
    return refusal


def _refusal_of(error: LakebedError, path: str) -> Refusal:
    if isinstance(error, errors.InvalidRequestError):
        return _validation(error, path)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    if isinstance(error, platform_errors.ModelNotFoundError):
        return Refusal(status, str(error), "model_not_found", "model")
    if not isinstance(error, errors.RequestError):
        _log.error("unexpected error\n%s", described(error))
        return internal_error()
    return Refusal(status, str(error), error.code, error.param, headers=_headers(error))


def _validation(error: errors.InvalidRequestError, path: str) -> Refusal:
    place = [
        "body",
        *([error.param] if error.param else []),
        *([] if error.position is None else [error.position]),
    ]
    faults = error.context.get("faults") or [{"type": error.code, "loc": place, "msg": str(error)}]
    status = 422 if path.startswith(_NATIVE_PREFIX) else 400
    return Refusal(status, str(error), error.code, error.param, faults)


def _headers(error: errors.RequestError) -> dict[str, str]:
    if isinstance(error, errors.UnauthorizedError):
        return {"www-authenticate": "Bearer"}
    if isinstance(error, errors.OverloadedError):
        milliseconds = math.ceil(error.retry_after * 1000)
        return {"retry-after": str(-(-milliseconds // 1000)), "retry-after-ms": str(milliseconds)}
    if isinstance(error, errors.NotReadyError):
        return {"retry-after": "1"}
    return {}


def internal_error() -> Refusal:
    """For a fault of ours; the caller learns that it is, and nothing more."""
    return Refusal(500, "the server failed to answer this request; its log says why", "internal_error")


async def _on_lakebed_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LakebedError)
    return _answer(request, refusal_of(error, request.scope["path"]))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own: no such path, wrong method."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:_MOST_SHOWN]
    message = {
        404: f"no such path: {path}",
        405: f"{request.method[:_MOST_SHOWN]} is not allowed on {path}",
    }.get(error.status_code, str(error.detail))
    code = _HTTP_CODES.get(error.status_code)
    return _answer(request, Refusal(error.status_code, message, code, headers=dict(error.headers or {})))


def _answer(request: Request, refusal: Refusal) -> Response:
    record_in(request.scope).code = refusal.code or ""
    return refusal.response(request)
