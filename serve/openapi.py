"""The OpenAPI document of the endpoint. Routes describe themselves; this adds what belongs to all of them."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from lakebed.serve.documented import BEARER, example_refusal, request_schemas

_FIRST_ERROR: Final = 400

_DESCRIPTION: Final = """\
Vectors of text and of multi-channel time series, in one space, for the clients of OpenAI, Inference.net and
InertialAI.

Paths under `/v1` follow OpenAI's conventions: 200 for success, 400 for a faulty request. Paths under `/api/v1`
follow InertialAI's: 201 and 422. Apart from that they are the same.

Every answer carries an `x-request-id`. Every error has `error{message, type, param, code}` for OpenAI's clients,
`detail` for InertialAI's, and `request_id`.
"""

_TAGS: Final = [
    {"name": "embeddings", "description": "Vectors for texts and time series."},
    {"name": "models", "description": "What is served."},
    {"name": "health", "description": "Whether the server is well; needs no key."},
]

_SECURITY: Final = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "description": "A key from `lakebed keys create`. A server on loopback may be told to ask for none.",
    }
}


def document(app: FastAPI) -> dict[str, Any]:
    """Describe every route of `app` that wants to be."""
    described: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, description=_DESCRIPTION, tags=_TAGS, routes=app.routes
    )
    components = described["components"]
    components["schemas"].update(request_schemas())
    components["securitySchemes"] = _SECURITY
    for path in described["paths"].values():
        for operation in path.values():
            _add_examples(operation["responses"])
    return described


def _add_examples(responses: dict[str, Any]) -> None:
    """Show what errors look like. Not left to the framework, which drops what is null."""
    for status, response in responses.items():
        if int(status) >= _FIRST_ERROR:
            response["content"]["application/json"]["example"] = example_refusal(int(status))
