"""Series columns as tools write them to Parquet: tensors of Arrow and of Ray, fixed-size lists with nulls."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakebed.platform.config.storage import TableConfig
from lakebed.platform.lake.fragments import read_all
from lakebed.platform.lake.tables import open_table

ROWS = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [1, 1, 1]]]
FLAT = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 1, 1, 1]]


def read(folder: Path, column: pa.Array) -> pa.Table:
    pq.write_table(pa.table({"id": range(len(column)), "s": column}), folder / "t.parquet")
    return read_all(open_table(TableConfig(uri=str(folder / "t.parquet"))))


def tensors(rows: list[Any], shape: tuple[int, ...], order: list[int] | None = None) -> pa.Array:
    kind = pa.fixed_shape_tensor(pa.float32(), shape, permutation=order)
    return pa.ExtensionArray.from_storage(kind, pa.array(rows, pa.list_(pa.float32(), 6)))


def test_a_fixed_shape_tensor_is_read_as_lists_of_channels(tmp_path: Path) -> None:
    table = read(tmp_path, tensors(FLAT, (2, 3)))
    assert table["s"].to_pylist() == ROWS
    assert table["s"].type == pa.list_(pa.list_(pa.float32(), 3), 2)


def test_a_permuted_tensor_is_read_as_it_is_meant(tmp_path: Path) -> None:
    table = read(tmp_path, tensors([*FLAT, None], (2, 3), [1, 0]))
    assert table["s"].to_pylist() == [[[1, 4], [2, 5], [3, 6]], [[7, 1], [8, 1], [9, 1]], None]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.list_(pa.float32(), 3), 2),
        pa.list_(pa.list_(pa.float16(), 3)),
        pa.list_(pa.list_(pa.int8(), 3)),
    ],
)
def test_a_null_among_fixed_size_lists_costs_no_other_row(tmp_path: Path, kind: pa.DataType) -> None:
    rows = [ROWS[0], None, ROWS[1], [[1, 2, 3], None]]
    assert read(tmp_path, pa.array(rows, kind))["s"].to_pylist() == rows


def test_other_columns_keep_their_types_beside_a_fixed_size_list(tmp_path: Path) -> None:
    table = pa.table(
        {
            "s": pa.array([[1, 2], None], pa.list_(pa.float32(), 2)),
            "at": pa.array([1, 2], pa.timestamp("us", "Europe/Berlin")),
            "for": pa.array([1, 2], pa.duration("s")),
            "u": pa.array([1, 2], pa.uint8()),
            "word": pa.array(["a", "b"], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_all(open_table(TableConfig(uri=str(tmp_path / "t.parquet")))).equals(table)


READ = """
import sys, {imported}
from lakebed.platform.config.storage import TableConfig
from lakebed.platform.lake.fragments import read_all
from lakebed.platform.lake.tables import open_table
table = read_all(open_table(TableConfig(uri=sys.argv[1])))
print(table.column_names, table["fixed"].to_pylist(), table["ragged"].to_pylist())
"""


@pytest.mark.parametrize("imported", ["pyarrow", "ray.data"])
def test_tensors_of_ray_are_read_the_same_with_and_without_ray(tmp_path: Path, imported: str) -> None:
    from ray.data._internal.tensor_extensions.arrow import ArrowTensorArray, ArrowVariableShapedTensorArray

    ragged = [np.ones((2, 3)), np.zeros((1, 2))]
    table = pa.table(
        {
            "fixed": ArrowTensorArray.from_numpy(np.array(ROWS, np.float32)),
            "ragged": ArrowVariableShapedTensorArray.from_numpy(ragged),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    command = [sys.executable, "-c", READ.format(imported=imported), str(tmp_path / "t.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = [[[float(value) for value in channel] for channel in row] for row in ROWS]
    assert done.stdout.strip() == f"['fixed', 'ragged'] {expected} {[row.tolist() for row in ragged]}"
