"""The stage before a job on a long sensor table: its rows become a table of windows, which the job then embeds.

The windows of a pinned source version are written once, whole, beside the sink, and used again as long as source,
filter and windows are the same; so what the ordinary job promises holds for them too: each window has a file and a
position that do not change. Ray Data shuffles samples by a hash of their entity, so that one worker has all of an
entity's; what is held in memory is one bucket of entities, about BUCKET_BYTES, or one entity that is larger. A
table of one bucket is cut in the driver's own process.
"""

import math
import pickle
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakebed.jobs.window_cutting import BUCKET, ROW, Cut, Cutter
from lakebed.jobs.window_store import WindowPart, WindowStore
from lakebed.jobs.windows import WindowRule
from lakebed.platform.cluster import connected
from lakebed.platform.config.cluster import ClusterConfig
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.config.windows import (
    WINDOW_END,
    WINDOW_SAMPLES,
    WINDOW_SERIES,
    WINDOW_START,
    WindowsConfig,
)
from lakebed.platform.errors import EmptyTableError, JobFailedError, LakebedError, TableError
from lakebed.platform.item_columns import is_numeric, is_text
from lakebed.platform.lake.filters import RowFilter
from lakebed.platform.lake.fragments import Fragment, Snapshot
from lakebed.platform.lake.pruning import count_rows, pruned

BUCKET_BYTES: Final = 64 * 1024**2
"""Samples that are cut at once, as they are in memory; well below what Ray Data splits blocks at."""

_MOST_BUCKETS: Final = 4096
_BATCH_ROWS: Final = 131_072
_CUT: Final = "cut"
_HEAP_PER_BUCKET: Final = 6
"""Copies of a bucket that a worker may hold at once: as it came, sorted, as numbers, and windows being written."""


def check_windows(snapshot: Snapshot, job: EmbedJob) -> None:
    """Raise ColumnNotFoundError or TableError unless the source's columns can be cut as the job says."""
    windows = _windows_of(job)
    for name in windows.entity:
        kind = snapshot.field(name).type
        if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_date(kind) or pa.types.is_boolean(kind)):
            raise _wrong_type(snapshot, name, kind, "entity", "text, integers, dates or booleans")
    kind = snapshot.field(windows.time).type
    if not (pa.types.is_timestamp(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise _wrong_type(snapshot, windows.time, kind, "time", "timestamps or numbers")
    for name in windows.channels:
        kind = snapshot.field(name).type
        if not is_numeric(kind):
            raise _wrong_type(snapshot, name, kind, "channels", "numbers")
    if job.source.filter:
        RowFilter(job.source.filter).expression(snapshot.schema)


def window_schema(snapshot: Snapshot, job: EmbedJob) -> pa.Schema:
    """Columns of the table of windows that a source gives; raises what `check_windows` raises."""
    check_windows(snapshot, job)
    windows = _windows_of(job)
    time = snapshot.field(windows.time).type
    if pa.types.is_timestamp(time) and time.unit == "ns":
        time = pa.timestamp("us", time.tz)
    return pa.schema(
        [
            *(snapshot.field(name).with_nullable(True).remove_metadata() for name in windows.entity),
            pa.field(WINDOW_START, time),
            pa.field(WINDOW_END, time),
            pa.field(WINDOW_SAMPLES, pa.int64()),
            pa.field(WINDOW_SERIES, pa.list_(pa.list_(_value_type(snapshot, windows)))),
        ]
    )


def windowed_source(job: EmbedJob, snapshot: Snapshot, note: Callable[[str], object] = lambda _: None) -> Snapshot:
    """Return the table of windows of a source, at the source's version; made now unless it is there.

    A job without windows gets its source back. `note` is told when windows are made. Connects to the job's Ray
    while many windows are made, unless this process is connected already. Raises what `check_windows` raises,
    TableError for samples that the job calls errors, EmptyTableError when there is no window, JobFailedError when
    workers fail; nothing is left behind then.
    """
    if job.windows is None:
        return snapshot
    schema = window_schema(snapshot, job)
    store = WindowStore.of(job, snapshot)
    found = store.opened(snapshot.version)
    if found is None:
        note(f"cutting windows from {snapshot.rows:,} samples")
        with store.attempt() as folder:
            stage = _Stage.of(job, snapshot, schema, store.uri, folder)
            store.publish(folder, _made(stage, job.cluster), schema)
        found = store.opened(snapshot.version)
        assert found is not None, "it was published, by this attempt or by another"
    return found


@dataclass(frozen=True)
class _Stage:
    """What is to be done: the fragments to read, which of their rows, how they are cut."""

    snapshot: Snapshot
    reader: "SampleReader"
    cutter: Cutter

    @classmethod
    def of(cls, job: EmbedJob, snapshot: Snapshot, schema: pa.Schema, store: str, folder: str) -> "_Stage":
        windows = _windows_of(job)
        assert job.sampling_rate is not None, "checked with the job"
        row_filter = RowFilter(job.source.filter) if job.source.filter else None
        if row_filter:
            snapshot = pruned(snapshot, row_filter)
        time = snapshot.field(windows.time).type
        calendar = pa.types.is_timestamp(time)
        value_type = schema.field(WINDOW_SERIES).type.value_type.value_type
        reader = SampleReader(windows, row_filter, value_type, _buckets(snapshot, windows))
        rule = WindowRule.of(windows, job.sampling_rate, time.unit if calendar else windows.time_unit, calendar)
        return cls(snapshot, reader, Cutter(store, folder, schema, windows, time, rule))

    def rows(self) -> int:
        """How many samples there are."""
        row_filter = self.reader.row_filter
        return count_rows(self.snapshot, row_filter) if row_filter else self.snapshot.rows

    def one(self, fragment: Fragment) -> Snapshot:
        """The source as if it had one fragment."""
        return replace(self.snapshot, fragments=(fragment,))

    def firsts(self) -> list[int]:
        """Number of each fragment's first row, counted over all fragments."""
        return [0, *accumulate(fragment.rows for fragment in self.snapshot.fragments)]


@dataclass(frozen=True)
class SampleReader:
    """Reads samples, each with its number in the table and the bucket of its entity. Goes to workers."""

    windows: WindowsConfig
    row_filter: RowFilter | None
    value_type: pa.DataType
    buckets: int

    def __call__(self, snapshot: Snapshot, first: int) -> Iterator[pa.Table]:
        """Read a snapshot of one fragment, whose first row has the number `first`."""
        only_filtered = self.row_filter.columns if self.row_filter else ()
        read = tuple(dict.fromkeys((*self.windows.read, *only_filtered)))
        for rows in snapshot.read(snapshot.fragments[0], read, _BATCH_ROWS):
            numbered = rows.append_column(ROW, pa.array(np.arange(first, first + len(rows))))
            first += len(rows)
            kept = self.row_filter.kept(numbered) if self.row_filter else numbered
            yield self._of_samples(kept)

    def _of_samples(self, rows: pa.Table) -> pa.Table:
        columns = {name: rows.column(name) for name in (*self.windows.entity, self.windows.time)}
        columns |= {name: rows.column(name).cast(self.value_type, safe=False) for name in self.windows.channels}
        columns[ROW] = rows.column(ROW)
        columns[BUCKET] = pa.array(buckets_of([rows.column(name) for name in self.windows.entity], self.buckets))
        return pa.table(columns)


def buckets_of(keys: Sequence[pa.ChunkedArray], buckets: int) -> npt.NDArray[np.int32]:
    """Hash rows by their keys to numbers below `buckets`; the same in every process and version of Arrow."""
    mixed = np.zeros(len(keys[0]), np.uint64)
    for key in keys:
        coded = key.combine_chunks().dictionary_encode(null_encoding="encode")
        hashes = np.array([zlib.crc32(repr(value).encode()) for value in coded.dictionary.to_pylist()], np.uint64)
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + hashes[coded.indices.to_numpy()]
    return np.asarray((mixed ^ (mixed >> np.uint64(32))) % np.uint64(buckets), np.int32)


def _made(stage: _Stage, cluster: ClusterConfig) -> list[WindowPart]:
    """Cut every sample, and check that each was there once."""
    expected = stage.rows()
    if stage.reader.buckets == 1:
        cuts = _cut_here(stage) if expected else []
    else:
        with connected(cluster) as connection:
            cuts = list(_cut_by_workers(stage, connection.variables))
    faults = [cut.fault for cut in cuts if cut.fault]
    if faults:
        raise _placed(min(faults, key=str), stage)
    seen = sum(cut.rows for cut in cuts)
    buckets = [bucket for cut in cuts for bucket in cut.buckets]
    if seen != expected or len(set(buckets)) != len(buckets):
        raise JobFailedError(f"{stage.snapshot.uri}: {expected:,} samples were read, {seen:,} came to be cut")
    parts = [part for cut in cuts for part in cut.parts]
    if not parts:
        longest = max((cut.longest for cut in cuts), default=0)
        raise EmptyTableError(
            f"{stage.snapshot.uri}: no window of {stage.cutter.rule.length:,} samples: the longest run without a "
            f"gap has {longest:,} of {seen:,}",
            hint="check sampling_rate, windows.length and windows.time_unit",
        )
    return parts


def _placed(fault: LakebedError, stage: _Stage) -> TableError:
    """Say where in the source a fault lies, as far as it is of a single row."""
    row = fault.context.get("row")
    place = stage.snapshot.uri
    if row is not None:
        firsts = stage.firsts()
        number = int(np.searchsorted(firsts, row, side="right")) - 1
        fragment = stage.snapshot.fragments[number]
        place = f"{place}/{fragment.path}, row {fragment.start + row - firsts[number]}"
    return TableError(f"{place}: {fault.message}", hint=fault.hint)


def _cut_here(stage: _Stage) -> list[Cut]:
    """Cut what fits one bucket in this process: that takes less time than starting workers."""
    places = zip(stage.snapshot.fragments, stage.firsts(), strict=False)
    blocks = (stage.reader(stage.one(fragment), first) for fragment, first in places)
    return [stage.cutter(pa.concat_tables(chain.from_iterable(blocks)))]


def _cut_by_workers(stage: _Stage, variables: Mapping[str, str]) -> Iterator[Cut]:
    """Read, shuffle by bucket and cut, on Ray Data."""
    from lakebed.jobs.quiet_run import quietly

    return quietly(lambda: _cuts(_dataset(stage, {"env_vars": dict(variables)} if variables else None)))


def _cuts(dataset: Any) -> Iterator[Cut]:
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for cut in batch.column(_CUT).to_pylist():
            yield pickle.loads(cut)  # noqa: S301  our own workers wrote it


def _dataset(stage: _Stage, environment: dict[str, Any] | None) -> Any:
    import ray.data

    samples = ray.data.read_datasource(
        _source(stage), override_num_blocks=len(stage.snapshot.fragments), runtime_env=environment
    )
    # Sorted, for only then does a bucket come in one block: unsorted ones may come in pieces as they arrive.
    shuffled = samples.repartition(stage.reader.buckets, keys=[BUCKET], sort=True)
    return shuffled.map_batches(
        partial(_cut_block, cutter=stage.cutter),
        batch_size=None,
        batch_format="pyarrow",
        memory=_HEAP_PER_BUCKET * BUCKET_BYTES,
        runtime_env=environment,
    )


def _source(stage: _Stage) -> Any:
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    def task(fragment: Fragment, first: int) -> ReadTask:
        known = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return ReadTask(partial(stage.reader, stage.one(fragment), first), known)

    class SampleSource(Datasource):
        """A read task for each fragment."""

        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
            return [task(*place) for place in zip(stage.snapshot.fragments, stage.firsts(), strict=False)]

    source: Any = SampleSource
    return source()


def _cut_block(block: pa.Table, cutter: Cutter) -> pa.Table:
    cuts = [pickle.dumps(cutter(block))] if len(block) else []
    return pa.table({_CUT: pa.array(cuts, pa.binary())})


def _windows_of(job: EmbedJob) -> WindowsConfig:
    assert job.windows is not None, "only for jobs with windows"
    return job.windows


def _value_type(snapshot: Snapshot, windows: WindowsConfig) -> pa.DataType:
    """float32 where every channel fits that, else float64."""
    kinds = [snapshot.field(name).type for name in windows.channels]
    narrow = all(pa.types.is_float16(kind) or pa.types.is_float32(kind) for kind in kinds)
    return pa.float32() if narrow else pa.float64()


def _buckets(snapshot: Snapshot, windows: WindowsConfig) -> int:
    """How many buckets entities fall into; the same for the same source, so that its windows lie the same way."""
    bytes_per_row = 8 * (len(windows.channels) + 3) + 24 * len(windows.entity)
    return min(_MOST_BUCKETS, max(1, math.ceil(snapshot.rows * bytes_per_row / BUCKET_BYTES)))


def _wrong_type(snapshot: Snapshot, name: str, kind: pa.DataType, role: str, wanted: str) -> TableError:
    return TableError(
        f"{snapshot.uri}: column {name!r} holds {kind}, not {wanted}",
        hint=f"name another column in windows.{role}",
    )
