"""A lakehouse table with a label column: rows to be embedded, or vectors that an embedding job left.

Reads the newest version or the one that is asked for, as jobs do, and whole. Rows that are no items are left out
and counted, up to the share that a job would quarantine. The order of rows is no part of a table, so they are put
into that of their contents: what two jobs wrote of the same rows is the same data. A null label is an error, since
leaving rows out by label would change what is measured.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakebed.eval.datasets import Dataset, LabelArray, Part
from lakebed.eval.table_split import Sides, split_by_column, split_by_hash
from lakebed.jobs.output import KEY
from lakebed.jobs.rows import RowMapping, check_columns
from lakebed.platform.config.embed import ColumnsConfig
from lakebed.platform.config.entries.labelled import Labelled
from lakebed.platform.config.entries.table import LabelledTable
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.errors import ConfigError, InvalidItemError, TableError
from lakebed.platform.item_columns import is_channel, is_list, is_numeric, numbers_in
from lakebed.platform.items import Item
from lakebed.platform.lake.fragments import Snapshot, read_all
from lakebed.platform.lake.tables import open_table

MOST_BAD_ROWS: Final = 0.1
_MADE_BY: Final = "lb_model_digest"


@dataclass(frozen=True)
class LabelledRows:
    """The table of an entry: parts `train` and `test`."""

    entry: Labelled

    def names(self) -> list[str]:
        """The table's name; raises what opening it raises, ColumnNotFoundError, TableError or ConfigError."""
        snapshot = self._snapshot()
        self._labels(read_all(snapshot, [self._table.label_column]))
        return [self._table.known_as]

    def missing(self) -> list[str]:
        """It is one table."""
        return []

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Read the table; raises TableError or ConfigError when it cannot be measured on."""
        table, snapshot = self._table, self._snapshot()
        rows = read_all(snapshot, _columns(snapshot, table))
        labels = self._labels(rows)
        notes: tuple[str, ...] = ()
        made_by = _made_by(table, rows)
        if table.columns is None:
            whole = _embedded(table, rows, labels)
        else:
            whole, rows, notes = _to_embed(table, table.columns, rows, labels)
        sides = self._sides(rows, whole)
        order = np.lexsort((whole.labels, np.array(whole.content_keys)))
        parts = {side: whole.taken(order[sides[order] == side]) for side in ("train", "test")}
        left_out = int((sides == "").sum())
        if left_out:
            notes = (*notes, f"{left_out} rows are neither train nor test by {table.split_column}, left out")
        for side, part in parts.items():
            if not len(part):
                raise ConfigError(f"{table.uri}: no row is in the {side} part", hint="look at the split column")
        version = f"{snapshot.format}-{snapshot.version}"
        data = Dataset(table.known_as, version, table.uri, parts, notes=notes, made_by=made_by)
        yield data.limited(limit) if limit else data

    @property
    def _table(self) -> LabelledTable:
        assert self.entry.table is not None  # the entry is validated
        return self.entry.table

    @property
    def _predicts_numbers(self) -> bool:
        return self.entry.task == "regression"

    def _snapshot(self) -> Snapshot:
        """The table, with the columns that are asked for."""
        table = self._table
        snapshot = open_table(table)
        kind = snapshot.field(table.label_column).type
        if is_list(kind) or (self._predicts_numbers and not is_numeric(kind)):
            wanted = "numbers" if self._predicts_numbers else "classes"
            raise TableError(f"{table.uri}: label column {table.label_column!r} holds {kind}, not {wanted}")
        if table.columns is not None:
            check_columns(snapshot, table.columns)
        if table.vector_column is not None and not is_channel(snapshot.field(table.vector_column).type):
            kind = snapshot.field(table.vector_column).type
            raise TableError(f"{table.uri}: column {table.vector_column!r} holds {kind}, not vectors")
        for name in (table.split_column, table.key_column):
            if name is not None:
                snapshot.field(name)
        return snapshot

    def _labels(self, rows: pa.Table) -> LabelArray:
        """Labels as text; raises ConfigError for nulls, or when they are all equal."""
        table, column = self._table, rows.column(self._table.label_column)
        if column.null_count:
            raise ConfigError(
                f"{table.uri}: label column {table.label_column!r} holds {column.null_count} nulls",
                hint="every row needs a label",
            )
        labels = np.array([str(label) for label in column.to_pylist()], dtype=np.str_)
        if len(np.unique(labels)) < 2:
            raise ConfigError(
                f"{table.uri}: label column {table.label_column!r} holds one class in {len(rows)} rows",
                hint="there is nothing to measure",
            )
        return labels

    def _sides(self, rows: pa.Table, whole: Part) -> Sides:
        table = self._table
        if table.split_column is not None:
            return split_by_column(rows.column(table.split_column).to_pylist())
        keys = table.columns.keys if table.columns else ()
        names = (
            [repr(tuple(row.values())) for row in rows.select(keys).to_pylist()] if keys else whole.content_keys
        )
        strata = [""] * len(whole) if self._predicts_numbers else whole.labels.tolist()
        return split_by_hash(names, strata, table.test_share, table.seed)


def _columns(snapshot: Snapshot, table: LabelledTable) -> list[str]:
    """What must be read, each column once."""
    named = [table.label_column, table.split_column, table.vector_column, table.key_column]
    read = [name for name in named if name is not None] + list(table.columns.read if table.columns else ())
    lineage = [name for name in (KEY, _MADE_BY) if table.vector_column and name in snapshot.schema.names]
    return list(dict.fromkeys([*read, *lineage]))


def _to_embed(
    table: LabelledTable, columns: ColumnsConfig, rows: pa.Table, labels: LabelArray
) -> tuple[Part, pa.Table, tuple[str, ...]]:
    """Rows as items, those rows, and what was left out; raises TableError when too many are no items."""
    found = RowMapping(columns).items(rows)
    kept = np.array([place for place, item in enumerate(found) if isinstance(item, Item)], np.int64)
    items = [item for item in found if isinstance(item, Item)]
    errors = [error for error in found if isinstance(error, InvalidItemError)]
    if not errors:
        return Part(items, labels), rows, ()
    said = (
        f"{len(errors)} of {len(rows)} rows are no items and are left out, the first because {errors[0].message}"
    )
    if len(errors) > MOST_BAD_ROWS * len(rows):
        raise TableError(f"{table.uri}: {said}", hint="do `columns` name the right ones?")
    return Part(items, labels[kept]), rows.take(pa.array(kept)), (said,)


def _embedded(table: LabelledTable, rows: pa.Table, labels: LabelArray) -> Part:
    assert table.vector_column is not None
    column = rows.column(table.vector_column).combine_chunks()
    vectors = _matrix(table, numbers_in(column))
    key = table.key_column or (KEY if KEY in rows.column_names else None)
    contents = [_content(vector) for vector in vectors] if key is None else _keys(rows.column(key).to_pylist())
    return Part([], labels, None, vectors, contents)


def _matrix(table: LabelledTable, vectors: Sequence[Any]) -> VectorArray:
    """Rows x dimensions; raises TableError for nulls and for vectors of several lengths."""
    absent = sum(vector is None for vector in vectors)
    lengths = sorted({len(vector) for vector in vectors if vector is not None})
    if absent or len(lengths) != 1:
        said = f"{absent} nulls" if absent else f"vectors of {lengths} dimensions"
        raise TableError(
            f"{table.uri}: column {table.vector_column!r} holds {said}", hint="they must be of one length"
        )
    return np.stack(vectors).astype(np.float32)


def _content(vector: VectorArray) -> str:
    return hashlib.blake2b(vector.tobytes(), digest_size=16).hexdigest()


def _keys(values: Sequence[Any]) -> list[str]:
    return [str(value) for value in values]


def _made_by(table: LabelledTable, rows: pa.Table) -> str | None:
    """Digest of the model that made the vectors, where rows say it; raises TableError when they name several."""
    if _MADE_BY not in rows.column_names:
        return None
    digests = rows.column(_MADE_BY).unique().to_pylist()
    if len(digests) > 1:
        raise TableError(
            f"{table.uri}: holds vectors of {len(digests)} models", hint="`lakebed backfill` brings it to one"
        )
    return None if digests[0] is None else str(digests[0])
