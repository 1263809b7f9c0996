"""From rows of a table to items: which columns are read how, and what is wrong with a row that is no item.

Pure functions on Arrow tables. A bad row becomes an InvalidItemError in its place, so its batch goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakebed.platform.config.embed import ColumnsConfig, EmbedJob
from lakebed.platform.errors import InvalidItemError, TableError
from lakebed.platform.item_columns import channels_joined, is_channel, is_series, numbers_in, series_in
from lakebed.platform.items import Item
from lakebed.platform.lake.fragments import Snapshot

ItemOrError = Item | InvalidItemError


@dataclass(frozen=True)
class RowMapping:
    """How a row becomes an item.

    A null text or series is one that the row does not have: the item is made of the other. A row without any is
    an error, and so is a null among the channels of a series.
    """

    columns: ColumnsConfig
    channel_names: tuple[str, ...] | None = None
    sampling_rate: float | None = None

    @classmethod
    def of(cls, job: EmbedJob) -> "RowMapping":
        """Take the mapping from a job."""
        return cls(job.columns, job.channel_names, job.sampling_rate)

    def items(self, rows: pa.Table) -> list[ItemOrError]:
        """Return an item or an error per row."""
        texts: Iterator[Any] = iter([None] * len(rows))
        if self.columns.text:
            texts = iter(rows.column(self.columns.text).to_pylist())
        return [self._item(text, series) for text, series in zip(texts, self._series(rows), strict=True)]

    def _item(self, text: Any, series: Any) -> ItemOrError:
        if isinstance(series, InvalidItemError):
            return series
        try:
            if text is None and series is None:
                raise InvalidItemError(f"{self._payload()} is null", code="null")
            if series is None:
                return Item.of(text)
            return Item.of(text, series, self.channel_names, self.sampling_rate)
        except InvalidItemError as error:
            return error

    def _payload(self) -> str:
        return " and ".join(
            name for name in (self.columns.text, self.columns.series, *self.columns.channels) if name
        )

    def _series(self, rows: pa.Table) -> list[Any]:
        if self.columns.series:
            return series_in(_whole(rows.column(self.columns.series)))
        if self.columns.channels:
            names = self.columns.channels
            channels = [numbers_in(_whole(rows.column(name))) for name in names]
            return [channels_joined(names, values) for values in zip(*channels, strict=True)]
        return [None] * len(rows)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def check_columns(snapshot: Snapshot, columns: ColumnsConfig) -> None:
    """Raise ColumnNotFoundError or TableError unless the table has these columns, of fitting types."""
    for name in columns.copied:
        snapshot.field(name)
    if columns.text:
        kind = snapshot.field(columns.text).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise _wrong_type(snapshot, columns.text, kind, "text")
    if columns.series:
        kind = snapshot.field(columns.series).type
        if not is_series(kind):
            raise _wrong_type(snapshot, columns.series, kind, "a list of lists of numbers")
    for name in columns.channels:
        kind = snapshot.field(name).type
        if not is_channel(kind):
            raise _wrong_type(snapshot, name, kind, "a list of numbers")


def _wrong_type(snapshot: Snapshot, name: str, kind: pa.DataType, wanted: str) -> TableError:
    return TableError(
        f"{snapshot.uri}: column {name!r} holds {kind}, not {wanted}", hint="name another column in `columns`"
    )
