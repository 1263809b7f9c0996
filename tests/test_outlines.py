"""Short curves: what is said of them is true of them."""

import numpy as np
import pytest

from lakebed.platform.outlines import outlined_series

PAIRS = outlined_series(400, seed=5)


def _with(statement):
    return [pair.series[0] for pair in PAIRS if pair.attributes[statement] == "yes"]


def _third(curve, place):
    return np.array_split(curve, 3)[place]


def test_the_same_seed_gives_the_same_curves_and_words():
    again = outlined_series(400, seed=5)
    assert [pair.caption for pair in again] == [pair.caption for pair in PAIRS]
    assert all(np.array_equal(one.series, other.series) for one, other in zip(again, PAIRS, strict=True))


def test_only_what_is_true_is_said():
    assert all(pair.attributes[name] == "yes" for pair in PAIRS for name in pair.stated - {"which"})
    assert all(2 <= len(pair.stated) <= 3 for pair in PAIRS)  # `which`, and one or two statements
    assert len({pair.caption for pair in PAIRS}) > 250


@pytest.mark.parametrize(("part", "place"), [("beginning", 0), ("middle", 1), ("end", 2)])
def test_parts_rise_fall_peak_and_dip_where_they_are_said_to(part, place):
    for curve in _with(f"rises @ {part}"):
        piece = _third(curve, place)
        assert np.corrcoef(piece, np.arange(len(piece)))[0, 1] > 0
    for curve in _with(f"peaks @ {part}"):
        assert curve.argmax() * 3 // len(curve) == place
    for curve in _with(f"dips @ {part}"):
        assert curve.argmin() * 3 // len(curve) == place
    assert len(_with(f"is flat @ {part}")) > 5


def test_the_whole_ends_where_it_is_said_to():
    for curve in _with("ends higher"):
        assert curve[-3:].mean() > curve[:2].min()
    for curve in _with("rises, then falls"):
        assert _third(curve, 1).mean() > curve[0]
