"""The OpenAPI document: what it promises is what the server does, whatever schemathesis asks."""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urljoin

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.testclient import TestClient

from lakebed.platform.config.serve import Batching, Limits
from lakebed.platform.encoder.load import resolve_model
from lakebed.serve.api import create_api
from lakebed.serve.auth import bearer_token
from lakebed.serve.errors import UnauthorizedError
from lakebed.serve.models import load_models
from lakebed.serve.protocol import EmbeddingsRequest
from lakebed.serve.service import Service

KEY: Final = "a-good-key"
WITH_KEY: Final = {"authorization": f"Bearer {KEY}"}


class OneKey:
    async def check(self, authorization: str | None, address: str | None = None) -> None:
        if bearer_token(authorization) != KEY:
            raise UnauthorizedError("incorrect API key provided")


def make_api() -> FastAPI:
    model = resolve_model("fake:64")
    models = load_models({"fake": model, "org/fake": model, "lakebed-embed": model}, "cpu", Batching())
    return create_api(Service(models, OneKey(), Limits()))


api = make_api()
document = api.openapi()
schema = schemathesis.openapi.from_asgi("/openapi.json", api)


@schema.auth()
class Bearer:
    def get(self, case: Any, context: Any) -> str:
        return KEY

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers["authorization"] = f"Bearer {data}"


UNSAYABLE: Final = {
    "ragged",
    "channel_names",
    "invalid_dimensions",
    "context_length_exceeded",
    "empty_text",  # of characters that show nothing
    "unsupported_token_input",  # depends on the server
    "conflicting_fields",
    "int_type",  # to JSON Schema 592.0 is an integer
    "invalid_token",  # the same
    "unsupported_truncation",  # depends on the model
}
"""Faults that no JSON schema can rule out."""


@schema.parametrize()
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented(case: Any) -> None:
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = "fake"
    response = case.call()
    excluded = []
    if only_headers_are_wrong(case):  # one that nobody knows is no reason to refuse a request
        excluded.append(negative_data_rejection)
    if response.status_code in (400, 422) and response.json()["error"]["code"] in UNSAYABLE:
        excluded.append(positive_data_acceptance)
    case.validate_response(response, excluded_checks=excluded)


def only_headers_are_wrong(case: Any) -> bool:
    return [place for place, part in case.meta.components.items() if part.mode.is_negative] == [
        ParameterLocation.HEADER
    ]


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, what) for path, methods in document["paths"].items() for method, what in methods.items()
    ]


def check_against(part: dict[str, Any], value: Any) -> None:
    Draft202012Validator({**part, "components": document["components"]}).validate(value)


def test_every_route_is_documented_and_every_secured_one_says_so() -> None:
    assert {(path, method) for path, method, _ in operations()} == {
        ("/v1/embeddings", "post"),
        ("/api/v1/embeddings", "post"),
        ("/v1/models", "get"),
        ("/api/v1/models", "get"),
        ("/v1/models/{name}", "get"),
        ("/api/v1/models/{name}", "get"),
        ("/health", "get"),
        ("/healthz", "get"),
    }
    secured = {path for path, _, operation in operations() if "401" in operation["responses"]}
    assert secured == {
        path for path, _, operation in operations() if operation.get("security") == [{"bearer": []}]
    }
    assert {path for path, _, _ in operations()} - secured == {"/health", "/healthz"}


@pytest.mark.parametrize(("path", "status"), [("/v1/embeddings", 200), ("/api/v1/embeddings", 201)])
def test_every_example_of_a_request_is_answered(path: str, status: int) -> None:
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    with TestClient(api, headers=WITH_KEY) as client:
        for example in content["examples"].values():
            check_against(content["schema"], example["value"])
            assert client.post(path, json=example["value"]).status_code == status


def test_every_example_of_an_error_fits_its_schema() -> None:
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                content = response["content"]["application/json"]
                check_against(content["schema"], content["example"])


def test_a_request_has_every_field_that_is_read() -> None:
    assert set(document["components"]["schemas"]["EmbeddingsRequest"]["properties"]) == set(
        EmbeddingsRequest.model_fields
    )


@pytest.fixture
def pages() -> Iterator[TestClient]:
    with TestClient(api) as client:
        yield client


def test_the_page_of_the_documentation_loads_nothing_from_elsewhere(pages: TestClient) -> None:
    page = pages.get("/docs")
    assert page.status_code == 200
    assert re.findall(r"(?:https?:)?//[a-z]", page.text) == []
    for address in re.findall(r'(?:src|href)="([^"]+)"|url: \'([^\']+)\'', page.text):
        found = "".join(address)
        assert found == "data:," or pages.get(urljoin("/docs", found)).status_code == 200, found


def test_the_page_shows_every_operation_in_a_real_browser(
    server_url: str, page_in_a_browser: Callable[[str], str]
) -> None:
    page = page_in_a_browser(f"{server_url}/docs")
    assert len(re.findall(r'class="opblock opblock-(?:get|post)', page)) == len(list(operations()))
    assert "Embed texts and time series" in page


def test_the_browser_is_told_to_run_only_what_this_server_sent(pages: TestClient) -> None:
    page = pages.get("/docs")
    policy = dict(rule.strip().split(" ", 1) for rule in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    [script] = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert '"validatorUrl": null' in script, "it would send the document to swagger.io"


@pytest.mark.parametrize(
    ("name", "kind", "begins"),
    [("swagger-ui-bundle.js", "text/javascript", "/*!"), ("swagger-ui.css", "text/css", ".swagger-ui")],
)
def test_what_the_page_loads_is_served(pages: TestClient, name: str, kind: str, begins: str) -> None:
    answer = pages.get(f"/docs/{name}")
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text.startswith(begins)
    assert len(answer.content) > 100_000
