"""Any valid item gets a finite unit vector, however odd; an invalid one is an error that names its position."""

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lakebed import Encoder
from lakebed.platform.encoder.library import TruncationWarning
from lakebed.platform.errors import InvalidItemError
from lakebed.platform.items import Item

few = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def library(encoder):
    """The packaged model, as a user has it."""
    return Encoder(encoder)


def _is_unit(vectors):
    return bool(np.isfinite(vectors).all() and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5))


def _noise(*shape):
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 511, 512, 513, 1_000_000])
def test_a_series_of_any_length_is_embedded(library, length):
    assert _is_unit(library.encode([_noise(length), _noise(2, length), np.zeros(length), np.arange(length)]))


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-30, 1e30, 1e300, sys.float_info.max])
def test_a_series_of_any_magnitude_is_embedded(library, scale):
    wave = np.sin(np.arange(100))
    alternating = np.where(np.arange(50) % 2, scale, -scale)
    assert _is_unit(library.encode([wave * scale, wave + scale, [scale], [-scale], [0, scale], alternating]))


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.5, 1e-30, 1e30, 1.7e9 + 0.1])
def test_a_constant_series_is_embedded_and_its_level_is_kept(library, value):
    vectors = library.encode([np.full(200, value), np.full((3, 7), value), np.full(200, 42.0)])
    assert _is_unit(vectors)
    assert vectors[0] @ vectors[2] < 0.999


@pytest.mark.parametrize("channels", [1, 2, 63, 512])
def test_any_number_of_channels_is_embedded(library, channels):
    assert _is_unit(library.encode([_noise(channels, 40), np.zeros((channels, 1)), np.ones((channels, 600))]))


@few
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.integers(1, 40)),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_any_finite_numbers_are_embedded(library, values):
    assert _is_unit(library.encode([values]))


@few
@given(st.text(st.characters(exclude_categories=["Cs"])), st.characters(categories=["L", "N", "P", "S"]))
def test_any_valid_text_is_embedded(library, text, visible):
    assert _is_unit(library.encode([text + visible]))


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "\x00a",
        "\ufeffa",
        "\u200ba\u200d",
        "\uffff\U0010ffff",
        "e" + "\u0301" * 500,
        "👩‍👩‍👧‍👦" * 30,
        "\u202eabc\u202c",
        "שלום עולם",
        "\ue000\uf8ff",
        "ﷺ" * 100,
        "[CLS] [SEP] [PAD] [MASK] [UNK]",
        "\r\n\t.\x0b",
        "x" * 100_000,
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_unusual_unicode_is_embedded(library, text):
    assert _is_unit(library.encode_with_counts([text]).vectors)


def test_words_that_name_special_tokens_do_not_blank_out_a_text(library):
    plain, with_names = library.encode(["the pump leaks", "the pump leaks [PAD] [PAD]"])
    assert plain @ with_names > 0.5


@pytest.mark.parametrize("text", ["word " * 20_000, "漢" * 100_000, ". " * 50_000])
def test_a_text_of_100_000_characters_is_cut_and_that_is_reported(library, text):
    with pytest.warns(TruncationWarning, match="1 of 2 items"):
        vectors = library.encode([text, "short"])
    assert _is_unit(vectors)


def test_the_report_says_how_many_tokens_were_cut(library):
    counted = library.encode_with_counts(["word " * 20_000, "short", np.ones(9)])
    assert counted.item_truncated.tolist() == [20_000 + 2 - 256, 0, 0]
    assert counted.item_tokens.tolist() == [256, 3, 0]
    assert counted.item_samples.tolist() == [0, 0, 9]


@pytest.mark.parametrize("text", ["", " ", "\n\t\u2003"])
def test_a_text_of_nothing_is_an_error_unless_there_is_a_series(library, text):
    with pytest.raises(InvalidItemError, match="item 1: text is empty"):
        library.encode(["good", text])
    wave = np.sin(np.arange(50) / 4)
    beside, without = library.encode([{"text": text, "time_series": wave}, wave])
    assert beside @ without >= 0.9999


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([[1.0, float("nan")]], "nan at channel 0, sample 1"),
        (np.array([[1.0, 2.0], [3.0, -np.inf]]), "-inf at channel 1, sample 1"),
        (np.array([[1.0, 2.0], [np.inf, 0]], np.float16), "inf at channel 1, sample 0"),
        ([[1, 2], [3]], "channel 0 has 2 samples, channel 1 has 1"),
        ([[1, 2], []], "channel 0 has 2 samples, channel 1 has 0"),
        ([[], []], "channels without samples"),
        ([], "no channels"),
        (np.empty((3, 0)), "channels without samples"),
        (np.empty((0, 3)), "no channels"),
        ("\ud83d", "lone surrogate at character 0"),
        ("text \udc00", "lone surrogate at character 5"),
        (None, "needs text, a time series, or both"),
        ([[1, "2"]], "channel 0, sample 1 is a str"),
        (np.longdouble("1e4000"), "must be a list of channels"),
        (np.array([np.longdouble("1e4000")]), "inf at channel 0, sample 0"),
    ],
    ids=ascii,
)
def test_what_cannot_be_embedded_names_item_and_position(library, bad, says):
    with pytest.raises(InvalidItemError, match=f"item 2: .*{says}") as caught:
        library.encode(["good", [[1.0, 2.0]], bad, "good"])
    assert caught.value.position == 2


@pytest.mark.parametrize("shape", [(1, 1_000_000), (8, 1_000_000), (512, 20_000)], ids=str)
def test_memory_stays_a_few_times_that_of_the_series(library, shape):
    series = np.ones(shape, np.float32)
    series[:, ::7] = 2
    library.encode([series[:1, :600]])  # what is compiled or imported once does not count
    tracemalloc.start()
    vectors = library.encode([series])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert _is_unit(vectors)
    assert peak < 8 * series.size * 8


def test_many_large_series_take_no_more_memory_than_a_few(library):
    def peak(count):
        tracemalloc.start()
        library.encode(np.full((2, 300_000), place, np.float32) for place in range(count))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(60) < 1.2 * peak(20)


def test_an_item_made_by_hand_is_held_to_the_same_rules():
    with pytest.raises(InvalidItemError, match="lone surrogate"):
        Item.of("\ud800")
