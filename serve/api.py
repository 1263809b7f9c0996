"""The HTTP surface: routes and errors around a service. Knows no Ray, so tests can drive it in one process."""

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from lakebed import __version__
from lakebed.serve import error_responses, openapi
from lakebed.serve.access import Access
from lakebed.serve.request_ids import RequestIds
from lakebed.serve.routes.documentation import documentation_routes
from lakebed.serve.routes.embeddings import embeddings_routes
from lakebed.serve.routes.health import health_routes
from lakebed.serve.routes.models import models_routes
from lakebed.serve.service import Service


class Api(FastAPI):
    """A FastAPI application whose requests have ids, also when its outermost handler answers them."""

    request_ids_echoed = False

    def build_middleware_stack(self) -> ASGIApp:
        """The framework's own, and the ids around it."""
        return RequestIds(super().build_middleware_stack(), echoed=self.request_ids_echoed)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made when it is first asked for."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.document(self)
        return self.openapi_schema


def create_api(service: Service, *, request_ids_echoed: bool = False) -> FastAPI:
    """Put every route before `service`.

    `request_ids_echoed` says that the server around this app gives requests their ids and sends them back. No
    redirects for trailing slashes: a redirected POST loses its body in some clients and fails in others. The
    framework's own interactive pages load scripts from elsewhere, so ours take their place.
    """
    app = Api(title="lakebed", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.request_ids_echoed = request_ids_echoed
    error_responses.install(app)
    app.add_middleware(Access, metrics=service.metrics)
    for routes in (embeddings_routes, models_routes, health_routes):
        app.include_router(routes(service))
    app.include_router(documentation_routes())
    return app
