"""GET /health: the process answers. GET /healthz: it also embeds. Neither needs a key, neither tells secrets."""

import logging

import orjson
from fastapi import APIRouter, Response

from lakebed.serve.errors import NotReadyError
from lakebed.serve.logs import described
from lakebed.serve.service import Service

_log = logging.getLogger(__name__)


def health_routes(service: Service) -> APIRouter:
    """Liveness and readiness; readiness runs a real embedding when nothing else shows that it would work."""
    router = APIRouter()

    async def health() -> Response:
        return Response(orjson.dumps({"status": "ok"}), media_type="application/json")

    async def healthz() -> Response:
        try:
            await service.probe()
        except Exception as error:
            _log.error("the readiness probe could not be embedded\n%s", described(error))
            raise NotReadyError("the model does not answer", hint="the server's log says why") from error
        return Response(orjson.dumps({"status": "ready"}), media_type="application/json")

    router.add_api_route("/health", health, methods=["GET"])
    router.add_api_route("/healthz", healthz, methods=["GET"])
    return router
