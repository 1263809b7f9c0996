"""Data files that workers write before anything is visible: staged parts, and what a commit must know of them."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakebed.platform.lake.storage import filesystem, inner_path, join, store_errors

_STATISTICS_TYPES: Final = (pa.types.is_integer, pa.types.is_string)


@dataclass(frozen=True)
class Part:
    """A staged data file. `path` is relative to the table, or whole.

    `statistics` are what the format's log keeps of a file: Delta's per-file statistics, Lance's whole fragment.
    """

    path: str
    rows: int
    size: int
    statistics: Mapping[str, Any]


class PartWriter(Protocol):
    """Stages parts of one slot of a table, in the columns it names. Goes to workers, so it can be pickled."""

    @property
    def columns(self) -> pa.Schema:
        """Columns of a data file; a staged table must have exactly these."""
        ...

    def __call__(self, table: pa.Table, plain: Sequence[str] = ()) -> Part:
        """Write one data file, under a name that no other attempt uses.

        Columns in `plain`, such as vectors, are stored as they are: compressing them costs much and saves nothing.
        """
        ...


@dataclass(frozen=True)
class ParquetWriter:
    """Writes Parquet files into `folder` of the table at `uri`. Field ids in `columns` go into the files."""

    uri: str
    folder: str
    columns: pa.Schema

    def __call__(self, table: pa.Table, plain: Sequence[str] = ()) -> Part:
        """Write one data file."""
        path = join(self.folder, f"part-{uuid.uuid4().hex}.parquet")
        uri = join(self.uri, path)
        table = table.cast(self.columns)
        coded = [name for name in table.column_names if name not in plain]
        with store_errors(uri), filesystem(uri).open(inner_path(uri), "wb") as file:
            pq.write_table(
                table,
                file,
                compression={**dict.fromkeys(coded, "zstd"), **dict.fromkeys(plain, "none")},
                use_dictionary=coded or False,
                write_statistics=coded or False,
            )
            size = file.tell()
        return Part(path, len(table), size, statistics_of(table))


def statistics_of(table: pa.Table) -> dict[str, Any]:
    """Row count, and least and greatest values and null counts of text and integer columns."""
    least, greatest, nulls = {}, {}, {}
    for name in table.column_names:
        column = table.column(name)
        if not any(of_type(column.type) for of_type in _STATISTICS_TYPES):
            continue
        nulls[name] = column.null_count
        if column.null_count < len(column):
            bounds = pc.min_max(column).as_py()
            least[name], greatest[name] = bounds["min"], bounds["max"]
    return {"numRecords": len(table), "minValues": least, "maxValues": greatest, "nullCount": nulls}
