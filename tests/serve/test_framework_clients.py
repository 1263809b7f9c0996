"""What others built on OpenAI's API: LangChain, LlamaIndex, mteb's two wrappers, curl."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import openai
import pytest
from datasets import Dataset
from fastapi import FastAPI
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai import OpenAIEmbedding
from mteb.models import OpenAIAPIEncodeWrapper
from mteb.models.model_implementations.openai_models import OpenAIModel
from starlette.types import ASGIApp
from torch.utils.data import DataLoader

from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.items import Item

AppFactory = Callable[..., FastAPI]
Listen = Callable[[ASGIApp], str]

TEXTS = ["a pump that rattles", "a quiet fan", "Überdruck im Kessel"]


def expected(*texts: str, dimensions: int | None = None) -> Any:
    return encode(FakeEncoder(64), [Item.of(text) for text in texts], dimensions).vectors


def check(vectors: Any, *texts: str, dimensions: int | None = None) -> None:
    np.testing.assert_array_equal(np.array(vectors, np.float32), expected(*texts, dimensions=dimensions))


@pytest.fixture
def langchain(server_url: str, server_key: str) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model="fake", base_url=f"{server_url}/v1", api_key=server_key, check_embedding_ctx_length=False
    )


def test_langchain_sends_text_when_told_to(langchain: OpenAIEmbeddings) -> None:
    check(langchain.embed_documents(TEXTS), *TEXTS)
    check([langchain.embed_query("a pump")], "a pump")
    check(asyncio.run(langchain.aembed_documents(TEXTS)), *TEXTS)


def test_langchain_cuts_vectors(server_url: str, server_key: str) -> None:
    embeddings = OpenAIEmbeddings(
        model="fake",
        base_url=f"{server_url}/v1",
        api_key=server_key,
        check_embedding_ctx_length=False,
        dimensions=16,
    )
    check(embeddings.embed_documents(TEXTS), *TEXTS, dimensions=16)


def test_langchain_s_default_sends_tokens_and_learns_why_not(
    server_url: str, server_key: str, offline_encodings: Path
) -> None:
    embeddings = OpenAIEmbeddings(model="fake", base_url=f"{server_url}/v1", api_key=server_key)
    with pytest.raises(openai.BadRequestError, match=r"ctx_length=False.*token_input: cl100k_base"):
        embeddings.embed_documents(TEXTS)


def test_langchain_s_default_works_where_the_server_reads_openai_s_tokens(
    app_of: AppFactory, listen: Listen, offline_encodings: Path
) -> None:
    url = listen(app_of(token_input="cl100k_base"))
    embeddings = OpenAIEmbeddings(model="fake", base_url=f"{url}/v1", api_key="-")
    check(embeddings.embed_documents(TEXTS), *TEXTS)
    check(asyncio.run(embeddings.aembed_documents(TEXTS)), *TEXTS)


def test_langchain_splits_and_averages_long_texts_by_itself(
    app_of: AppFactory, listen: Listen, offline_encodings: Path
) -> None:
    url = listen(app_of(token_input="cl100k_base"))
    embeddings = OpenAIEmbeddings(model="fake", base_url=f"{url}/v1", api_key="-", embedding_ctx_length=2)
    [vector] = embeddings.embed_documents(["one two three"])
    mean = np.average(expected("one two", " three"), axis=0, weights=[2, 1])
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


@pytest.fixture
def llama_index(server_url: str, server_key: str) -> OpenAIEmbedding:
    return OpenAIEmbedding(
        model_name="fake", api_base=f"{server_url}/v1", api_key=server_key, max_retries=0, num_workers=2
    )


def test_llama_index_embeds_texts_queries_and_batches(llama_index: OpenAIEmbedding) -> None:
    check([llama_index.get_text_embedding("a pump")], "a pump")
    check([llama_index.get_query_embedding("a pump")], "a pump")
    many = [f"{text} {number}" for number in range(50) for text in TEXTS]
    check(llama_index.get_text_embedding_batch(many), *many)
    check(asyncio.run(llama_index.aget_text_embedding_batch(TEXTS)), *TEXTS)


def test_llama_index_cuts_vectors(server_url: str, server_key: str) -> None:
    embedding = OpenAIEmbedding(model_name="fake", api_base=f"{server_url}/v1", api_key=server_key, dimensions=16)
    check([embedding.get_text_embedding("a pump")], "a pump", dimensions=16)


TASK: dict[str, Any] = {
    "task_metadata": mteb.get_task("STS12").metadata,
    "hf_split": "test",
    "hf_subset": "default",
}


def batches(texts: list[str]) -> Any:
    return DataLoader(Dataset.from_dict({"text": texts}), batch_size=2)


def test_mteb_s_openai_model_embeds_through_a_client_of_ours(
    server_url: str, server_key: str, offline_encodings: Path
) -> None:
    with openai.OpenAI(base_url=f"{server_url}/v1", api_key=server_key, max_retries=0) as client:
        model = OpenAIModel("fake", max_tokens=256, embed_dim=64, client=client)
        vectors = model.encode(batches([*TEXTS, " "]), **TASK)
    check(vectors[:3], *TEXTS)
    assert not vectors[3].any()  # mteb's own answer for a blank text


def test_mteb_s_wrapper_for_servers_embeds_and_has_long_texts_cut(app_of: AppFactory, listen: Listen) -> None:
    model = OpenAIAPIEncodeWrapper(listen(app_of()), "fake", use_chat_template=False, modalities=["text"])
    assert model.max_length == 256
    check(model.encode(batches(TEXTS), **TASK, show_progress_bar=False), *TEXTS)
    assert model.encode(batches(["word " * 300]), **TASK, show_progress_bar=False).shape == (1, 64)


def test_mteb_s_wrapper_for_servers_asks_for_models_without_its_key(server_url: str, server_key: str) -> None:
    with pytest.raises(ConnectionError, match="401"):
        OpenAIAPIEncodeWrapper(server_url, "fake", server_key)


def test_mteb_s_wrapper_learns_that_there_is_no_chat_template(app_of: AppFactory, listen: Listen) -> None:
    model = OpenAIAPIEncodeWrapper(listen(app_of()), "fake")
    with pytest.raises(RuntimeError, match="input: field required"):
        model.encode(batches(TEXTS), **TASK, show_progress_bar=False)


curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def run_curl(*arguments: str) -> tuple[int, Any]:
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", "\n%{http_code}", *arguments]
    body, _, status = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rpartition("\n")
    return int(status), json.loads(body)


@curl
@pytest.mark.parametrize(("path", "status"), [("/v1/embeddings", 200), ("/api/v1/embeddings", 201)])
def test_curl_gets_vectors_even_without_naming_the_content_type(
    server_url: str, server_key: str, path: str, status: int
) -> None:
    data = json.dumps({"model": "fake", "input": TEXTS})
    answer = run_curl(f"{server_url}{path}", "-H", f"Authorization: Bearer {server_key}", "--data", data)
    assert answer[0] == status
    check([entry["embedding"] for entry in answer[1]["data"]], *TEXTS)


@curl
def test_curl_may_send_a_large_body(server_url: str, server_key: str, tmp_path: Path) -> None:
    """Over a megabyte curl asks first whether it may: Expect: 100-continue."""
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"model": "fake", "input": [f"{'x' * 1000} {number}" for number in range(1500)]}))
    authorization = f"Authorization: Bearer {server_key}"
    status, answer = run_curl(f"{server_url}/v1/embeddings", "-H", authorization, "--data-binary", f"@{body}")
    assert (status, len(answer["data"])) == (200, 1500)


@curl
def test_curl_without_a_key_is_told_what_to_do(server_url: str) -> None:
    status, answer = run_curl(f"{server_url}/v1/models")
    assert status == 401
    assert "lakebed keys create" in answer["error"]["message"]
