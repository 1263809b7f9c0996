"""Models behind a URL are measured as models here are; in this folder for its servers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lakebed.eval.run import evaluate
from lakebed.eval.subject import resolve_subject
from lakebed.platform.config.suite import Suite
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.encoder.remote import KEY_VARIABLE
from lakebed.platform.errors import ConfigError, ModelNotFoundError, UnreachableError
from lakebed.platform.items import Item
from lakebed.platform.registry import Registry

ITEMS = [
    Item.of(text="a pump rattles"),
    Item.of(series=[[0.1, 1 / 3, 2.0], [4.0, 5.0, 6.0]], channel_names=["x", "y"], sampling_rate=32.0),
    Item.of(text='{"text": "not an item"}', series=[[1.0, 2.0]]),
]


class TextServer:
    """Answers as a foreign server does: texts only, vectors of any length, now and then too busy."""

    def __init__(self, busy: int = 0) -> None:
        self.busy = busy
        self.keys: set[str | None] = set()

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[Route("/v1/embeddings", self.embed, methods=["POST"]), Route("/v1/models", self.models)]
        )

    async def models(self, request: Request) -> Response:
        return JSONResponse({"data": [{"id": "texts-1"}]})

    async def embed(self, request: Request) -> Response:
        self.keys.add(request.headers.get("authorization"))
        if self.busy:
            self.busy -= 1
            return JSONResponse({"error": {"message": "busy"}}, 429, {"retry-after": "0"})
        body: dict[str, Any] = await request.json()
        if body["model"] != "texts-1" or not all(isinstance(text, str) for text in body["input"]):
            return JSONResponse({"error": {"message": "no such model here"}}, 404)
        vectors = 3 * encode(FakeEncoder(6), [Item.of(text=text) for text in body["input"]]).vectors
        data = [{"index": index, "embedding": vector.tolist()} for index, vector in enumerate(vectors)]
        return JSONResponse({"data": data[::-1]})


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """Sentence pairs, and series that a text server cannot take."""
    pairs = [(5.0, "a man plays", "a man is playing"), (0.0, "stocks fell", "a dog runs"), (2.5, "a cat", "cats")]
    lines = [f"g\tf\ty\t{number}\t{score}\t{a}\t{b}\n" for number, (score, a, b) in enumerate(pairs)]
    (tmp_path / "sts-test.csv").write_text("".join(lines))
    entries = [{"task": "sts", "path": str(tmp_path)}, {"task": "cross_modal", "pool": 20}]
    return Suite.parse({"name": "both", "description": "x", "entries": entries}, where="test")


def test_our_own_endpoint_gives_the_vectors_and_the_digest_of_its_model(app_of: Any, listen: Any) -> None:
    here = resolve_model("fake:64").load()
    there = resolve_model(f"{listen(app_of())}/v1?model=fake").load()
    assert there.info.digest == here.info.digest
    assert np.array_equal(encode(there, ITEMS).vectors, encode(here, ITEMS).vectors)


def test_a_foreign_server_takes_texts_and_the_rest_is_left_out(listen: Any, suite: Suite) -> None:
    url = listen(TextServer(busy=2).app)
    done = evaluate(resolve_model(f"{url}/v1").load(), suite)
    assert [one.task.name for one in done.measured] == ["sts"]
    assert done.means() == pytest.approx(
        evaluate(FakeEncoder(6), suite.with_options(exclude=("synthetic",))).means()
    )
    assert "cross_modal left out" in done.notes[0]
    with pytest.raises(ConfigError, match="no data set of this suite is text alone"):
        evaluate(resolve_model(f"{url}/v1").load(), suite.with_options(names=("synthetic",)))


def test_a_foreign_server_is_known_by_its_vectors(listen: Any, tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/none.db")
    url = listen(TextServer().app)
    first, second = (resolve_subject(f"{url}/v1?model=texts-1#{cut}", registry) for cut in (3, 4))
    assert first.digest == second.digest
    assert first.label == f"{url}/v1?model=texts-1#3"


def test_the_key_comes_from_the_environment_and_stands_in_no_message(
    listen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = TextServer()
    url = listen(server.app)
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret")
    with pytest.raises(ModelNotFoundError, match="HTTP 404: no such model here") as raised:
        resolve_model(f"{url}/v1?model=other").load()
    assert server.keys == {"Bearer sk-secret"}
    assert "secret" not in str(raised.value)
    with pytest.raises(ConfigError, match="no key in a URL") as raised_too:
        resolve_model("http://me:secret@host/v1")
    assert "secret" not in str(raised_too.value)


def test_a_server_that_is_away_and_one_with_several_models_are_one_line(
    app_of: Any, listen: Callable[..., str], free_port: int
) -> None:
    with pytest.raises(UnreachableError, match="no server answers"):
        resolve_model(f"http://127.0.0.1:{free_port}/v1").load()
    with pytest.raises(ModelNotFoundError, match=r"which model\? It serves .*fake"):
        resolve_model(f"{listen(app_of())}/v1").load()
    with pytest.raises(ConfigError, match="write https"):
        resolve_model("http://host/v1?nodel=x")
