"""Vectors on the wire."""

import base64
from datetime import datetime

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lakebed.platform.encoder.prepared import VectorArray
from lakebed.serve.wire import Usage, embeddings_body

vectors = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1, 1, width=32)
)


@given(vectors)
def test_floats_and_base64_say_exactly_the_same_numbers(vectors: VectorArray) -> None:
    as_floats = orjson.loads(embeddings_body("m", vectors, Usage(1, 1), base64=False))["data"]
    as_base64 = orjson.loads(embeddings_body("m", vectors, Usage(1, 1), base64=True))["data"]
    for row, floats, text in zip(vectors, as_floats, as_base64, strict=True):
        np.testing.assert_array_equal(np.array(floats["embedding"], np.float32), row)
        np.testing.assert_array_equal(np.frombuffer(base64.b64decode(text["embedding"]), "<f4"), row)


def test_the_body_has_what_every_vendor_sends() -> None:
    body = orjson.loads(embeddings_body("asked/for", np.eye(2, dtype=np.float32), Usage(3, 5), base64=False))
    assert body["object"] == "list"
    assert body["model"] == "asked/for"
    assert [entry["index"] for entry in body["data"]] == [0, 1]
    assert {entry["object"] for entry in body["data"]} == {"embedding"}
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 5}
    assert body["id"].startswith("emb_")
    assert datetime.fromisoformat(body["create_time"]).tzinfo is not None


def test_truncation_is_counted_only_where_it_happened() -> None:
    body = orjson.loads(embeddings_body("m", np.eye(1, dtype=np.float32), Usage(3, 3, 9), base64=False))
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "truncated_tokens": 9}


def test_a_vector_that_is_no_float32_array_is_made_one() -> None:
    columns_first = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    body = orjson.loads(embeddings_body("m", columns_first, Usage(1, 1), base64=False))
    assert [entry["embedding"] for entry in body["data"]] == [[0, 1, 2], [3, 4, 5]]
