"""Scopes and limits of keys over HTTP: what a key may use, how much, and what every answer says of it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from lakebed.platform.config.serve import INERTIAL_NAME, KeyLimits, ServeConfig
from lakebed.serve.auth import StoredKeys
from lakebed.serve.errors import InvalidRequestError, OverloadedError
from lakebed.serve.key_limits import KeyRates
from lakebed.serve.ports import free_port
from lakebed.serve.process import running_server
from lakebed.serve.store.database import open_database
from lakebed.serve.store.keys import Terms, create_key, update_key

ClientFactory = Callable[..., TestClient]

REQUEST_HEADERS = {f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")}
TOKEN_HEADERS = {f"x-ratelimit-{what}-tokens" for what in ("limit", "remaining", "reset")}


@pytest.fixture
def engine(key_store: str) -> Engine:
    return open_database(key_store)


@pytest.fixture
def client(client_of: ClientFactory, engine: Engine) -> TestClient:
    """An endpoint that asks for keys and does not remember them, without limits by default."""
    return client_of(authenticator=StoredKeys(engine, 0.0))


def key_of(engine: Engine, **terms: Any) -> dict[str, str]:
    """The headers of a request with a new key."""
    secret, _ = create_key(engine, "me", terms=Terms(**terms))
    return {"authorization": f"Bearer {secret}"}


def embed(
    client: TestClient, headers: dict[str, str], value: Any = "one", path: str = "/v1/embeddings", **fields: Any
) -> httpx.Response:
    return client.post(path, json={"model": "fake", "input": value, **fields}, headers=headers)


def limits_in(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")}


def test_a_key_uses_the_models_of_its_scope_and_no_others(client: TestClient, engine: Engine) -> None:
    key = key_of(engine, models=("fake",))
    assert embed(client, key).status_code == 200
    assert embed(client, key, model="fake@unversioned").status_code == 200
    for path in ("/v1/embeddings", "/api/v1/embeddings"):
        refused = embed(client, key, path=path, model="org/fake")
        assert refused.status_code == 403
        error = refused.json()["error"]
        assert (error["type"], error["code"], error["param"]) == (
            "permission_error",
            "model_not_allowed",
            "model",
        )
        assert isinstance(refused.json()["detail"], str)


def test_what_a_key_may_not_use_it_does_not_see(client: TestClient, engine: Engine) -> None:
    key = key_of(engine, models=("org/fake", INERTIAL_NAME))
    listed = client.get("/v1/models", headers=key).json()["data"]
    assert [entry["id"] for entry in listed] == ["org/fake", INERTIAL_NAME]
    assert client.get("/v1/models/org%2Ffake", headers=key).status_code == 200
    key["x-request-id"] = "the-same"
    hidden, unknown = (client.get(f"/v1/models/{name}", headers=key) for name in ("fake", "nope"))
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "model_not_found")
    assert hidden.text == unknown.text.replace("nope", "fake")
    assert "'fake'" not in embed(client, key, model="nope").text.replace("'nope'", "")


def test_a_changed_scope_holds_for_a_running_server(client: TestClient, engine: Engine) -> None:
    secret, key = create_key(engine, "me")
    headers = {"authorization": f"Bearer {secret}"}
    assert embed(client, headers).status_code == 200
    update_key(engine, key.id, lambda terms: replace(terms, models=("org/fake",)))
    assert embed(client, headers).status_code == 403


def test_a_key_without_limits_is_told_of_none(client: TestClient, engine: Engine) -> None:
    assert limits_in(embed(client, key_of(engine))) == {}


def test_answers_say_what_is_left_of_what_is_limited(client: TestClient, engine: Engine) -> None:
    requests = key_of(engine, requests_per_minute=2)
    tokens = key_of(engine, tokens_per_minute=100)
    said = limits_in(embed(client, requests))
    assert set(said) == REQUEST_HEADERS
    assert (said["x-ratelimit-limit-requests"], said["x-ratelimit-remaining-requests"]) == ("2", "1")
    said = limits_in(embed(client, tokens, ["one two three", "four"]))
    assert set(said) == TOKEN_HEADERS
    assert said["x-ratelimit-remaining-tokens"] == "96", "the true count, not the estimate"
    assert said["x-ratelimit-reset-tokens"] in {"1m0s", "1m1s"}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/v1/embeddings"])
def test_over_the_limit_is_429_and_says_when(client: TestClient, engine: Engine, path: str) -> None:
    key = key_of(engine, requests_per_minute=2)
    assert [embed(client, key, path=path).status_code for _ in range(2)] in ([200] * 2, [201] * 2)
    refused = embed(client, key, path=path)
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "2 requests a minute" in error["message"]
    assert limits_in(refused)["x-ratelimit-remaining-requests"] == "0"
    seconds, milliseconds = int(refused.headers["retry-after"]), int(refused.headers["retry-after-ms"])
    assert seconds - 1 < milliseconds / 1000 <= seconds <= 61
    assert embed(client, key_of(engine, requests_per_minute=2), path=path).status_code < 300, "its own limit"


def test_a_request_that_fails_keeps_no_tokens(client: TestClient, engine: Engine) -> None:
    key = key_of(engine, tokens_per_minute=300)
    for fault in ({"dimensions": 1000}, {"model": "nope"}, {"value": ""}):
        failed = embed(client, key, **{"value": "word " * 200, **fault})
        assert failed.status_code in (400, 404)
        assert limits_in(failed)["x-ratelimit-remaining-tokens"] == "300"
    assert embed(client, key, "word " * 200).status_code == 200


@pytest.mark.parametrize(
    ("error", "remaining"),
    [(OverloadedError("busy"), "2"), (InvalidRequestError("faulty"), "1"), (asyncio.CancelledError(), "1")],
)
def test_what_a_request_that_fails_is_counted_for(engine: Engine, error: BaseException, remaining: str) -> None:
    """As a request without tokens, but not at all when the server had no room for it."""
    _, key = create_key(engine, "me", terms=Terms(requests_per_minute=2, tokens_per_minute=10))
    rates = KeyRates(KeyLimits())

    async def left() -> dict[str, str]:
        with pytest.raises(type(error)):
            async with rates.hold(key, 10):
                raise error
        async with rates.hold(key, 1) as allowance:
            return allowance.headers()

    said = asyncio.run(left())
    assert said["x-ratelimit-remaining-tokens"] == "9"
    assert int(said["x-ratelimit-remaining-requests"]) + 1 == int(remaining)


def test_a_request_that_will_never_fit_is_refused_for_good(client: TestClient, engine: Engine) -> None:
    """By its bytes, or, when they look like less, by its true size; clients do not retry 400 and 422."""
    key = key_of(engine, tokens_per_minute=20)
    for text in ("word " * 60, "1 " * 60):
        for path, status in (("/v1/embeddings", 400), ("/api/v1/embeddings", 422)):
            refused = embed(client, key, text, path=path)
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, "request_over_rate_limit")
            assert "20 a minute" in refused.json()["error"]["message"]
    assert embed(client, key, "word " * 10).status_code == 200


def test_a_key_s_own_limit_goes_before_the_server_s(client_of: ClientFactory, engine: Engine) -> None:
    client = client_of(authenticator=StoredKeys(engine, 0.0), key_limits=KeyLimits(requests_per_minute=7))
    default, own = key_of(engine, tokens_per_minute=50), key_of(engine, requests_per_minute=3)
    said = limits_in(embed(client, default))
    assert (said["x-ratelimit-limit-requests"], said["x-ratelimit-limit-tokens"]) == ("7", "50")
    assert limits_in(embed(client, own))["x-ratelimit-limit-requests"] == "3"


def test_a_server_without_keys_has_no_limits(client_of: ClientFactory) -> None:
    client = client_of(key_limits=KeyLimits(requests_per_minute=1))
    assert [embed(client, {}).status_code for _ in range(3)] == [200] * 3


def test_guessing_is_answered_429_and_a_good_key_goes_on_working(client_of: ClientFactory, engine: Engine) -> None:
    client = client_of(authenticator=StoredKeys(engine, 2.0, failures_per_minute=3))
    good, wrong = key_of(engine), {"authorization": "Bearer lb_wrong"}
    assert [client.get("/v1/models", headers=wrong).status_code for _ in range(3)] == [401] * 3
    refused = embed(client, wrong)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 61
    assert embed(client, good).status_code == 200


def test_two_replicas_hold_one_limit_and_know_who_guesses(tmp_path: Path, lakebed_home: Path) -> None:
    """Through HAProxy, which spreads requests over both, with the authority between them."""
    store = f"sqlite:///{tmp_path / 'keys.db'}"
    secret, _ = create_key(open_database(store), "limited", terms=Terms(requests_per_minute=100))
    limits = KeyLimits(failures_per_minute=2)
    config = ServeConfig(
        port=free_port(), models={"fake": "fake:8"}, replicas=2, key_store=store, key_limits=limits
    )
    with running_server(config) as url, ThreadPoolExecutor(8) as others:

        def status(key: str, address: str) -> int:
            headers = {"authorization": f"Bearer {key}", "x-forwarded-for": address}
            body = {"model": "fake", "input": "one"}
            answer = httpx.post(f"{url}/v1/embeddings", json=body, headers=headers, trust_env=False, timeout=60)
            return answer.status_code

        statuses = list(others.map(lambda number: status(secret, f"192.0.2.{number}"), range(150)))
        assert set(statuses) == {200, 429}
        assert 90 <= statuses.count(200) <= 100
        assert authorities_of(lakebed_home) == 1, "each replica by itself would let half of it in"
        guesses = [status("lb_wrong", f"192.0.2.{number}") for number in range(8)]
        assert set(guesses) == {401, 429}
        assert guesses.count(401) <= 2 * 2, "each replica counts alone, by an address that nobody can choose"


def authorities_of(home: Path) -> int:
    """How many authorities run whose environment names this folder."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or another user's
            ours = str(home).encode() in (process / "environ").read_bytes()
            found += ours and b"AuthorityActor" in (process / "cmdline").read_bytes()
    return found


def test_the_openai_client_reads_the_limits_of_a_real_server(
    server_url: str, server_key_store: str, server_key: str
) -> None:
    engine = open_database(server_key_store)
    secret, _ = create_key(engine, "limited", terms=Terms(requests_per_minute=1, models=("fake",)))
    with openai.OpenAI(base_url=f"{server_url}/v1", api_key=secret, max_retries=0) as client:
        answer = client.embeddings.with_raw_response.create(model="fake", input="one")
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError) as limited:
            client.embeddings.create(model="fake", input="one")
        assert limited.value.code == "rate_limit_exceeded"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(INERTIAL_NAME)
