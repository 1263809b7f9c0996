"""What a caller hands to `Encoder.encode`, as a stream of items: lists, arrays, iterators, and Arrow of any kind.

Holds no more items than are asked for. Knows nothing of encoders.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakebed.platform.encoder.plan import Window
from lakebed.platform.encoder.protocol import size_of
from lakebed.platform.errors import ConfigError
from lakebed.platform.item_columns import ItemColumns, is_series, is_text
from lakebed.platform.items import Item, items_of

_BATCH_ROWS: Final = 1024
"""Rows of a table that are taken apart at once; their numbers are not copied by it."""


@dataclass(frozen=True)
class Source:
    """Items that can be streamed; `count` is None, and `items` works once, when they come from an iterator."""

    count: int | None
    items: Callable[[], Iterator[Item]]

    def checked(self) -> "Source":
        """Look at every item, if that can be done twice: a bad one is found before hours of work and not after.

        What is small is kept and not converted again.
        """
        if self.count is None:
            return self
        kept: list[Item] = []
        room = Window().size
        for item in self.items():
            room -= size_of(item)
            if room >= 0:
                kept.append(item)
            else:
                kept.clear()
        return Source(self.count, lambda: iter(kept)) if room >= 0 else self


def source_of(values: Any, columns: Mapping[str, Any] | None = None) -> Source:
    """Find out what `values` is; raises ConfigError when it is no collection of items."""
    batches = _arrow(values)
    if batches is not None:
        return _of_batches(batches, columns)
    if columns is not None:
        raise ConfigError(f"columns: only a table has columns, and this is a {type(values).__name__}")
    _refuse_one_item(values)
    if isinstance(values, Iterator):
        return Source(None, lambda: _converted(values))
    if not isinstance(values, Iterable):
        raise ConfigError(
            f"items must be a list, an array or a table, not {type(values).__name__}",
            hint="one item alone is a list of it",
        )
    count = len(values) if isinstance(values, Sized) else None
    return Source(count, lambda: _converted(iter(values)))


def _refuse_one_item(values: Any) -> None:
    """Refuse one item where several belong: a text would be taken for its letters, a mapping for its keys."""
    if isinstance(values, str | bytes | Mapping | Item):
        raise ConfigError(
            f"items must be a list of items, not one {type(values).__name__}", hint="write encode([item])"
        )
    if isinstance(values, np.ndarray) and values.dtype.kind not in "OUT" and values.ndim < 2:
        raise ConfigError(
            f"items must be a list of items, and this is {values.ndim}-dimensional: one series, or none",
            hint="write encode([series]); several series are an array of n x samples, or n x channels x samples",
        )


def _converted(values: Iterator[Any]) -> Iterator[Item]:
    for position, value in enumerate(values):
        yield from items_of([value], first=position)


def _arrow(values: Any) -> Any:
    """Return a table, a column or a reader for whatever is Arrow or hands it over; None for the rest."""
    if isinstance(values, pa.Table | pa.RecordBatchReader | pa.ChunkedArray):
        return values
    if isinstance(values, pa.RecordBatch):
        return pa.Table.from_batches([values])
    if isinstance(values, pa.Array):
        return pa.chunked_array([values])
    if hasattr(values, "__arrow_c_stream__"):
        column = _column(values)
        return pa.Table.from_struct_array(column) if pa.types.is_struct(column.type) else column
    return None


def _column(values: Any) -> pa.ChunkedArray:
    try:
        return pa.chunked_array(values)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ConfigError(
            f"this {type(values).__name__} cannot be read as Arrow columns: {str(error).splitlines()[0]}",
            hint="give the items as a list, such as frame[column].tolist()",
        ) from None


def _of_batches(arrow: Any, names: Mapping[str, Any] | None) -> Source:
    if isinstance(arrow, pa.ChunkedArray):
        if names is not None:
            raise ConfigError("columns: only a table has columns, and this is one column")
        arrow = _as_table(arrow)
    columns = ItemColumns.given(names, arrow.schema) if names is not None else ItemColumns.found_in(arrow.schema)
    if isinstance(arrow, pa.RecordBatchReader):
        return Source(None, lambda: _rows(arrow, columns))
    return Source(len(arrow), lambda: _rows(arrow.to_batches(max_chunksize=_BATCH_ROWS), columns))


def _as_table(column: pa.ChunkedArray) -> pa.Table:
    if is_text(column.type):
        return pa.table({"text": column})
    if is_series(column.type):
        return pa.table({"time_series": column})
    raise ConfigError(f"a column of {column.type} holds no items", hint="texts, or lists of numbers")


def _rows(batches: Iterable[pa.RecordBatch], columns: ItemColumns) -> Iterator[Item]:
    first = 0
    for batch in batches:
        yield from columns.items(batch, first)
        first += len(batch)
