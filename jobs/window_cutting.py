"""A block of samples of many entities to data files of windows: what a worker does. Knows no Ray."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.jobs.window_store import PartWriter, WindowPart
from lakebed.jobs.windows import Samples, WindowRule, Windows, cut_windows, nested_bounds
from lakebed.platform.config.windows import WINDOW_START, WindowsConfig
from lakebed.platform.errors import TableError
from lakebed.platform.lake.storage import join

ROW: Final = "_row"
BUCKET: Final = "_bucket"
_CHUNK_VALUES: Final = 2**21
"""Numbers of one row group, 16 MiB of float64; windows that overlap are many times their samples."""


@dataclass
class Cut:
    """What cutting one block came to. `fault` is the first error, and then the rest does not count."""

    parts: list[WindowPart] = field(default_factory=list)
    buckets: list[int] = field(default_factory=list)
    rows: int = 0
    longest: int = 0
    fault: TableError | None = None


@dataclass(frozen=True)
class Cutter:
    """Cuts blocks that hold every sample of the entities in them. Goes to workers."""

    store: str
    folder: str
    schema: pa.Schema
    windows: WindowsConfig
    time_type: pa.DataType
    rule: WindowRule

    def __call__(self, block: pa.Table) -> Cut:
        """Cut a block, and write a data file for each of its buckets."""
        cut = Cut(rows=len(block))
        keys = [BUCKET, *self.windows.entity]
        try:
            self._check_whole(block)
            block = block.sort_by([(name, "ascending") for name in keys]).combine_chunks()
            columns = self._columns(block)
            for start, stop in _runs(block, [BUCKET]):
                cut.buckets.append(block.column(BUCKET)[start].as_py())
                inside = block.slice(start, stop - start)
                entities = [(start + first, start + last) for first, last in _runs(inside, keys)]
                self._write(block, columns, entities, cut)
        except TableError as error:
            cut.fault = error
        return cut

    def _check_whole(self, block: pa.Table) -> None:
        """Refuse samples that belong to no window because nobody knows whose or when they are."""
        for name in (*self.windows.entity, self.windows.time):
            absent = _absent(block.column(name))
            if pc.any(absent).as_py():
                row = block.filter(absent).column(ROW)[0].as_py()
                raise TableError(
                    f"a sample's {name} is null or not finite",
                    hint=f"leave such rows out: source.filter: {name} is not null",
                    row=row,
                )

    def _columns(self, block: pa.Table) -> tuple[Any, Any, Any]:
        """Times, values (n, channels) and order of a block."""
        times = block.column(self.windows.time)
        if pa.types.is_timestamp(times.type):
            times = times.cast(pa.int64())
        values = [block.column(name).to_numpy().astype(np.float64) for name in self.windows.channels]
        numbers = times.to_numpy()
        numbers = numbers.astype(np.int64 if numbers.dtype.kind in "iu" else np.float64)
        return numbers, np.column_stack(values), block.column(ROW).to_numpy()

    def _write(
        self, block: pa.Table, columns: tuple[Any, Any, Any], entities: Sequence[tuple[int, int]], cut: Cut
    ) -> None:
        name = f"part-{cut.buckets[-1]:05d}-{uuid.uuid4().hex[:8]}.parquet"
        writer = PartWriter(self.store, join(self.folder, name), self.schema, _CHUNK_VALUES)
        times, values, order = columns
        for start, stop in entities:
            entity = block.slice(start, 1).select(list(self.windows.entity))
            try:
                windows = cut_windows(Samples(times[start:stop], values[start:stop]), order[start:stop], self.rule)
            except TableError as error:
                raise _of_entity(error, entity) from None
            cut.longest = max(cut.longest, windows.longest)
            for table, count in self._tables(entity, windows):
                writer.add(table, count)
        part = writer.close()
        cut.parts += [part] if part else []

    def _tables(self, entity: pa.Table, windows: Windows) -> Iterator[tuple[pa.Table, int]]:
        """Yield windows as tables, a bounded number of values at a time."""
        channels = len(self.windows.channels)
        step = max(1, _CHUNK_VALUES // (self.rule.length * channels))
        for first in range(0, len(windows), step):
            chosen = slice(first, first + step)
            numbers, channel_ends, window_ends = nested_bounds(windows, chosen)
            yield self._table(entity, windows, chosen, _lists(numbers, channel_ends, window_ends)), len(numbers)

    def _table(self, entity: pa.Table, windows: Windows, chosen: slice, series: pa.Array) -> pa.Table:
        starts, stops = windows.starts[chosen], windows.stops[chosen]
        times = windows.samples.times
        columns = [pa.repeat(entity.column(name)[0], len(starts)) for name in self.windows.entity]
        columns += [self._times(times[places]) for places in (starts, stops - 1)]
        columns += [pa.array(stops - starts), series]
        return pa.table(columns, names=self.schema.names).cast(self.schema)

    def _times(self, times: Any) -> pa.Array:
        """Times as the source has them; nanoseconds cut off to microseconds, which every sink can hold."""
        return pa.array(times).cast(self.time_type).cast(self.schema.field(WINDOW_START).type, safe=False)


def _absent(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type):
        return pc.invert(pc.fill_null(pc.is_finite(column), False))
    return column.is_null()


def _of_entity(error: TableError, entity: pa.Table) -> TableError:
    named = ", ".join(f"{name} {entity.column(name)[0].as_py()}" for name in entity.column_names)
    return TableError(f"{named}: {error.message}", hint=error.hint)


def _runs(block: pa.Table, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Bounds of the runs of rows that agree in these columns; the block is sorted by them."""
    changes: npt.NDArray[np.bool_] = np.zeros(max(0, len(block) - 1), np.bool_)
    for name in names:
        codes = block.column(name).combine_chunks().dictionary_encode().indices.to_numpy()
        changes |= codes[1:] != codes[:-1]
    bounds = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(block)]]).tolist()
    return pairwise(bounds)


def _lists(numbers: Any, channel_ends: Any, window_ends: Any) -> pa.Array:
    channels = pa.ListArray.from_arrays(pa.array(channel_ends, pa.int32()), pa.array(numbers))
    return pa.ListArray.from_arrays(pa.array(window_ends, pa.int32()), channels)
