"""Vectors in fewer bytes: what is lost, and that it is no more than is promised."""

import base64
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.precision import EmbedDtype, rounded
from lakebed.serve.wire import Usage, embeddings_body

ON_THE_WIRE: dict[EmbedDtype, str] = {"float32": "<f4", "float16": "<f2", "int8": "i1"}

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)
vectors = hnp.arrays(np.float32, shapes, elements=st.floats(-1, 1, width=32))
any_size = hnp.arrays(np.float32, shapes, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
dtypes = st.sampled_from(["float32", "float16", "int8"])


def entries(vectors: VectorArray, dtype: EmbedDtype, *, base64: bool) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = orjson.loads(
        embeddings_body("m", vectors, Usage(1, 1), base64=base64, dtype=dtype)
    )["data"]
    return data


@given(any_size)
def test_int8_times_its_scale_is_at_most_half_a_step_away(vectors: VectorArray) -> None:
    for row, entry in zip(vectors.astype(np.float64), entries(vectors, "int8", base64=False), strict=True):
        numbers, scale = np.array(entry["embedding"], np.float64), entry["scale"]
        assert np.abs(numbers).max() <= 127
        assert scale == pytest.approx(np.abs(row).max() / 127, rel=1e-12)
        assert (np.abs(numbers * scale - row) <= scale / 2 * (1 + 1e-9)).all()


@given(any_size)
def test_int8_keeps_the_order_and_turns_with_the_sign(vectors: VectorArray) -> None:
    numbers = rounded(vectors, "int8").values
    np.testing.assert_array_equal(rounded(-vectors, "int8").values, -numbers)
    for row, small in zip(vectors, numbers, strict=True):
        assert (np.diff(small[np.argsort(row, kind="stable")].astype(int)) >= 0).all()


def test_int8_of_a_zero_vector_is_zero_with_scale_zero() -> None:
    [entry] = entries(np.zeros((1, 3), np.float32), "int8", base64=False)
    assert entry["embedding"] == [0, 0, 0]
    assert entry["scale"] == 0


@given(vectors)
def test_float16_is_the_nearest_half_precision_number(vectors: VectorArray) -> None:
    for row, entry in zip(vectors, entries(vectors, "float16", base64=False), strict=True):
        numbers = np.array(entry["embedding"], np.float32)
        np.testing.assert_array_equal(numbers, row.astype(np.float16).astype(np.float32))
        assert (np.abs(numbers - row) <= np.maximum(np.abs(row) * 2**-11, 2**-25)).all()


@given(vectors, dtypes)
def test_base64_and_floats_say_the_same_in_every_dtype(vectors: VectorArray, dtype: EmbedDtype) -> None:
    pairs = zip(entries(vectors, dtype, base64=False), entries(vectors, dtype, base64=True), strict=True)
    for numbers, text in pairs:
        decoded = np.frombuffer(base64.b64decode(text["embedding"], validate=True), ON_THE_WIRE[dtype])
        np.testing.assert_array_equal(np.array(numbers["embedding"], np.float32), decoded.astype(np.float32))
        assert numbers.get("scale") == text.get("scale")
        assert ("scale" in text) == (dtype == "int8")
