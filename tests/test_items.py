"""Items: what is accepted, what is refused and how it is said, and when two items have the same content."""

from array import array

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lakebed.platform.errors import InvalidItemError
from lakebed.platform.items import ITEM_SCHEMA, Item, item_of, items_of, table_of


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        ("", "empty_text", "text is empty"),
        (" \n\t ", "empty_text", "text is empty"),
        ("\ud800", "text_encoding", "lone surrogate at character 0"),
        ({}, "empty_item", "needs text, a time series, or both"),
        ({"text": None, "time_series": None}, "empty_item", "needs text"),
        ({"text": 3}, "text_type", "must be a string, not int"),
        ({"texts": "a"}, "unknown_field", "unknown item field 'texts'"),
        ({"time_series": []}, "empty_series", "no channels"),
        ({"time_series": [[]]}, "empty_series", "without samples"),
        ({"time_series": [[1, 2], [3]]}, "ragged", "channel 0 has 2 samples, channel 1 has 1"),
        ({"time_series": [[1, float("nan")]]}, "non_finite", "channel 0, sample 1"),
        ({"time_series": [[1, 2], [float("-inf"), 2]]}, "non_finite", "-inf at channel 1, sample 0"),
        ({"time_series": [[1, None]]}, "series_type", "only numbers, but channel 0, sample 1 is null"),
        ({"time_series": [[1], ["1.5"]]}, "series_type", "channel 1, sample 0 is a str"),
        ({"time_series": [[10**400]]}, "series_type", "that fit float64"),
        ({"time_series": [1, [2]]}, "series_shape", "mixes channels and bare numbers"),
        ({"time_series": [[1, [2]]]}, "series_shape", "channel 0, sample 1 is itself a list"),
        ({"time_series": [[[1]]]}, "series_shape", "channel 0, sample 0 is itself a list"),
        ({"time_series": np.ones((1, 1, 1))}, "series_shape", "not 3-dimensional"),
        ({"time_series": [np.ones((2, 3)), np.ones((2, 4))]}, "series_shape", "not 3-dimensional"),
        ({"time_series": [[1, True]]}, "series_type", "channel 0, sample 1 is a bool"),
        ({"time_series": [1, 2, True]}, "series_type", "but sample 2 is a bool"),
        ({"time_series": [[1, 2j]]}, "series_type", "channel 0, sample 1 is a complex"),
        ({"time_series": [b"abc"]}, "series_type", "sample 0 is a bytes"),
        ({"time_series": np.array([[True]])}, "series_type", "not bool"),
        ({"time_series": np.array([[1j]])}, "series_type", "not complex128"),
        ({"time_series": np.array([["1"]])}, "series_type", "not <U1"),
        ({"time_series": np.array([1.0, None])}, "series_type", "sample 1 is null"),
        ({"time_series": np.array(["2020-01-01"], "M8[s]")}, "series_type", "not datetime64"),
        ({"time_series": [np.ones(2), np.array(["1", "2"])]}, "series_type", "not <U1"),
        ({"time_series": np.ma.array([1.0, 2], mask=[0, 1])}, "non_finite", "masked samples"),
        ({"time_series": pd.DataFrame({"x": [1.0], "y": [2.0]})}, "series_shape", "frame.to_numpy"),
        ({"time_series": 3.5}, "series_type", "one series alone is a list of one item"),
        ({"time_series": [[1]], "sampling_rate": "50"}, "sampling_rate", "not '50'"),
        ({"time_series": [[1], [2]], "channel_names": "xy"}, "channel_names", "not str"),
        ({"time_series": [[1], [2]], "channel_names": False}, "channel_names", "not bool"),
        ({"time_series": [[1], [2]], "channel_names": {"x": 1, "y": 2}}, "channel_names", "not dict"),
        ({"text": "", "time_series": None}, "empty_text", "text is empty"),
        ({"time_series": "12"}, "series_type", "not str"),
        ({"time_series": [[1]], "sampling_rate": 0}, "sampling_rate", "positive number of Hz"),
        ({"time_series": [[1]], "channel_names": ["x", "y"]}, "channel_names", "2 channel names for 1 channels"),
        ({"text": "a", "channel_names": ["x"]}, "channel_names", "for 0 channels"),
    ],
)
def test_a_bad_item_is_refused_with_its_reason(value, code, says):
    with pytest.raises(InvalidItemError, match=says) as caught:
        item_of(value)
    assert caught.value.code == code


def test_many_items_name_the_position_of_the_bad_one():
    with pytest.raises(InvalidItemError, match="item 1: text is empty") as caught:
        items_of(["good", "", "good"])
    assert (caught.value.position, caught.value.code) == (1, "empty_text")


@pytest.mark.parametrize(
    "series",
    [
        ([1, 2], [3, 4]),
        [(1, 2.0), [np.float32(3), np.int64(4)]],
        [range(1, 3), array("d", [3, 4])],
        np.array([[1, 2], [3, 4]], np.float16),
        np.array([[1, 2], [3, 4]], np.uint8),
        np.array([[1, 3], [2, 4]], np.float32).T,
        np.ma.array([[1, 2], [3, 4]], mask=False),
        torch.tensor([[1, 2], [3, 4]]),
        [torch.tensor([1.0, 2.0]), pd.Series([3, 4])],
        pd.Series([[1, 2], np.array([3, 4])]),
        pa.array([[1, 2], [3, 4]]),
    ],
    ids=lambda series: type(series).__name__,
)
def test_a_series_is_taken_in_whatever_holds_its_numbers(series):
    assert item_of(series).content_key() == Item.of(series=[[1, 2], [3, 4]]).content_key()


def test_a_blank_text_beside_a_series_is_no_text():
    item = item_of({"text": " ", "time_series": [[1.0]]})
    assert item.text is None
    assert item.content_key() == Item.of(series=[[1.0]]).content_key()


@pytest.mark.parametrize("text", ["", " \t\n", "\u200b", "\ufeff\u200d", "\0", "\u0301", "\u00a0\u2028"])
def test_a_text_that_shows_nothing_is_empty(text):
    with pytest.raises(InvalidItemError, match="text is empty"):
        item_of(text)


@pytest.mark.parametrize("text", ["\u200ba", "🙂", "e\u0301", "."])
def test_a_text_that_shows_anything_is_taken(text):
    assert item_of(text).text == text


def test_a_tensor_that_gives_no_array_is_refused():
    with pytest.raises(InvalidItemError, match="is a Tensor that gives no array"):
        item_of(torch.ones(2, requires_grad=True))


def test_a_float64_array_is_not_copied():
    values = np.ones((2, 1000))
    assert np.shares_memory(Item.of(series=values).series, values)


def test_a_flat_sequence_is_one_channel():
    assert item_of([1, 2, 3]).series.shape == (1, 3)
    assert item_of({"time_series": [1, 2, 3]}).content_key() == item_of([[1, 2, 3]]).content_key()


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(-1e6, 1e6, width=32)
    )
)
def test_the_key_depends_on_values_and_not_on_how_they_are_stored(values):
    key = Item.of(series=values).content_key()
    assert Item.of(series=values.astype(np.float64)).content_key() == key
    assert Item.of(series=values.tolist()).content_key() == key
    assert Item.of(series=np.asfortranarray(values)).content_key() == key
    assert Item.of(series=np.where(values == 0, -0.0, values)).content_key() == key


def test_different_content_has_different_keys():
    items = [
        Item.of("a"),
        Item.of("b"),
        Item.of(series=[[1, 2], [3, 4]]),
        Item.of(series=[[1, 2, 3, 4]]),
        Item.of(series=[[1, 2], [4, 3]]),
        Item.of("a", [[1, 2], [3, 4]]),
        Item.of(series=[[1, 2], [3, 4]], channel_names=["x", "y"]),
        Item.of(series=[[1, 2], [3, 4]], channel_names=["x\x1fy", "z"]),
        Item.of(series=[[1, 2], [3, 4]], channel_names=["x", "y\x1fz"]),
        Item.of(series=[[1, 2], [3, 4]], sampling_rate=50),
    ]
    assert len({item.content_key() for item in items}) == len(items)


def test_the_key_of_a_known_item_never_changes():
    """Stored tables depend on it: a change here is a new key version and a migration."""
    assert Item.of("pump", [[1, 2], [3, 4.5]], ["x", "y"], 50).content_key() == "dd5270af017299ff9151f8aba19b2ef6"


def test_items_survive_arrow():
    items = [Item.of("a"), Item.of(series=[[1, 2], [3, 4]]), Item.of("b", [[5]], ["x"], 10.0)]
    table = table_of(items)
    assert table.schema == ITEM_SCHEMA
    again = items_of(table.to_pylist())
    assert [item.content_key() for item in again] == [item.content_key() for item in items]
