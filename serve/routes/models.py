"""GET /v1/models and /v1/models/{id}, and the same under /api/v1: what the caller's key may use."""

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from lakebed.serve.auth import permitted_models
from lakebed.serve.routes.caller import caller
from lakebed.serve.service import Service


def models_routes(service: Service) -> APIRouter:
    """List and look up. Model names may hold slashes, which clients send escaped."""
    router = APIRouter()

    async def list_models(request: Request) -> Response:
        permitted = permitted_models(await caller(service, request))
        return _json({"object": "list", "data": service.models.described(permitted)})

    async def get_model(request: Request, name: str) -> Response:
        permitted = permitted_models(await caller(service, request))
        return _json(service.models.look_up(name, permitted))

    for prefix in ("/v1", "/api/v1"):
        router.add_api_route(f"{prefix}/models", list_models, methods=["GET"])
        router.add_api_route(f"{prefix}/models/{{name:path}}", get_model, methods=["GET"])
    return router


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
