"""The two tables a job writes: vectors, and rows that could not be embedded; their columns and how rows get there.

Pure functions on Arrow tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakebed.jobs.encoding import EmbeddedRows
from lakebed.platform.config.embed import EMBEDDING, ColumnsConfig
from lakebed.platform.lake.fragments import Snapshot

UNIT: Final = "_unit"
POSITION: Final = "_position"
ERROR_CODE: Final = "lb_error_code"
KEY: Final = "lb_key"
TOKENS: Final = "_tokens"
SAMPLES: Final = "_samples"
BEGAN: Final = "_began"

FILE: Final = "lb_file"
PLACE: Final = "lb_position"
"""Where a row lies in the source: its data file, and its position in it. What is done is told from these."""

_PLACE: Final = (pa.field(FILE, pa.string()), pa.field(PLACE, pa.int64()))

_LINEAGE: Final = (
    pa.field("lb_model", pa.string()),
    pa.field("lb_model_version", pa.int64()),
    pa.field("lb_model_digest", pa.string()),
    pa.field("lb_run", pa.string()),
    pa.field("lb_source_version", pa.string()),
)


@dataclass(frozen=True)
class Lineage:
    """What every row says of where it comes from."""

    lb_model: str
    lb_model_version: int | None
    lb_model_digest: str
    lb_run: str
    lb_source_version: str


def vector_type(dimensions: int) -> pa.DataType:
    """Return the type of the embedding column."""
    return pa.list_(pa.float32(), dimensions)


def result_schema(snapshot: Snapshot, columns: ColumnsConfig, dimensions: int) -> pa.Schema:
    """Columns of the table of vectors."""
    copied = [snapshot.field(name).with_nullable(True) for name in columns.copied]
    return pa.schema(
        [*copied, pa.field(KEY, pa.string()), *_PLACE, *_LINEAGE, pa.field(EMBEDDING, vector_type(dimensions))]
    )


def quarantine_schema(snapshot: Snapshot, columns: ColumnsConfig) -> pa.Schema:
    """Columns of the quarantine table: the row's keys, its place in the source, what is wrong with it."""
    keys = [snapshot.field(name).with_nullable(True) for name in columns.keys]
    return pa.schema(
        [
            *keys,
            *_PLACE,
            pa.field(ERROR_CODE, pa.string()),
            pa.field("lb_error", pa.string()),
            *_LINEAGE,
        ]
    )


def embedded_table(rows: pa.Table, copied: tuple[str, ...], embedded: EmbeddedRows, began: float) -> pa.Table:
    """Return rows without what was embedded, with vectors, keys, errors and counts instead."""
    bad = np.zeros(len(rows), np.bool_)
    bad[list(embedded.errors)] = True
    columns = {name: rows.column(name) for name in (UNIT, POSITION, *copied)}
    columns |= {
        KEY: pa.array(embedded.keys, pa.string()),
        ERROR_CODE: _sparse({place: error.code for place, error in embedded.errors.items()}, len(rows)),
        "lb_error": _sparse({place: error.message for place, error in embedded.errors.items()}, len(rows)),
        TOKENS: pa.array(np.where(bad, 0, embedded.tokens)),
        SAMPLES: pa.array(np.where(bad, 0, embedded.samples)),
        BEGAN: pa.array(np.full(len(rows), began)),
        EMBEDDING: vector_array(embedded.vectors, bad),
    }
    return pa.table(columns)


def vector_array(vectors: npt.NDArray[np.float32], null: npt.NDArray[np.bool_]) -> pa.Array:
    """Return vectors (n, d) as n fixed-size lists of float32, null where `null`; nothing is copied."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.reshape(-1)), vectors.shape[1], mask=pa.array(null) if null.any() else None
    )


def vectors_of(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """Return a column of fixed-size lists without nulls as (n, d)."""
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    joined: npt.NDArray[np.float32] = np.concatenate(values) if values else np.empty(0, np.float32)
    return joined.reshape(len(column), column.type.list_size)


def with_lineage(table: pa.Table, lineage: Lineage, schema: pa.Schema) -> pa.Table:
    """Add the lineage columns and bring a table into a sink's columns and types."""
    for field in _LINEAGE:
        value = pa.scalar(getattr(lineage, field.name), field.type)
        table = table.append_column(field, pa.repeat(value, len(table)))
    return table.select(schema.names).cast(schema)


def _sparse(values: Mapping[int, str], rows: int) -> pa.Array:
    """Return a column of strings that is null but for a few rows."""
    if not values:
        return pa.nulls(rows, pa.string())
    return pa.array([values.get(place) for place in range(rows)], pa.string())
