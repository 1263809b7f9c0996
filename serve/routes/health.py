"""GET /health: the process answers. GET /healthz: it also embeds. Neither needs a key, neither tells secrets."""

import logging

import orjson
from fastapi import APIRouter, Response

from lakebed.serve.documented import Health, refusals, success
from lakebed.serve.errors import NotReadyError
from lakebed.serve.logs import described
from lakebed.serve.service import Service

_log = logging.getLogger(__name__)


def health_routes(service: Service) -> APIRouter:
    """Liveness and readiness; readiness runs a real embedding when nothing else shows that it would work."""
    router = APIRouter(tags=["health"])

    async def health() -> Response:
        return Response(orjson.dumps({"status": "ok"}), media_type="application/json")

    async def healthz() -> Response:
        try:
            await service.probe()
        except Exception as error:
            _log.error("the readiness probe could not be embedded\n%s", described(error))
            raise NotReadyError("the model does not answer", hint="the server's log says why") from error
        return Response(orjson.dumps({"status": "ready"}), media_type="application/json")

    router.add_api_route(
        "/health",
        health,
        methods=["GET"],
        operation_id="health",
        summary="Whether the process answers",
        responses=success(200, "It does.", Health),
    )
    router.add_api_route(
        "/healthz",
        healthz,
        methods=["GET"],
        operation_id="healthz",
        summary="Whether every model embeds",
        responses={**success(200, "All do.", Health), **refusals(503)},
    )
    for path, handler in (("/health", health), ("/healthz", healthz)):  # as some monitors ask
        router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
    return router
