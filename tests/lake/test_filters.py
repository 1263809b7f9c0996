"""Filters on real Arrow types, and the fragments they leave of real tables."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from lakebed.platform.config.storage import TableConfig
from lakebed.platform.errors import ColumnNotFoundError, ConfigError, LakebedError, TableError
from lakebed.platform.lake.filters import RowFilter
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.pruning import count_rows, pruned, select_rows
from lakebed.platform.lake.storage import delta_options
from lakebed.platform.lake.tables import open_table

DAYS = [np.datetime64(f"2024-01-0{day}", "us") for day in (1, 2, 3, 4)]
TABLE = pa.table(
    {
        "row": [0, 1, 2, 3],
        "s": ["a", "b", None, "it's"],
        "i": pa.array([1, 2, None, 4], pa.int16()),
        "u": pa.array([1, 2, None, 2**63 + 5], pa.uint64()),
        "f": pa.array([0.1, float("nan"), None, 2], pa.float32()),
        "h": pa.array(np.array([0.1, 1, 2, 3], np.float16)),
        "d": pa.array(DAYS).cast(pa.date32()),
        "utc": pa.array(DAYS).cast(pa.timestamp("us", "UTC")),
        "at": pa.array(DAYS).cast(pa.timestamp("ms")),
        "b": [True, False, None, True],
        "p": pa.array([Decimal("1.10"), Decimal("2.20"), None, None], pa.decimal128(5, 2)),
        "list": [[1]] * 4,
        "odd name": [1, 2, 3, 4],
    }
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("s == 'a'", [0]),
        ("s = 'it''s'", [3]),
        ("s != 'a'", [1, 3]),
        ("not s == 'a'", [1, 3]),
        ("s in ('a', 'b')", [0, 1]),
        ("s not in ('a', 'b')", [3]),
        ("not (s in ('a', 'b') or i = 4)", []),
        ("s is null", [2]),
        ("s is not null and i >= 2", [1, 3]),
        ("s like 'i%'", [3]),
        ("2 <= i", [1, 3]),
        ("i > 1.5", [1, 3]),
        ("i between 2 and 4", [1, 3]),
        ("i in (1, 4)", [0, 3]),
        ("u > 9223372036854775807", [3]),
        ("f = 0.1", [0]),
        ("f < 5", [0, 3]),
        ("not (f < 5)", []),
        ("f != 0.1", [1, 3]),
        ("f is nan", [1]),
        ("h = 0.1", [0]),
        ("h in (0.5, 1.0)", [1]),
        ("d >= '2024-01-03'", [2, 3]),
        ("d in ('2024-01-03')", [2]),
        ("utc >= '2024-01-03'", [2, 3]),
        ("utc >= '2024-01-02T23:00:00-01:00'", [2, 3]),
        ("at > '2024-01-01 12:00:00'", [1, 2, 3]),
        ("b = true", [0, 3]),
        ("p = 1.1", [0]),
        ("\"odd name\" < 3 and (s = 'a' or b = false)", [0, 1]),
    ],
)
def test_a_filter_keeps_the_rows_it_describes(text: str, rows: list[int]) -> None:
    assert RowFilter(text).kept(TABLE)["row"].to_pylist() == rows


@pytest.mark.parametrize(
    ("text", "error", "fault"),
    [
        ("", ConfigError, "cannot be read"),
        ("s == north", ConfigError, "cannot be read .*site == 'north'"),
        ("s == 'a' and", ConfigError, "cannot be read"),
        ("__import__('os')", ConfigError, "cannot be read"),
        ("true", ConfigError, "names no column"),
        ("nope = 1", ColumnNotFoundError, "no column 'nope' .columns are row, s"),
        ("i = 'x'", TableError, "column 'i' holds int16, unlike 'x'"),
        ("s = 1", TableError, "column 's' holds string, unlike 1"),
        ("d = 'soon'", TableError, "unlike 'soon' .write '2024-01-31'"),
        ("list = 1", TableError, "holds list"),
        ("u = -1", TableError, "unlike -1"),
        ("b = 1", TableError, "unlike 1"),
        ("i is nan", TableError, "never NaN"),
        ("i = 99999999999999999999999", TableError, "unlike 9999"),
    ],
)
def test_what_is_wrong_with_a_filter_is_one_line(text: str, error: type[LakebedError], fault: str) -> None:
    with pytest.raises(error, match=fault) as raised:
        RowFilter(text).expression(TABLE.schema)
    assert "\n" not in str(raised.value)


def positions(snapshot: Snapshot, text: str) -> list[tuple[str, int, int]]:
    return [
        (fragment.path, start, stop)
        for fragment, ranges in select_rows(snapshot, RowFilter(text))
        for start, stop in ranges
    ]


def test_rows_that_are_left_keep_their_true_positions_in_their_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"k": range(100)}), tmp_path / "a.parquet", row_group_size=10)
    pq.write_table(pa.table({"k": [7, 95, 7]}), tmp_path / "b.parquet")
    snapshot = open_table(TableConfig(uri=str(tmp_path)))
    assert positions(snapshot, "k = 7 or k between 93 and 96") == [
        ("a.parquet", 7, 8),
        ("a.parquet", 93, 97),
        ("b.parquet", 0, 3),
    ]
    assert count_rows(snapshot, RowFilter("k = 7")) == 3


def test_row_groups_that_cannot_match_are_not_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"k": range(100)}), tmp_path / "a.parquet", row_group_size=10)
    snapshot = open_table(TableConfig(uri=str(tmp_path)))
    left = pruned(snapshot, RowFilter("k = 5 or k >= 85")).fragments
    assert [(part.start, part.rows, part.row_groups) for part in left] == [(0, 10, (0,)), (80, 20, (8, 9))]
    assert pruned(snapshot, RowFilter("k < 0")).fragments == ()


def test_delta_files_are_left_out_by_their_partition_and_by_what_the_log_says(place: Callable[[str], str]) -> None:
    for part in range(4):
        rows = pa.table({"k": range(part * 10, part * 10 + 10), "site": [f"site {part % 2}"] * 10})
        write_deltalake(
            place("t"), rows, mode="append", partition_by=["site"], storage_options=delta_options(place("t"))
        )
    snapshot = open_table(TableConfig(uri=place("t")))
    assert len(snapshot.fragments) == 4
    assert len(pruned(snapshot, RowFilter("site = 'site 1'")).fragments) == 2
    assert len(pruned(snapshot, RowFilter("site = 'site 1' and k < 15")).fragments) == 1
    assert [ranges for _, ranges in select_rows(snapshot, RowFilter("k between 12 and 21 and k != 15"))] in (
        [((2, 5), (6, 10)), ((0, 2),)],
        [((0, 2),), ((2, 5), (6, 10))],
    )


def test_times_between_two_milliseconds_are_found_in_delta(tmp_path: Path) -> None:
    at = np.datetime64("2024-01-01T00:00:00.001999", "us")
    write_deltalake(tmp_path / "t", pa.table({"at": pa.array([at], pa.timestamp("us"))}))
    snapshot = open_table(TableConfig(uri=str(tmp_path / "t")))
    assert (
        count_rows(pruned(snapshot, RowFilter("at > '2024-01-01 00:00:00.001500'")), RowFilter("at is not null"))
        == 1
    )


def test_a_file_from_before_a_column_was_added_has_nulls_in_it(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"k": [1, 2]}))
    write_deltalake(tmp_path / "t", pa.table({"k": [3], "note": ["b"]}), mode="append", schema_mode="merge")
    snapshot = open_table(TableConfig(uri=str(tmp_path / "t")))
    assert len(positions(snapshot, "note is null")) == 1
    assert count_rows(pruned(snapshot, RowFilter("note is null")), RowFilter("note is null")) == 2
    assert count_rows(pruned(snapshot, RowFilter("note = 'b'")), RowFilter("note = 'b'")) == 1


def test_files_that_hold_a_column_in_a_narrower_type_are_judged_rightly(tmp_path: Path) -> None:
    pq.write_table(pa.table({"k": pa.array([1, 2], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"k": pa.array([3, 2**40], pa.int64())}), tmp_path / "b.parquet")
    snapshot = open_table(TableConfig(uri=str(tmp_path)))
    assert positions(snapshot, "k >= 2") == [("a.parquet", 1, 2), ("b.parquet", 0, 2)]


NUMBERS = st.one_of(st.none(), st.integers(-3, 3), st.just(float("nan")))
COMPARISONS = st.tuples(
    st.sampled_from(["k", "f"]), st.sampled_from(["<", "<=", "=", "!=", ">=", ">"]), st.integers(-3, 3)
)
TREES = st.recursive(
    st.one_of(
        COMPARISONS.map(lambda part: f"{part[0]} {part[1]} {part[2]}"), st.sampled_from(["k is null", "f is nan"])
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda part: f"({part[0]} {part[1]} {part[2]})"
        ),
        inner.map(lambda part: f"not ({part})"),
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(-3, 3)), NUMBERS), min_size=1, max_size=30), TREES)
def test_pruning_never_loses_a_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int | None, float | None]], text: str
) -> None:
    folder = tmp_path_factory.mktemp("t")
    table = pa.table(
        {"k": pa.array([k for k, _ in rows], pa.int64()), "f": pa.array([f for _, f in rows], pa.float64())}
    )
    pq.write_table(table, folder / "a.parquet", row_group_size=4)
    snapshot, row_filter = open_table(TableConfig(uri=str(folder))), RowFilter(text)
    assert count_rows(pruned(snapshot, row_filter), row_filter) == len(row_filter.kept(table))
