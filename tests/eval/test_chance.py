"""Chance levels against counting every possibility, and against drawing."""

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import f1_score, ndcg_score

from lakebed.eval import chance


def test_hit_rate_counts_every_order() -> None:
    """Of the 10 pairs that 5 answers make, 7 hold one of two right ones and 4 the only right one."""
    assert chance.hit_rate(np.array([2, 1]), 5, 2) == pytest.approx((0.7 + 0.4) / 2)
    assert chance.hit_rate(np.array([1]), 5, 10) == 1


def test_macro_f1_is_the_mean_over_all_guesses() -> None:
    labels = np.array(["a", "a", "a", "b", "c"])
    shares = {"a": 0.6, "b": 0.2, "c": 0.2}
    expected = sum(
        float(np.prod([shares[guess] for guess in guesses])) * f1_score(labels, guesses, average="macro")
        for guesses in product("abc", repeat=5)
    )
    assert chance.macro_f1_by_shares(labels) == pytest.approx(expected)
    assert chance.accuracy_by_shares(labels) == pytest.approx(0.6**2 + 2 * 0.2**2)


def test_ndcg_is_the_mean_over_random_orders() -> None:
    generator = np.random.default_rng(0)
    grades = generator.random((1, 12))
    drawn = [ndcg_score(grades, generator.random((1, 12)), k=10) for _ in range(3000)]
    assert chance.ndcg(grades, 10)[0] == pytest.approx(np.mean(drawn), abs=0.01)
    assert chance.ndcg(np.zeros((1, 3)), 10).tolist() == [0]
