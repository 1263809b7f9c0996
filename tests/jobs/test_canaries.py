import numpy as np
import pytest

from lakebed.jobs.canaries import SIGNALS, TEXTS, Canaries, canary_vectors, items_for
from lakebed.platform.config.embed import ColumnsConfig
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.load import packaged_model, resolve_model
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.platform.errors import JobFailedError

BOTH = ColumnsConfig(text="text", series="series")


class Skewed(FakeEncoder):
    """Adds a fixed vector to every other one."""

    skew: float = 0.0

    def forward(self, work: Prepared) -> VectorArray:
        vectors = super().forward(work) + np.float32(self.skew)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class TextOnly(FakeEncoder):
    """Knows no signals."""

    def prepare(self, items):  # type: ignore[no-untyped-def]
        if any(item.series is not None for item in items):
            raise ValueError("texts only")
        return super().prepare(items)


def skewed(by: float) -> Skewed:
    encoder = Skewed()
    object.__setattr__(encoder, "skew", by)
    return encoder


def test_the_same_model_passes_also_with_a_little_less_precision() -> None:
    canaries = Canaries.of(FakeEncoder(), BOTH, 16)
    assert canaries.vectors.shape == (len(TEXTS) + len(SIGNALS), 16)
    canaries.check(FakeEncoder(), "m", "n")
    canaries.check(skewed(1e-3), "m", "n")


def test_another_model_is_refused_in_a_line_that_names_model_and_node() -> None:
    canaries = Canaries.of(FakeEncoder(), BOTH, 16)
    with pytest.raises(
        JobFailedError, match=r"^model fake:32 on node 10\.0\.0\.7 gives other vectors .* a cosine of"
    ):
        canaries.check(skewed(0.3), "fake:32", "10.0.0.7")


def test_an_encoder_that_fails_on_a_worker_only_is_refused_too() -> None:
    with pytest.raises(JobFailedError, match="a test signal of"):
        Canaries.of(FakeEncoder(), BOTH, 32).check(TextOnly(), "m", "n")


def test_what_an_encoder_cannot_embed_is_left_out() -> None:
    canaries = Canaries.of(TextOnly(), BOTH, 32)
    assert canaries.vectors.any(axis=1).tolist() == [True] * len(TEXTS) + [False] * len(SIGNALS)
    canaries.check(TextOnly(), "m", "n")


def test_a_job_of_texts_embeds_no_signals_and_the_other_way_round() -> None:
    assert len(items_for(ColumnsConfig(text="text"))) == len(TEXTS)
    assert len(items_for(ColumnsConfig(channels=("x", "y")))) == len(SIGNALS)


def test_our_own_model_tells_the_canaries_apart() -> None:
    items = items_for(BOTH)
    vectors = canary_vectors(resolve_model(str(packaged_model())).load("cpu"), items)
    assert (vectors @ vectors.T - np.eye(len(items))).max() < 0.99
