import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lakebed.jobs.rows import RowMapping, check_columns
from lakebed.platform.config.embed import ColumnsConfig
from lakebed.platform.config.storage import TableConfig
from lakebed.platform.errors import ColumnNotFoundError, ConfigError, InvalidItemError, TableError
from lakebed.platform.items import Item
from lakebed.platform.lake.tables import open_table

TABLE = pa.table(
    {
        "site": ["north", None, None],
        "note": ["dry", "wet", None],
        "level": pa.array([1.5, 2.25, None], pa.float32()),
        "count": [3, 4, None],
        "price": pa.array([Decimal("1.10"), None, None], pa.decimal128(6, 2)),
        "day": [datetime.date(2024, 5, 1), None, None],
        "at": pa.array([np.datetime64("2024-05-01T12:00", "us")] * 3, pa.timestamp("us")),
        "s": pa.array([[1.0], [2.0], [3.0]]),
        "{odd}": ["a", "b", "c"],
    }
)


def texts(text: str, **more: Any) -> list[str | None]:
    found = RowMapping(ColumnsConfig(text=text, **more)).items(TABLE)
    return [item.text if isinstance(item, Item) else item.code for item in found]


def test_several_columns_make_a_text_and_a_null_among_them_is_an_error() -> None:
    assert texts("{site}: {note}") == ["north: dry", "null_in_template", "null"]


def test_a_null_may_stand_for_something() -> None:
    assert texts("{site}: {note}", null_text="") == ["north: dry", ": wet", "null"]
    assert texts("{site}: {note}", null_text="?")[1] == "?: wet"


def test_a_row_without_any_of_the_columns_is_embedded_by_its_series() -> None:
    assert texts("{site}: {note}", series="s") == ["north: dry", "null_in_template", None]


def test_numbers_and_dates_are_shown_as_python_shows_them_or_as_a_format_says() -> None:
    assert texts("{level} {count:03d} {price} {day} {at:%H h}")[0] == "1.5 003 1.10 2024-05-01 12 h"
    assert texts("{level:.3f}")[0] == "1.500"


def test_a_float32_shows_its_own_digits() -> None:
    columns = ColumnsConfig(text="{x}")
    (item,) = RowMapping(columns).items(pa.table({"x": pa.array([0.1], pa.float32())}))
    assert isinstance(item, Item)
    assert item.text == "0.1"


def test_a_column_with_braces_in_its_name_is_reached_with_doubled_ones() -> None:
    assert texts("{{odd}}") == ["a", "b", "c"]


def test_the_error_of_a_row_names_the_column() -> None:
    found = RowMapping(ColumnsConfig(text="{site}: {note}")).items(TABLE)
    assert isinstance(found[1], InvalidItemError)
    assert found[1].message == "site is null, and the text is made of it"


@pytest.mark.parametrize(
    ("text", "error", "fault"),
    [
        ("{nope}: {note}", ColumnNotFoundError, "no column 'nope'"),
        ("{s}", TableError, "which cannot stand in a text"),
        ("{note:.2f}", ConfigError, r"\{note:.2f\} does not fit a column of string"),
        ("{count:%Y}", ConfigError, "does not fit a column of int64"),
        ("count", TableError, r"column 'count' holds int64, not text .*write it as \{count\}"),
    ],
)
def test_a_template_that_does_not_fit_the_table_is_found_before_work(
    tmp_path: Path, text: str, error: type[Exception], fault: str
) -> None:
    write_deltalake(tmp_path / "t", TABLE)
    with pytest.raises(error, match=fault):
        check_columns(open_table(TableConfig(uri=str(tmp_path / "t"))), ColumnsConfig(text=text))
