"""From rows of a table to items: which columns are read how, and what is wrong with a row that is no item.

Pure functions on Arrow tables. A bad row becomes an InvalidItemError in its place, so its batch goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakebed.platform.config.embed import ColumnsConfig, EmbedJob
from lakebed.platform.errors import InvalidItemError, TableError
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
            return series_of(rows.column(self.columns.series))
        if self.columns.channels:
            channels = [numbers_of(rows.column(name)) for name in self.columns.channels]
            return [self._joined(values) for values in zip(*channels, strict=True)]
        return [None] * len(rows)

    def _joined(self, values: Sequence[Any]) -> Any:
        """Join one row's channels; all null means that the row has no series."""
        absent = [name for name, value in zip(self.columns.channels, values, strict=True) if value is None]
        if len(absent) == len(values):
            return None
        if absent:
            return InvalidItemError(f"channel {absent[0]!r} is null", code="null_channel")
        if len({len(value) for value in values}) == 1:
            return np.stack(values)
        return list(values)  # ragged: Item.of names the channel


def numbers_of(column: pa.ChunkedArray) -> list[Any]:
    """Return each row's list of numbers as an array, or None; a null number becomes NaN."""
    values, bounds, absent = _lists(column)
    numbers = values.to_numpy(zero_copy_only=False)
    return [
        None if missing else numbers[start:stop]
        for start, stop, missing in zip(bounds, bounds[1:], absent, strict=False)
    ]


def series_of(column: pa.ChunkedArray) -> list[Any]:
    """Return each row's series: an array of channels x samples, a ragged list of arrays, an error, or None."""
    if not is_list(column.type.value_type):
        return numbers_of(column)
    values, bounds, absent = _lists(column)
    channels = numbers_of(pa.chunked_array([values]))
    return [
        None if missing else _stacked(channels[start:stop])
        for start, stop, missing in zip(bounds, bounds[1:], absent, strict=False)
    ]


def _stacked(channels: list[Any]) -> Any:
    if any(channel is None for channel in channels):
        place = next(place for place, channel in enumerate(channels) if channel is None)
        return InvalidItemError(f"channel {place} is null", code="null_channel")
    if channels and len({len(channel) for channel in channels}) == 1:
        return np.stack(channels)
    return channels


def _lists(column: pa.ChunkedArray) -> tuple[pa.Array, npt.NDArray[Any], npt.NDArray[Any]]:
    """Take lists of any kind apart: their values end to end, n + 1 bounds in them, and which of n are null."""
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    lists = array if pa.types.is_list(array.type) else array.cast(pa.list_(array.type.value_type))
    offsets = lists.offsets.to_numpy()
    values = lists.values.slice(offsets[0], offsets[-1] - offsets[0])  # a batch is a slice of a larger block
    return values, offsets - offsets[0], lists.is_null().to_numpy(zero_copy_only=False)


def is_list(kind: pa.DataType) -> bool:
    """Whether values of a type are lists."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
    )


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
        if not (_is_numbers(kind) or (is_list(kind) and _is_numbers(kind.value_type))):
            raise _wrong_type(snapshot, columns.series, kind, "a list of lists of numbers")
    for name in columns.channels:
        kind = snapshot.field(name).type
        if not _is_numbers(kind):
            raise _wrong_type(snapshot, name, kind, "a list of numbers")


def _is_numbers(kind: pa.DataType) -> bool:
    return is_list(kind) and (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))


def _wrong_type(snapshot: Snapshot, name: str, kind: pa.DataType, wanted: str) -> TableError:
    return TableError(
        f"{snapshot.uri}: column {name!r} holds {kind}, not {wanted}", hint="name another column in `columns`"
    )
