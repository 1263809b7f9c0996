"""GET /v1/models and /v1/models/{id}, and the same under /api/v1: what the caller's key may use."""

from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response

from lakebed.serve.auth import permitted_models
from lakebed.serve.documented import BEARER, MODEL_PARAMETERS, Model, ModelList, refusals, success
from lakebed.serve.routes.caller import caller
from lakebed.serve.service import Service

_SECURED: Final[dict[str, Any]] = {"security": [{BEARER: []}]}


def models_routes(service: Service) -> APIRouter:
    """List and look up. Model names may hold slashes, which clients send escaped."""
    router = APIRouter(tags=["models"])

    async def list_models(request: Request) -> Response:
        permitted = permitted_models(await caller(service, request))
        return _json({"object": "list", "data": service.models.described(permitted)})

    async def get_model(request: Request) -> Response:
        permitted = permitted_models(await caller(service, request))
        return _json(service.models.look_up(request.path_params["name"], permitted))

    for prefix, flavour in (("/v1", ""), ("/api/v1", "_native")):
        router.add_api_route(
            f"{prefix}/models",
            list_models,
            methods=["GET"],
            operation_id=f"list_models{flavour}",
            summary="List models",
            responses={**success(200, "Every served name.", ModelList), **refusals(401, 403, 429, 500, 503)},
            openapi_extra=_SECURED,
        )
        router.add_api_route(
            f"{prefix}/models/{{name:path}}",
            get_model,
            methods=["GET"],
            operation_id=f"get_model{flavour}",
            summary="Look up a model",
            responses={**success(200, "The model.", Model), **refusals(401, 403, 404, 429, 500, 503)},
            openapi_extra={**_SECURED, "parameters": MODEL_PARAMETERS},
        )
    return router


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
