"""Figures of geometry against scipy, closed forms and cases done by hand."""

import numpy as np
import pytest
from scipy.linalg import svdvals
from scipy.spatial.distance import pdist
from scipy.stats import entropy

from lakebed.eval import spread
from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.entries import source_of, task_of
from lakebed.platform.config.entries.geometry import Geometry
from lakebed.platform.items import Item

VECTORS = np.random.default_rng(0).standard_normal((1500, 12)).astype(np.float32)  # more than one block
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)


def test_uniformity_is_the_log_mean_potential_of_all_pairs() -> None:
    expected = np.log(np.exp(-2 * pdist(UNIT.astype(float), "sqeuclidean")).mean())
    assert spread.uniformity(UNIT) == pytest.approx(expected, abs=1e-6)
    assert spread.uniformity(np.ones((3, 2), np.float32)) == pytest.approx(0)


def test_effective_rank_is_the_perplexity_of_singular_values() -> None:
    scaled = VECTORS * np.float32(0.7) ** np.arange(12, dtype=np.float32)
    expected = np.exp(entropy(svdvals(scaled.astype(float))))
    assert spread.effective_rank(scaled) == pytest.approx(expected, abs=1e-6)
    assert spread.effective_rank(np.eye(5, 9, dtype=np.float32)) == pytest.approx(5)
    assert spread.effective_rank(np.ones((7, 4), np.float32)) == pytest.approx(1, abs=1e-6)


def test_the_mean_cosine_is_that_of_all_pairs() -> None:
    expected = 1 - pdist(UNIT.astype(float), "cosine").mean()
    assert spread.mean_cosine(UNIT) == pytest.approx(expected, abs=1e-6)


def test_alignment_and_gap_of_a_case_done_by_hand() -> None:
    texts, signals = np.float32([[1, 0], [0, 1]]), np.float32([[0, 1], [0, 1]])
    assert spread.alignment(texts, signals) == pytest.approx(1)
    assert spread.modality_gap(texts, signals) == pytest.approx(np.hypot(0.5, 0.5))


def test_duplicates_are_found_whatever_their_length_and_across_blocks() -> None:
    vectors = VECTORS.copy()
    vectors[1400] = 3 * vectors[2]
    assert spread.duplicate_rate(vectors) == pytest.approx(2 / 1500)
    assert spread.duplicate_rate(np.ones((4, 3), np.float32)) == 1


def test_equal_contents_are_no_duplicates_and_positives_share_a_label() -> None:
    texts = [Item.of(text=text) for text in ("up", "up", "down")]
    signals = [Item.of(series=values) for values in ([0.0, 1], [0.0, 2], [1.0, 0])]
    labels = np.array(["up", "up", "down"])
    data = Dataset("moves", "1", "here", {"text": Part(texts, labels), "signal": Part(signals, labels)})
    vectors = {"text": np.float32([[1, 0], [1, 0], [0, 1]]), "signal": np.float32([[1, 0], [0, 1], [0, 1]])}
    metrics = task_of(Geometry(task="geometry")).run(data, vectors).metrics
    assert metrics["text_duplicate_rate"] == 0
    assert metrics["signal_duplicate_rate"] == pytest.approx(2 / 3)
    assert metrics["alignment"] == pytest.approx(
        (0 + 2 + 0 + 2 + 0) / 5
    )  # two texts with two signals each, one with one
    assert metrics["signal_norm_max"] == 1


def test_generated_pairs_are_measured_under_their_size() -> None:
    assert source_of(Geometry(task="geometry", pool=40)).names() == ["synthetic-40"]
