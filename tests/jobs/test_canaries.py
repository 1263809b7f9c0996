import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakebed.jobs.canaries import SIGNALS, TEXTS, Canaries, canary_vectors, items_for
from lakebed.jobs.checking import check_job
from lakebed.platform.config.embed import ColumnsConfig, EmbedJob
from lakebed.platform.encoder.artifact import record_vectors, recorded_vectors
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
    canaries = Canaries.of(FakeEncoder(), BOTH, 16, {})
    assert canaries.vectors.shape == (len(TEXTS) + len(SIGNALS), 16)
    canaries.check(FakeEncoder(), "m", "n")
    canaries.check(skewed(1e-3), "m", "n")


def test_another_model_is_refused_in_a_line_that_names_model_and_node() -> None:
    canaries = Canaries.of(FakeEncoder(), BOTH, 16, {})
    with pytest.raises(
        JobFailedError, match=r"^model fake:32 on node 10\.0\.0\.7 gives other vectors .* a cosine of"
    ):
        canaries.check(skewed(0.3), "fake:32", "node 10.0.0.7")


def test_an_encoder_that_fails_on_a_worker_only_is_refused_too() -> None:
    with pytest.raises(JobFailedError, match="a test signal of"):
        Canaries.of(FakeEncoder(), BOTH, 32, {}).check(TextOnly(), "m", "n")


def test_what_an_encoder_cannot_embed_is_left_out() -> None:
    canaries = Canaries.of(TextOnly(), BOTH, 32, {})
    assert canaries.vectors.any(axis=1).tolist() == [True] * len(TEXTS) + [False] * len(SIGNALS)
    canaries.check(TextOnly(), "m", "n")


def test_a_job_of_texts_embeds_no_signals_and_the_other_way_round() -> None:
    assert len(items_for(ColumnsConfig(text="text"))) == len(TEXTS)
    assert len(items_for(ColumnsConfig(channels=("x", "y")))) == len(SIGNALS)


def test_a_machine_on_which_a_model_is_not_what_it_was_is_refused_before_any_work(tmp_path: Path) -> None:
    shutil.copytree(packaged_model(), tmp_path / "model")
    record_vectors(
        tmp_path / "model", {key: vector[::-1] for key, vector in recorded_vectors(tmp_path / "model").items()}
    )
    (tmp_path / "notes").mkdir()
    pq.write_table(pa.table({"id": [1], "note": ["a pump"]}), tmp_path / "notes" / "a.parquet")
    values = {
        "source": {"uri": str(tmp_path / "notes"), "format": "parquet"},
        "sink": {"uri": str(tmp_path / "sink"), "format": "parquet"},
        "columns": {"keys": ["id"], "text": "note"},
        "model": str(tmp_path / "model"),
    }
    with pytest.raises(JobFailedError, match="on this machine gives other vectors than where it was made"):
        check_job(EmbedJob.parse(values, where="job"))
    assert not (tmp_path / "sink").exists()


@pytest.mark.parametrize("dimensions", [64, None])
def test_our_own_model_still_gives_what_it_gave_where_it_was_made(dimensions: int | None) -> None:
    model = resolve_model(str(packaged_model()))
    encoder, recorded = model.load("cpu"), model.recorded_vectors()
    canaries = Canaries.of(encoder, BOTH, dimensions or encoder.info.dimensions, recorded)
    assert len(canaries.items) == len(recorded) == len(TEXTS) + len(SIGNALS)
    canaries.check(encoder, model.reference, "here")


def test_our_own_model_tells_the_canaries_apart() -> None:
    items = items_for(BOTH)
    vectors = canary_vectors(resolve_model(str(packaged_model())).load("cpu"), items)
    assert (vectors @ vectors.T - np.eye(len(items))).max() < 0.99
