"""Generated pairs: what the caption says is what the series does, and the splits share nothing."""

import re

import numpy as np
import pytest

from lakebed.platform import phrases
from lakebed.platform.captions import caption
from lakebed.platform.synthesis import captioned_series, level_pairs


def _combination(pair):
    kept = ("trend", "cycle", "wave", "event", "where", "noise")
    attributes = dict(pair.attributes)
    if attributes["cycle"] == "none":
        attributes["wave"] = ""
    if attributes["event"] == "none":
        attributes["where"] = ""
    return tuple(attributes[name] for name in kept)


def test_the_same_seed_gives_the_same_pairs():
    first, second = (captioned_series(20, seed=3, split="train") for _ in range(2))
    assert [pair.caption for pair in first] == [pair.caption for pair in second]
    assert all(np.array_equal(a.series, b.series) for a, b in zip(first, second, strict=True))


def test_level_and_spread_are_those_of_the_series():
    for pair in captioned_series(100, seed=0, split="train"):
        spread = float(pair.attributes["spread"])
        assert np.allclose(pair.series.mean(1), float(pair.attributes["level"]), atol=1e-6 * spread)
        assert np.allclose(pair.series.std(1), spread, rtol=1e-6)
        assert len(pair.series) == int(pair.attributes["channels"])


def test_no_attribute_combination_is_in_both_splits():
    train = {_combination(pair) for pair in captioned_series(3000, seed=0, split="train")}
    test = {_combination(pair) for pair in captioned_series(3000, seed=0, split="test")}
    assert len(test) > 50
    assert not train & test


def test_the_splits_share_no_sentence():
    attributes = captioned_series(1, seed=0, split="train")[0].attributes
    generator = np.random.default_rng(0)
    train = {caption(attributes, generator, "train") for _ in range(500)}
    test = {caption(attributes, generator, "test") for _ in range(500)}
    assert len(train) > 100
    assert not train & test


def test_a_rising_series_ends_higher_than_it_began():
    rising = [p for p in captioned_series(400, seed=1, split="train") if p.attributes["trend"] == "rising"]
    plain = [p for p in rising if p.attributes["event"] == "none"]
    assert plain
    for pair in plain:
        eighth = pair.series.shape[1] // 8
        assert pair.series[0, -eighth:].mean() > pair.series[0, :eighth].mean()


@pytest.mark.parametrize("bank", ["TREND", "CYCLE", "WAVE", "NOISE", "EVENT", "WHERE", "CHANNELS"])
def test_the_splits_share_no_phrase(bank):
    words = getattr(phrases, bank)
    for attribute, trained in words["train"].items():
        assert len(trained) >= 8
        assert set(trained).isdisjoint(words["test"][attribute])


def test_level_pairs_differ_in_nothing_but_their_level() -> None:
    for low, high in level_pairs(20, seed=3):
        assert float(high.attributes["level"]) == pytest.approx(10 * float(low.attributes["level"]))
        shift = float(high.attributes["level"]) - float(low.attributes["level"])
        np.testing.assert_allclose(high.series - low.series, shift, rtol=1e-6)
        assert _without_numbers(low.caption) == _without_numbers(high.caption)
        assert high.attributes["level"] in high.caption


def _without_numbers(words):
    return re.sub(r"-?[0-9.]+", "#", words)
