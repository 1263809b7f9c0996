import numpy as np
import pytest
from pydantic import ValidationError

from lakebed.jobs.validation import equal_vectors
from lakebed.platform.config.embed import ValidationConfig

VECTORS = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)


def test_different_vectors_are_not_equal() -> None:
    assert equal_vectors(VECTORS, list("abcdef")) == 0
    assert equal_vectors(VECTORS[:0], []) == 0


def test_one_vector_for_everything_makes_every_row_suspicious() -> None:
    assert equal_vectors(np.repeat(VECTORS[:1], 6, axis=0), list("abcdef")) == 6


def test_equal_contents_may_have_equal_vectors() -> None:
    assert equal_vectors(VECTORS[[0, 0, 1, 1, 2, 2]], list("aabbcc")) == 0


def test_only_rows_that_share_a_vector_across_contents_count() -> None:
    assert equal_vectors(VECTORS[[0, 0, 0, 1, 1, 2]], list("aabccd")) == 3


def test_a_share_may_be_written_as_a_percentage() -> None:
    assert ValidationConfig.parse({"max_equal_vectors": "5%"}, where="test").max_equal_vectors == 0.05
    with pytest.raises(ValidationError):
        ValidationConfig(max_equal_vectors=2)
