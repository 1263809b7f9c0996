"""The HTTP surface: routes and errors around a service. Knows no Ray, so tests can drive it in one process."""

from fastapi import FastAPI

from lakebed import __version__
from lakebed.serve import error_responses
from lakebed.serve.access import Access
from lakebed.serve.routes.embeddings import embeddings_routes
from lakebed.serve.routes.health import health_routes
from lakebed.serve.routes.models import models_routes
from lakebed.serve.service import Service


def create_api(service: Service) -> FastAPI:
    """Put every route before `service`.

    No redirects for trailing slashes: a redirected POST loses its body in some clients and fails in others. No
    interactive pages: the framework's load scripts from elsewhere.
    """
    app = FastAPI(title="lakebed", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    error_responses.install(app)
    app.add_middleware(Access, metrics=service.metrics)
    for routes in (embeddings_routes, models_routes, health_routes):
        app.include_router(routes(service))
    return app
