from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lakebed.jobs.rows import ItemOrError, RowMapping, check_columns
from lakebed.platform.config.embed import ColumnsConfig
from lakebed.platform.config.storage import TableConfig
from lakebed.platform.errors import ColumnNotFoundError, InvalidItemError, TableError
from lakebed.platform.items import Item
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.tables import open_table

SERIES = pa.list_(pa.list_(pa.float32()))


def items(columns: dict[str, Any], table: pa.Table) -> list[ItemOrError]:
    return RowMapping(ColumnsConfig(**columns)).items(table)


def codes(found: list[ItemOrError]) -> list[str | None]:
    return [item.code if isinstance(item, InvalidItemError) else None for item in found]


def test_texts_become_items() -> None:
    found = items({"text": "note"}, pa.table({"note": ["a", "b"]}))
    assert [item.text for item in found if isinstance(item, Item)] == ["a", "b"]


@pytest.mark.parametrize(
    "kind",
    [
        SERIES,
        pa.large_list(pa.large_list(pa.float64())),
        pa.list_(pa.list_(pa.int16(), 3)),
        pa.list_(pa.list_(pa.float32(), 3), 2),
    ],
)
def test_lists_of_lists_of_every_kind_become_channels_x_samples(kind: pa.DataType) -> None:
    rows = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [1, 1, 1]]]
    found = items({"series": "s"}, pa.table({"s": pa.array(rows, kind)}).slice(1))
    assert [item.series.tolist() for item in found if isinstance(item, Item) and item.series is not None] == rows[
        1:
    ]


def test_a_flat_list_is_one_channel() -> None:
    (item,) = items({"series": "s"}, pa.table({"s": [[1.0, 2.0]]}))
    assert isinstance(item, Item)
    assert item.series is not None
    assert item.series.shape == (1, 2)


def test_channel_columns_are_stacked_in_the_order_named() -> None:
    table = pa.table({"x": [[1.0, 2.0]], "y": [[3.0, 4.0]]})
    (item,) = items({"channels": ["y", "x"]}, table)
    assert isinstance(item, Item)
    assert item.series is not None
    assert item.series.tolist() == [[3, 4], [1, 2]]


def test_rows_may_differ_in_length_and_channels() -> None:
    rows = [[[1.0]], [[1.0, 2.0], [3.0, 4.0]]]
    found = items({"series": "s"}, pa.table({"s": pa.array(rows, SERIES)}))
    assert codes(found) == [None, None]


def test_every_kind_of_bad_row_is_an_error_in_its_place() -> None:
    rows = [
        [[1.0, 2.0]],
        None,
        [],
        [[]],
        [[1.0, 2.0], [1.0]],
        [[1.0, float("nan")]],
        [[1.0, None]],
        [[1.0], None],
        [[float("inf")]],
    ]
    found = items({"series": "s"}, pa.table({"s": pa.array(rows, SERIES)}))
    assert codes(found) == [
        None, "null", "empty_series", "empty_series", "ragged", "non_finite", "non_finite", "null_channel",
        "non_finite",
    ]  # fmt: skip


def test_bad_channel_columns_are_errors_in_their_place() -> None:
    table = pa.table(
        {
            "x": pa.array([[1.0], [1.0], None, None], pa.list_(pa.float64())),
            "y": pa.array([[2.0], [1.0, 2.0], [1.0], None], pa.list_(pa.float64())),
        }
    )
    assert codes(items({"channels": ["x", "y"]}, table)) == [None, "ragged", "null_channel", "null"]


def test_a_row_with_text_or_series_is_embedded_by_what_it_has() -> None:
    table = pa.table({"note": ["a", None, None], "s": pa.array([[[1.0]], [[1.0]], None], SERIES)})
    found = items({"text": "note", "series": "s"}, table)
    assert codes(found) == [None, None, "null"]


def test_a_batch_that_is_a_slice_reads_its_own_rows() -> None:
    table = pa.table({"s": pa.array([[[float(row)] * 4] for row in range(10)], SERIES)})
    found = items({"series": "s"}, table.slice(6, 2))
    assert [item.series[0, 0] for item in found if isinstance(item, Item) and item.series is not None] == [6, 7]


def test_a_float32_series_has_the_key_of_the_same_values_handed_over_online() -> None:
    values = np.linspace(-1, 1, 7, dtype=np.float32)
    (item,) = items({"series": "s"}, pa.table({"s": pa.array([[values.tolist()]], SERIES)}))
    assert isinstance(item, Item)
    assert item.content_key() == Item.of(series=[values.astype(float).tolist()]).content_key()


def snapshot(folder: Path) -> Snapshot:
    table = pa.table({"id": [1], "note": ["a"], "s": pa.array([[[1.0]]], SERIES), "words": [["a"]]})
    write_deltalake(folder / "t", table)
    return open_table(TableConfig(uri=str(folder / "t")))


def test_columns_of_fitting_types_pass(tmp_path: Path) -> None:
    check_columns(snapshot(tmp_path), ColumnsConfig(text="note", series="s", keys=("id",)))


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"text": "id"}, "column 'id' holds int64, not text"),
        ({"series": "note"}, "column 'note' holds string, not a list of lists of numbers"),
        ({"series": "words"}, "not a list of lists of numbers"),
        ({"channels": ["s"]}, "not a list of numbers"),
    ],
)
def test_a_column_of_another_type_is_named(tmp_path: Path, columns: dict[str, Any], fault: str) -> None:
    with pytest.raises(TableError, match=fault):
        check_columns(snapshot(tmp_path), ColumnsConfig(**columns))


@pytest.mark.parametrize("columns", [{"text": "nope"}, {"text": "note", "keys": ["nope"]}])
def test_an_unknown_column_is_named(tmp_path: Path, columns: dict[str, Any]) -> None:
    with pytest.raises(ColumnNotFoundError, match="no column 'nope'"):
        check_columns(snapshot(tmp_path), ColumnsConfig(**columns))


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.list_(pa.float16())),
        pa.list_(pa.list_(pa.decimal128(8, 2))),
        pa.large_list(pa.list_(pa.uint64())),
        pa.list_view(pa.large_list_view(pa.float32())),
        pa.list_(pa.list_(pa.decimal256(40, 1), 3), 2),
    ],
)
def test_numbers_of_every_kind_become_channels_x_samples(kind: pa.DataType) -> None:
    rows = [[[1, 2, 3], [4, 5, 6]], None, [[7, 8, 9], [1, 1, 1]]]
    found = items({"series": "s"}, pa.table({"s": pa.array(rows, kind)}))
    assert codes(found) == [None, "null", None]
    assert [item.series.tolist() for item in found if isinstance(item, Item) and item.series is not None] == [
        rows[0],
        rows[2],
    ]


def test_series_of_samples_x_channels_are_turned() -> None:
    rows = [[[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], [[1.0, 2.0], [3.0]], None, [[1.0], None]]
    columns = {"series": "s", "series_layout": "samples_first"}
    found = items(columns, pa.table({"s": pa.array(rows, SERIES)}))
    assert isinstance(found[0], Item)
    assert found[0].series is not None
    assert found[0].series.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert codes(found) == [None, "ragged", "null", "null_channel"]
    assert [str(item) for item in found[1:4:2]] == [
        "sample 0 has 2 channels, sample 1 has 1",
        "sample 1 is null",
    ]


def test_a_flat_list_is_one_channel_whatever_the_layout() -> None:
    (item,) = items({"series": "s", "series_layout": "samples_first"}, pa.table({"s": [[1.0, 2.0]]}))
    assert isinstance(item, Item)
    assert item.series is not None
    assert item.series.tolist() == [[1, 2]]
