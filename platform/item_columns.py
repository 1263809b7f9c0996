"""Columns of an Arrow table as items: which column holds what, found by name or by type, and how rows are read.

Lists of any Arrow kind, fixed-shape tensors and one list column per channel are series. Knows no files, no jobs
and no encoder; what a row must satisfy to be an item is `lakebed.platform.items`' business.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.platform.config.embed import ColumnsConfig
from lakebed.platform.errors import ColumnNotFoundError, ConfigError, InvalidItemError, TableError
from lakebed.platform.items import Item, placed
from lakebed.platform.text_template import TextTemplate

_SERIES_NAMES: Final = ("time_series", "series")
_FURTHER_NAMES: Final = ("channel_names", "sampling_rate")


@dataclass(frozen=True)
class ItemColumns:
    """Which columns make an item; `text`, `series` and `channels` mean what they mean in a job.

    A null text or series is one that the row does not have. `channel_names` and `sampling_rate` are columns, too.
    """

    text: str | None = None
    series: str | None = None
    channels: tuple[str, ...] = ()
    channel_names: str | None = None
    sampling_rate: str | None = None

    @classmethod
    def given(cls, names: Mapping[str, Any], schema: pa.Schema) -> Self:
        """Take names a caller gives, checked as a job's are; raises ConfigError or what `check` raises."""
        unknown = set(names) - {"text", "series", "channels"}
        if unknown:
            raise ConfigError(f"columns: no such field: {sorted(unknown)[0]!r}", hint="text, series, channels")
        config = ColumnsConfig.parse(dict(names), where="columns")
        text = None if config.text is None else TextTemplate.parse(config.text).column
        if config.text is not None and text is None:
            raise ConfigError(f"columns: text: {config.text!r} names no column", hint="templates are for jobs")
        columns = cls(text, config.series, config.channels)
        columns.check(schema)
        return columns

    @classmethod
    def found_in(cls, schema: pa.Schema) -> Self:
        """Find columns by the names of an item's fields, else by type; raises ConfigError when that is a guess."""
        series = [name for name in _SERIES_NAMES if name in schema.names]
        if len(series) > 1:
            raise _unclear(schema, "two columns are named for series")
        text = "text" if "text" in schema.names else None
        if not (text or series):
            columns = cls._by_type(schema)
        elif not series and any(is_series(field.type) for field in schema):
            raise _unclear(schema, "besides `text` there are lists of numbers")
        else:
            further = (name if series and name in schema.names else None for name in _FURTHER_NAMES)
            columns = cls(text, series[0] if series else None, (), *further)
        columns.check(schema)
        return columns

    @classmethod
    def _by_type(cls, schema: pa.Schema) -> Self:
        """Tell columns by type where every column has a part: one of texts or of series, or one per channel."""
        fields = [field for field in schema if not field.name.startswith("__index_level_")]  # of pandas
        if len(fields) == 1 and is_text(fields[0].type):
            return cls(text=fields[0].name)
        if len(fields) == 1 and is_series(fields[0].type):
            return cls(series=fields[0].name)
        if fields and all(is_channel(field.type) for field in fields):
            return cls(channels=tuple(field.name for field in fields))
        raise _unclear(schema, "no column is named `text` or `time_series`")

    def check(self, schema: pa.Schema) -> None:
        """Raise ColumnNotFoundError or TableError unless the columns are there and of fitting types."""
        wanted = [(self.text, is_text, "text"), (self.series, is_series, "lists of numbers")]
        wanted += [(name, is_channel, "lists of numbers") for name in self.channels]
        for name, fits, meaning in wanted:
            if name is not None and name not in schema.names:
                raise ColumnNotFoundError(
                    f"the table has no column {name!r}", hint=f"it has {', '.join(schema.names)}"
                )
            if name is not None and schema.names.count(name) > 1:
                raise TableError(f"the table has several columns {name!r}", hint="rename all but one")
            if name is not None and not fits(schema.field(name).type):
                raise TableError(f"column {name!r} holds {schema.field(name).type}, not {meaning}")

    def items(self, rows: pa.RecordBatch, first: int) -> Iterator[Item]:
        """Yield an item per row; raises InvalidItemError with the position, which for row 0 is `first`."""
        texts = self._values(rows, self.text)
        names, rates = self._values(rows, self.channel_names), self._values(rows, self.sampling_rate)
        for place, series in enumerate(self._series(rows)):
            try:
                yield self._item(texts[place], series, names[place], rates[place])
            except InvalidItemError as error:
                raise placed(error, first + place) from None

    def _item(self, text: Any, series: Any, names: Any, rate: Any) -> Item:
        if isinstance(series, InvalidItemError):
            raise series
        if text is None and series is None:
            columns = [name for name in (self.text, self.series, *self.channels) if name]
            raise InvalidItemError(f"{' and '.join(columns)} is null", code="null")
        return Item.of(text) if series is None else Item.of(text, series, names, rate)

    def _series(self, rows: pa.RecordBatch) -> list[Any]:
        if self.series is not None:
            return series_in(rows.column(self.series))
        if self.channels:
            channels = [numbers_in(rows.column(name)) for name in self.channels]
            return [channels_joined(self.channels, values) for values in zip(*channels, strict=True)]
        return [None] * len(rows)

    @staticmethod
    def _values(rows: pa.RecordBatch, name: str | None) -> Sequence[Any]:
        values: list[Any] = [None] * len(rows) if name is None else rows.column(name).to_pylist()
        return values


def numbers_in(column: pa.Array) -> list[Any]:
    """Return each row's list of numbers as an array, or None; a null number becomes NaN. Copies nothing else."""
    values, bounds, absent = _lists(column)
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    numbers = values.to_numpy(zero_copy_only=False)
    return [
        None if missing else numbers[start:stop]
        for start, stop, missing in zip(bounds, bounds[1:], absent, strict=False)
    ]


def series_in(column: pa.Array, part: str = "channel") -> list[Any]:
    """Return each row's series: an array of channels x samples, a ragged list of arrays, an error, or None.

    `part` is what one inner list is, for errors.
    """
    if isinstance(column.type, pa.FixedShapeTensorType):
        return _tensors(column)
    if not is_list(column.type.value_type):
        return numbers_in(column)
    values, bounds, absent = _lists(column)
    channels = numbers_in(values)
    return [
        None if missing else _stacked(channels[start:stop], part)
        for start, stop, missing in zip(bounds, bounds[1:], absent, strict=False)
    ]


def _tensors(column: Any) -> list[Any]:
    order = column.type.permutation
    rows = numbers_in(column.storage)
    shaped = (None if row is None else row.reshape(column.type.shape) for row in rows)
    return [tensor if tensor is None or order is None else tensor.transpose(order) for tensor in shaped]


def _stacked(channels: list[Any], part: str = "channel") -> Any:
    if any(channel is None for channel in channels):
        place = next(place for place, channel in enumerate(channels) if channel is None)
        return InvalidItemError(f"{part} {place} is null", code="null_channel")
    if channels and len({len(channel) for channel in channels}) == 1:
        return np.stack(channels)
    return channels


def channels_joined(names: Sequence[str], values: Sequence[Any]) -> Any:
    """Join one row's channels; all null means that the row has no series."""
    absent = [name for name, value in zip(names, values, strict=True) if value is None]
    if len(absent) == len(values):
        return None
    if absent:
        return InvalidItemError(f"channel {absent[0]!r} is null", code="null_channel")
    return _stacked(list(values))


def _lists(column: pa.Array) -> tuple[pa.Array, npt.NDArray[Any], npt.NDArray[Any]]:
    """Take lists of any kind apart: their values end to end, n + 1 bounds in them, and which of n are null."""
    kind = column.type
    absent = column.is_null().to_numpy(zero_copy_only=False)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        return column.flatten(), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), absent
    offsets = column.offsets.to_numpy()
    values = column.values.slice(offsets[0], offsets[-1] - offsets[0])  # a batch is a slice of a larger block
    return values, offsets - offsets[0], absent


def is_text(kind: pa.DataType) -> bool:
    """Whether values of a type are strings."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether values of a type are lists."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def is_channel(kind: pa.DataType) -> bool:
    """Whether values of a type are lists of numbers."""
    return is_list(kind) and is_numeric(kind.value_type)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether values of a type are real numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_series(kind: pa.DataType) -> bool:
    """Whether values of a type are lists of channels, single channels, or tensors of numbers."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return len(kind.shape) in (1, 2) and is_channel(kind.storage_type)
    return is_channel(kind) or (is_list(kind) and is_channel(kind.value_type))


def _unclear(schema: pa.Schema, why: str) -> ConfigError:
    have = ", ".join(f"{field.name} ({field.type})" for field in schema)
    return ConfigError(
        f"which columns make an item is unclear: {why}; the table has {have}",
        hint='say it: columns={"text": …}, {"series": …} or {"channels": [ … ]}',
    )
