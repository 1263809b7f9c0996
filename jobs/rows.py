"""From rows of a table to items: which columns are read how, and what is wrong with a row that is no item.

Pure functions on Arrow tables. A bad row becomes an InvalidItemError in its place, so its batch goes on.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lakebed.jobs.texts import check_text, texts_of
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
        texts, series = texts_of(rows, self.columns), self._series(rows)
        return [self._item(text, values) for text, values in zip(texts, series, strict=True)]

    def _item(self, text: Any, series: Any) -> ItemOrError:
        for part in (text, series):
            if isinstance(part, InvalidItemError):
                return part
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
            name for name in (*self.columns.text_columns, self.columns.series, *self.columns.channels) if name
        )

    def _series(self, rows: pa.Table) -> list[Any]:
        if self.columns.series:
            column = _whole(rows.column(self.columns.series))
            if self.columns.series_layout == "channels_first":
                return series_in(column)
            return [_turned(series) for series in series_in(column, part="sample")]
        if self.columns.channels:
            names = self.columns.channels
            channels = [numbers_in(_whole(rows.column(name))) for name in names]
            return [channels_joined(names, values) for values in zip(*channels, strict=True)]
        return [None] * len(rows)


def _turned(series: Any) -> Any:
    """Return a series of samples x channels as channels x samples; one of a single channel is what it is."""
    if isinstance(series, np.ndarray):
        return series.T
    if isinstance(series, list) and series:
        place = next(place for place, sample in enumerate(series) if len(sample) != len(series[0]))
        return InvalidItemError(
            f"sample 0 has {len(series[0])} channels, sample {place} has {len(series[place])}", code="ragged"
        )
    return series


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def check_columns(snapshot: Snapshot, columns: ColumnsConfig) -> None:
    """Raise ColumnNotFoundError or TableError unless the table has these columns, of fitting types."""
    for name in columns.copied:
        snapshot.field(name)
    if columns.template:
        check_text(snapshot, columns.template)
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
