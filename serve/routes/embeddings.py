"""POST /v1/embeddings and /api/v1/embeddings: one handler, two conventions for the status."""

import contextlib
import math
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from lakebed.serve.errors import InvalidRequestError, TooLargeError, UnsupportedMediaError
from lakebed.serve.protocol import EmbeddingsRequest
from lakebed.serve.request_record import record_in
from lakebed.serve.routes.caller import caller
from lakebed.serve.service import Service

INPUT_HEADER: Final = "x-lakebed-input"
"""`text` turns off the reading of strings as native input."""

TIMEOUT_HEADER: Final = "x-request-timeout-seconds"
"""Until when the client waits; Ray Serve's own name for it."""

_CLIENT_LEFT: Final = 499

_DOCUMENTED: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": EmbeddingsRequest.model_json_schema()}},
    }
}


def embeddings_routes(service: Service) -> APIRouter:
    """Both paths. InertialAI answers 201 where OpenAI answers 200."""
    router = APIRouter()

    def add(path: str, status: int) -> None:
        async def create_embeddings(request: Request) -> Response:
            return await _embed(service, request, status)

        router.add_api_route(
            path, create_embeddings, methods=["POST"], status_code=status, openapi_extra=_DOCUMENTED
        )

    add("/v1/embeddings", 200)
    add("/api/v1/embeddings", 201)
    return router


async def _embed(service: Service, request: Request, status: int) -> Response:
    record = record_in(request.scope)
    record.timed = True
    key = await caller(service, request)
    seconds = _seconds(request.headers.get(TIMEOUT_HEADER))
    record.key_id = key.id if key else ""
    try:
        body = await _read_body(request, service.limits.max_body_bytes)
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


async def _read_body(request: Request, most: int) -> bytes:
    """Read the body, but never more than `most` bytes; raises TooLargeError or UnsupportedMediaError."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaError("compressed request bodies are not accepted", hint="send plain JSON")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(most)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(f"the request body is over {most:,} bytes", hint="send fewer inputs at a time")
