"""POST /v1/embeddings and /api/v1/embeddings: one handler, two conventions for the status."""

import contextlib
import math
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from lakebed.serve.bodies import Arriving, read_body
from lakebed.serve.documented import (
    BEARER,
    EMBEDDINGS_HEADERS,
    EMBEDDINGS_PARAMETERS,
    EmbeddingList,
    refusals,
    request_body,
    success,
)
from lakebed.serve.errors import InvalidRequestError
from lakebed.serve.request_record import record_in
from lakebed.serve.routes.caller import caller
from lakebed.serve.service import Service

INPUT_HEADER: Final = "x-lakebed-input"
"""`text` turns off the reading of strings as native input."""

TIMEOUT_HEADER: Final = "x-request-timeout-seconds"
"""Until when the client waits; Ray Serve's own name for it."""

_CLIENT_LEFT: Final = 499

_DOCUMENTED: Final[dict[str, Any]] = {
    "requestBody": request_body(),
    "parameters": EMBEDDINGS_PARAMETERS,
    "security": [{BEARER: []}],
}


def embeddings_routes(service: Service) -> APIRouter:
    """Both paths. InertialAI answers 201 where OpenAI answers 200, and 422 where OpenAI answers 400."""
    router = APIRouter(tags=["embeddings"])
    arriving = Arriving(service.limits.max_arriving_bytes)

    def add(path: str, status: int, invalid: int, operation: str) -> None:
        async def create_embeddings(request: Request) -> Response:
            return await _embed(service, request, status, arriving)

        router.add_api_route(
            path,
            create_embeddings,
            methods=["POST"],
            status_code=status,
            operation_id=operation,
            summary="Embed texts and time series",
            responses={
                **success(status, "Vectors in the order of the inputs.", EmbeddingList, EMBEDDINGS_HEADERS),
                **refusals(401, 403, 404, 408, 413, 415, 429, 500, 503, 504, invalid=invalid),
            },
            openapi_extra=_DOCUMENTED,
        )

    add("/v1/embeddings", 200, 400, "create_embeddings")
    add("/api/v1/embeddings", 201, 422, "create_embeddings_native")
    return router


async def _embed(service: Service, request: Request, status: int, arriving: Arriving) -> Response:
    record = record_in(request.scope)
    record.timed = True
    key = await caller(service, request)
    seconds = _seconds(request.headers.get(TIMEOUT_HEADER))
    record.key_id = key.id if key else ""
    try:
        body = await read_body(request, service.limits, arriving)
    except ClientDisconnect:
        return Response(status_code=_CLIENT_LEFT)
    as_text = request.headers.get(INPUT_HEADER, "").lower() == "text"
    answer = await service.embed(body, as_text=as_text, key=key, seconds=seconds, record=record)
    return Response(answer.body, status, answer.headers, media_type="application/json")


def _seconds(header: str | None) -> float | None:
    """Read the timeout header; raises InvalidRequestError for what is no positive number."""
    if header is None:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(header)
        if 0 < seconds < math.inf:
            return seconds
    raise InvalidRequestError(
        f"the header {TIMEOUT_HEADER} must be a positive number of seconds", code="invalid_header"
    )
