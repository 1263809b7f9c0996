"""Two-sample tests: by hand on tiny data, quiet without a difference, loud with one."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from lakebed.eval.two_samples import Outcome, classifier_test, far_share, mmd
from lakebed.platform.items import FloatArray


def drawn(seed: int, shift: float = 0.0, rows: int = 200) -> FloatArray:
    vectors = np.random.default_rng(seed).standard_normal((rows, 8))
    vectors[:, 0] += shift
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_mmd_by_hand() -> None:
    # Points 0, 1 against 2, 4 on a line: squared distances 1, 4, 16, 1, 9, 4, so the median is 4.
    within = 2 * np.exp(-1 / 4) / 2 + 2 * np.exp(-4 / 4) / 2
    across = sum(np.exp(-squared / 4) for squared in (4, 16, 1, 9)) / 4
    found = mmd(np.array([[0.0], [1.0]]), np.array([[2.0], [4.0]]), permutations=200)
    assert found.statistic == pytest.approx(within - 2 * across, abs=1e-9)
    assert found.p > 0.3  # of the three ways to pair four points, this is one


def test_mmd_of_unequal_samples_is_the_definition_of_it() -> None:
    a, b = drawn(1, rows=30), drawn(2, 0.5, rows=50)
    every = np.concatenate([a, b])
    squared = cdist(every, every, "sqeuclidean")
    kernel = np.exp(-squared / np.median(squared[np.triu_indices(80, 1)]))
    np.fill_diagonal(kernel, 0)
    expected = (
        kernel[:30, :30].sum() / (30 * 29) + kernel[30:, 30:].sum() / (50 * 49) - 2 * kernel[:30, 30:].mean()
    )
    assert mmd(a, b, permutations=10).statistic == pytest.approx(expected, abs=1e-9)


def quick_mmd(a: FloatArray, b: FloatArray) -> Outcome:
    return mmd(a, b, permutations=200)


def test_one_distribution_is_rejected_no_more_often_than_promised() -> None:
    found = [
        [test(drawn(2 * seed, rows=60), drawn(2 * seed + 1, rows=60)).p for test in (quick_mmd, classifier_test)]
        for seed in range(40)
    ]
    rejected = (np.array(found) < 0.1).sum(axis=0)
    assert (rejected <= 9).all()  # of 40, four are expected; more than nine come once in two hundred times
    assert 0.35 < np.mean([mmd_p for mmd_p, _ in found]) < 0.65


@pytest.mark.parametrize("test", [mmd, classifier_test])
def test_a_shift_is_found(test) -> None:
    assert test(drawn(1), drawn(2, 0.8)).p < 0.01


def test_the_same_seed_gives_the_same_figures() -> None:
    assert mmd(drawn(1), drawn(2), seed=3) == mmd(drawn(1), drawn(2), seed=3)
    assert classifier_test(drawn(1), drawn(2), seed=3) == classifier_test(drawn(1), drawn(2), seed=3)


def test_far_vectors_are_those_beyond_the_baselines_own() -> None:
    baseline = drawn(1, rows=500)
    assert far_share(baseline, drawn(2, rows=500))[0] < 0.05
    assert far_share(baseline, 10 + drawn(2, rows=500))[0] == 1
    assert far_share(baseline, baseline)[0] <= 0.01
