"""Every form of `input`, in the order of the contract."""

import json
from typing import Any

import pytest

from lakebed.platform.items import Item
from lakebed.serve.errors import InvalidRequestError
from lakebed.serve.inputs import read_items, read_token_rows

SERIES = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
BOTH = {"text": "a pump", "time_series": SERIES}


def keys(value: Any, **options: Any) -> list[str]:
    return [item.content_key() for item in read_items(value, max_inputs=10, **options)]


def expected(*items: Item) -> list[str]:
    return [item.content_key() for item in items]


TEXT = Item.of("a pump")
PUMP = Item.of("a pump", SERIES)


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("a pump", [TEXT]),
        (["a pump", "a pump"], [TEXT, TEXT]),
        ([BOTH, {"text": "a pump"}], [PUMP, TEXT]),
        (BOTH, [PUMP]),
        (["a pump", BOTH], [TEXT, PUMP]),
        ({"text": "a pump", "time_series": None}, [TEXT]),
        (json.dumps(BOTH), [PUMP]),
        (json.dumps([BOTH, {"text": "a pump"}]), [PUMP, TEXT]),
        (f"  {json.dumps(BOTH)}\n", [PUMP]),
        ([json.dumps(BOTH), "a pump"], [PUMP, TEXT]),
    ],
)
def test_every_form_gives_its_items(value: Any, items: list[Item]) -> None:
    assert keys(value) == expected(*items)


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2, 3]",
        "{}",
        "[]",
        '{"text": null}',
        '{"text": "x", "other": 1}',
        '["a", "b"]',
        "{not json",
        '[{"text": "x"}, 3]',
    ],
)
def test_a_string_that_is_no_native_input_is_a_text(text: str) -> None:
    assert keys(text) == expected(Item.of(text))


def test_a_list_inside_a_list_of_strings_stays_a_text() -> None:
    text = json.dumps([BOTH])
    assert keys([text]) == expected(Item.of(text))


def test_strings_are_not_looked_into_when_told_so() -> None:
    text = json.dumps(BOTH)
    assert keys(text, as_text=True) == expected(Item.of(text))
    assert keys([text], as_text=True) == expected(Item.of(text))


@pytest.mark.parametrize(
    ("value", "code", "position"),
    [
        ([], "empty_input", None),
        (None, "invalid_type", None),
        (True, "invalid_type", None),
        (7, "invalid_type", None),
        ([True], "invalid_type", 0),
        ([[]], "invalid_type", 0),
        (["a", 1], "invalid_type", 1),
        (["a", [1]], "invalid_type", 1),
        (["a", None], "invalid_type", 1),
        ([[0.5]], "invalid_type", 0),
        ("", "empty_text", 0),
        (["a", ""], "empty_text", 1),
        ([{}], "empty_item", 0),
        ([{"text": ""}], "empty_text", 0),
        ([{"text": 5}], "text_type", 0),
        ([{"txt": "a"}], "unknown_field", 0),
        ([{"time_series": [[1.0, 2.0], [3.0]]}], "ragged", 0),
        ([{"time_series": [[1.0, None]]}], "series_type", 0),
        ([{"time_series": "abc"}], "series_type", 0),
        (["a"] * 11, "too_many_inputs", None),
    ],
)
def test_what_cannot_be_embedded_is_named(value: Any, code: str, position: int | None) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_items(value, max_inputs=10)
    assert (caught.value.code, caught.value.position, caught.value.param) == (code, position, "input")


@pytest.mark.parametrize("series", [[], [[]], [[], []]])
def test_series_without_samples_are_refused(series: Any) -> None:
    with pytest.raises(InvalidRequestError, match="input 0"):
        read_items([{"time_series": series}], max_inputs=10)


@pytest.mark.parametrize(
    ("value", "rows"),
    [([1, 2, 3], [[1, 2, 3]]), ([[1, 2], [3]], [[1, 2], [3]]), ([list(range(50))], [list(range(50))])],
)
def test_token_arrays_are_one_or_several(value: Any, rows: list[list[int]]) -> None:
    assert read_token_rows(value, max_inputs=10) == rows


def test_one_long_token_array_is_one_input() -> None:
    assert read_token_rows(list(range(50)), max_inputs=1) == [list(range(50))]


@pytest.mark.parametrize(
    "value", ["a", ["a", 1], [{"text": "a"}], {"text": "a"}, [], [[]], [True], [0.5], [[0.5]], 7]
)
def test_what_begins_with_no_token_is_no_token_array(value: Any) -> None:
    assert read_token_rows(value, max_inputs=10) is None


@pytest.mark.parametrize(
    ("value", "code", "position", "message"),
    [
        ([1, "a"], "invalid_token", 0, "token 1 must be a whole number, not a string"),
        ([1, True], "invalid_token", 0, "token 1 must be a whole number, not a boolean"),
        ([[1, 2], [3, 0.5]], "invalid_token", 1, "token 1 must be a whole number, not a number"),
        ([[1], "a"], "invalid_type", 1, "must be a token array as the first one is, not a string"),
        ([[1], {"text": "a"}], "invalid_type", 1, "not an object"),
        ([[1], []], "empty_input", 1, "the token array is empty"),
        ([[1]] * 11, "too_many_inputs", None, "at most 10"),
    ],
)
def test_a_fault_in_token_arrays_is_named(value: Any, code: str, position: int | None, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        read_token_rows(value, max_inputs=10)
    assert (caught.value.code, caught.value.position, caught.value.param) == (code, position, "input")
