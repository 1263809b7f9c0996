"""Tests over data sets against scipy, aeon and cases computed by hand."""

import numpy as np
import pytest
from aeon.benchmarking.stats import check_friedman
from scipy import stats
from scipy.stats import rankdata

from lakebed.eval import across_datasets as across

SCORES = np.array(
    [[0.8, 0.85, 0.9], [0.7, 0.7, 0.75], [0.6, 0.66, 0.7], [0.9, 0.88, 0.95], [0.5, 0.53, 0.6], [0.65, 0.7, 0.72]]
)


def test_wilcoxon_of_six_gains_is_the_share_of_two_of_all_signs() -> None:
    assert across.wilcoxon_p(np.arange(1, 7) / 100) == pytest.approx(2 / 2**6)


def test_wilcoxon_by_hand_with_one_loss() -> None:
    # Ranks 1 to 5, the smallest negative: W- is 1, reached by 2 of 32 assignments; two-sided 4 of 32.
    assert across.wilcoxon_p(np.array([-0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(4 / 32)


@pytest.mark.parametrize(
    ("differences", "method"),
    [
        ([0.1, 0.1, -0.2, 0.3, 0.0, 0.4], stats.PermutationMethod()),
        ([0.3, -0.1, 0.4, 0.25, 0.5], "exact"),
        (np.linspace(-0.3, 0.71, 20).tolist(), "exact"),
        ([0.1, 0.0, *np.linspace(-0.2, 0.5, 20)], "asymptotic"),
    ],
)
def test_wilcoxon_is_scipys(differences: list[float], method: object) -> None:
    expected = stats.wilcoxon(np.round(differences, 12), zero_method="pratt", method=method).pvalue
    assert across.wilcoxon_p(np.array(differences)) == pytest.approx(expected, abs=1e-9)


def test_wilcoxon_without_any_difference_or_with_one_data_set() -> None:
    assert across.wilcoxon_p(np.zeros(8)) == 1
    assert across.wilcoxon_p(np.array([0.1])) is None


def test_holm_by_hand() -> None:
    adjusted = across.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert across.holm({"a": 0.9, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert across.holm({}) == {}


def test_friedman_is_aeons() -> None:
    assert across.friedman_p(SCORES) == pytest.approx(check_friedman(rankdata(-SCORES, axis=1)), abs=1e-9)
    assert across.friedman_p(SCORES[:, :2]) is None
    assert across.friedman_p(np.ones((4, 3))) is None


def test_pairs_of_models_are_corrected_together() -> None:
    pairs = across.pairwise_p(SCORES)
    raw = {pair: across.wilcoxon_p(SCORES[:, pair[1]] - SCORES[:, pair[0]]) for pair in pairs}
    assert list(pairs) == [(0, 1), (0, 2), (1, 2)]
    assert pairs[0, 2] == pytest.approx(3 * 2 / 2**6)
    assert all(pairs[pair] >= (raw[pair] or 0) for pair in pairs)


def test_mean_ranks_share_ties() -> None:
    assert across.mean_ranks(np.array([[0.9, 0.9, 0.1], [0.5, 0.4, 0.3]])).tolist() == [1.25, 1.75, 3.0]
    assert across.mean_ranks(np.array([[5.0, 1.0]]), lower_is_better=True).tolist() == [2.0, 1.0]


def test_the_diagram_shows_mean_ranks_and_stays_in_no_global_state() -> None:
    from matplotlib import pyplot

    figure = across.critical_difference(SCORES, ["A", "B", "C"])
    shown = {text.get_text() for text in figure.axes[0].texts}
    assert {"A", "B", "C", "1.0000"} <= shown
    assert "w" not in [line.get_color() for line in figure.axes[0].lines]
    assert figure.number not in pyplot.get_fignums()
