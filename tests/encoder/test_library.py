"""`from lakebed import Encoder`: whatever holds the items, same vectors in order; what was cut is said."""

import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed import Encoder
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.library import TruncationWarning
from lakebed.platform.encoder.plan import Window, windows
from lakebed.platform.encoder.protocol import encode_windows, joined
from lakebed.platform.errors import ArtifactError, ColumnNotFoundError, ConfigError, InvalidItemError, TableError
from lakebed.platform.items import Item, items_of, table_of

FAKE = Encoder.load("fake:16")
TEXTS = ["a pump", "a valve", "a fan"]
SERIES = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0, 7.0], [8.0, 9.0, 0.5]], [[1.5], [2.5]]]
OF_TEXTS, OF_SERIES = FAKE.encode(TEXTS), FAKE.encode(SERIES)
OF_BOTH = FAKE.encode([{"text": t, "time_series": s} for t, s in zip(TEXTS, SERIES, strict=True)])
CHANNELS = {"x": [rows[0] for rows in SERIES], "y": [rows[1] for rows in SERIES]}
NESTED = pa.array(SERIES)


def test_the_package_is_light_until_the_encoder_is_asked_for():
    code = "import sys, lakebed; assert 'torch' not in sys.modules; lakebed.Encoder; lakebed.TruncationWarning"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "texts",
    [
        tuple(TEXTS),
        iter(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        pd.Series(TEXTS),
        pd.DataFrame({"text": TEXTS}, index=["x", "y", "z"]),
        pd.DataFrame({"anything": TEXTS}, index=["x", "y", "z"]),
        pl.Series(TEXTS),
        pl.DataFrame({"id": [1, 2, 3], "text": TEXTS}),
        pl.DataFrame({"text": pl.Series(TEXTS, dtype=pl.Categorical)}),
        pa.array(TEXTS),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
        pa.record_batch({"text": TEXTS, "label": ["p", "v", "f"]}),
        pa.table({"text": TEXTS}).to_reader(max_chunksize=2),
        pa.table({"text": pa.array(TEXTS).dictionary_encode()}),
    ],
    ids=lambda values: type(values).__name__,
)
def test_texts_are_taken_in_whatever_holds_them(texts):
    assert np.array_equal(FAKE.encode(texts), OF_TEXTS)


@pytest.mark.parametrize(
    "series",
    [
        [np.array(rows) for rows in SERIES],
        NESTED,
        pa.table({"time_series": NESTED, "label": TEXTS}),
        pa.table({"series": NESTED.cast(pa.large_list(pa.large_list(pa.float32())))}),
        pa.table({"only": NESTED}).slice(0),
        pa.table({"z": [[[0.0]], *SERIES]}).slice(1),
        pa.table({name: pa.array(rows) for name, rows in CHANNELS.items()}),
        pl.DataFrame({"time_series": SERIES}),
        pl.DataFrame(CHANNELS),
        pd.DataFrame({"time_series": SERIES}),
        pd.DataFrame(CHANNELS),
    ],
    ids=lambda values: type(values).__name__,
)
def test_series_are_taken_in_whatever_holds_them(series):
    assert np.array_equal(FAKE.encode(series), OF_SERIES)


@pytest.mark.parametrize("permutation", [None, [1, 0]])
def test_tensors_of_one_shape_are_series(permutation):
    values = np.arange(24.0).reshape(4, 2, 3)
    stored = values if permutation is None else values.transpose(0, 2, 1)
    kind = pa.fixed_shape_tensor(pa.float64(), stored.shape[1:], permutation=permutation)
    storage = pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(stored).ravel(), 6)
    table = pa.table({"series": pa.ExtensionArray.from_storage(kind, storage)})
    assert np.array_equal(FAKE.encode(table), FAKE.encode(values))
    assert np.array_equal(FAKE.encode(table.slice(1, 2)), FAKE.encode(values[1:3]))


def test_a_table_of_item_fields_gives_its_items():
    items = [
        Item.of("a"),
        Item.of(series=[[1, 2], [3, 4]], channel_names=["x", "y"], sampling_rate=50),
        Item.of("b", [5]),
    ]
    assert np.array_equal(FAKE.encode(table_of(items)), FAKE.encode(items))


def test_columns_can_be_named_as_in_a_job():
    table = pa.table({"title": TEXTS, "wave": NESTED, **{name: pa.array(rows) for name, rows in CHANNELS.items()}})
    assert np.array_equal(FAKE.encode(table, columns={"text": "title", "series": "wave"}), OF_BOTH)
    assert np.array_equal(FAKE.encode(table, columns={"text": "title", "channels": ["x", "y"]}), OF_BOTH)
    assert np.array_equal(FAKE.encode(table, columns={"text": "title"}), OF_TEXTS)


@pytest.mark.parametrize(
    ("values", "columns", "error", "says"),
    [
        ("one text", None, ConfigError, r"not one str .write encode\(\[item\]\)"),
        ({"text": "a"}, None, ConfigError, "not one dict"),
        (np.ones(9), None, ConfigError, r"write encode\(\[series\]\)"),
        (7, None, ConfigError, "must be a list, an array or a table, not int"),
        (TEXTS, {"text": "title"}, ConfigError, "only a table has columns"),
        (pa.array(TEXTS), {"text": "title"}, ConfigError, "only a table has columns"),
        (pa.array([1, 2]), None, ConfigError, "a column of int64 holds no items"),
        (pa.table({"a": TEXTS, "b": TEXTS}), None, ConfigError, "no column is named `text`"),
        (
            pa.table({"text": TEXTS, "wave": NESTED}),
            None,
            ConfigError,
            "besides `text` there are lists of numbers",
        ),
        (
            pa.table({"series": NESTED, "time_series": NESTED}),
            None,
            ConfigError,
            "two columns are named for series",
        ),
        (pa.table({"text": [1, 2]}), None, TableError, "column 'text' holds int64, not text"),
        (pa.table({"text": TEXTS}), {"text": "title"}, ColumnNotFoundError, "no column 'title'"),
        (pa.table({"text": TEXTS}), {"texts": "text"}, ConfigError, "no such field: 'texts'"),
        (pa.table({"text": TEXTS}), {}, ConfigError, "nothing to embed"),
        (pd.DataFrame({"time_series": [np.ones((2, 2))] * 2}), None, ConfigError, r"frame\[column\].tolist"),
    ],
)
def test_what_is_no_collection_of_items_is_refused(values, columns, error, says):
    with pytest.raises(error, match=says):
        FAKE.encode(values, columns=columns)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (pa.table({"text": ["a", "b", "c", None]}), "null"),
        (pa.table({"text": ["a", "b", "c", ""]}), "empty_text"),
        (pa.table({"series": [*SERIES, [[1.0], [2.0, 3.0]]]}), "ragged"),
        (pa.table({"series": [*SERIES, [[1.0, None]]]}), "non_finite"),
        (pa.table({"series": [*SERIES, [[1.0], None]]}), "null_channel"),
        (pa.table({"series": [*SERIES, []]}), "empty_series"),
        (pa.table({"x": [[1.0]] * 4, "y": [[1.0]] * 3 + [None]}), "null_channel"),
        (iter([*TEXTS, {"time_series": [[]]}]), "empty_series"),
    ],
)
def test_a_bad_row_is_named_by_its_position(values, code):
    with pytest.raises(InvalidItemError, match="item 3: ") as caught:
        FAKE.encode(values)
    assert (caught.value.position, caught.value.code) == (3, code)


def test_a_bad_item_is_found_before_any_work():
    class Working(FakeEncoder):
        def forward(self, work):
            raise AssertionError("work was done")

    values = [np.ones(100_000)] * 60 + [[float("nan")]]
    with pytest.raises(InvalidItemError, match="item 60"):
        Encoder(Working()).encode(values)


def test_what_was_cut_is_warned_of_once_and_counted_per_item():
    texts = ["word " * 300, "short", "word " * 1000]
    with pytest.warns(
        TruncationWarning, match=r"2 of 3 items .* 788 tokens were cut, most of item 2 .744."
    ) as caught:
        vectors = FAKE.encode(texts)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    counted = FAKE.encode_with_counts(texts)
    assert np.array_equal(counted.vectors, vectors)
    assert counted.item_truncated.tolist() == [44, 0, 744]
    assert (counted.item_tokens.tolist(), counted.truncated) == ([256, 1, 256], 788)


def test_nothing_is_warned_of_when_nothing_was_cut():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert FAKE.encode(["word " * 256]).shape == (1, 16)


def test_no_items_give_no_vectors():
    assert FAKE.encode([], dimensions=4).shape == (0, 4)
    assert FAKE.encode(iter([])).shape == (0, 16)
    assert FAKE.encode(pa.table({"text": pa.array([], pa.string())})).shape == (0, 16)


def test_progress_is_shown_on_standard_error(capsys):
    FAKE.encode(TEXTS * 50, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "encoding" in shown.err
    assert "100%" in shown.err


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 9), st.integers(1, 90))
def test_windows_hold_every_item_in_order_within_bounds(sizes, rows, size):
    parts = list(windows(sizes, int, Window(rows, size)))
    assert [item for part in parts for item in part] == sizes
    assert all(part and len(part) <= rows and (len(part) == 1 or sum(part) <= size) for part in parts)


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match="must be positive"):
        Window(rows=0)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(1, 7))
def test_windows_do_not_change_vectors_or_their_order(lengths, rows):
    items = [Item.of(f"{length} " * length) for length in lengths]
    parts = encode_windows(FakeEncoder(8), items, window=Window(rows=rows))
    encoded = joined(parts, FakeEncoder(8).info)
    assert np.array_equal(encoded.vectors, Encoder(FakeEncoder(8)).encode_with_counts(items).vectors)
    assert encoded.item_tokens.tolist() == [min(length, 256) for length in lengths]


def test_memory_does_not_grow_with_what_is_handed_in():
    def peak(count: int) -> int:
        series: Iterator[np.ndarray] = (np.full(20_000, float(place), np.float32) for place in range(count))
        tracemalloc.start()
        FAKE.encode(series)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(2000) < 1.3 * peak(500)


def test_an_encoder_that_returns_another_shape_is_refused():
    class Broadcasting(FakeEncoder):
        def forward(self, work):
            return super().forward(work)[:1]

    with pytest.raises(ArtifactError, match=r"vectors of shape \(1, 32\), not \(3, 32\)"):
        Encoder(Broadcasting()).encode(TEXTS)


def test_a_registered_version_is_asked_of_the_registry(mlflow_database, monkeypatch):
    from lakebed.platform.encoder.load import packaged_model
    from lakebed.platform.registry import Registry

    monkeypatch.setenv("LAKEBED_TRACKING_URI", mlflow_database)
    version = Registry(mlflow_database).register(packaged_model(), "mine", alias="candidate")
    encoder = Encoder.load("mine@candidate", device="cpu")
    assert (encoder.info.name, encoder.info.digest) == ("mine", version.digest)
    assert encoder.model.version == version.version


def test_items_that_are_items_already_are_taken():
    assert np.array_equal(FAKE.encode(items_of(TEXTS)), OF_TEXTS)
