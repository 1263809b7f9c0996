"""Fragments that no row of can satisfy a filter, told without reading rows.

By what is known of whole files (partition values; Delta's least and greatest values in its log), then by the
statistics of row groups where a footer says more than that. Arrow does the reasoning: each file goes to it as a
fragment that carries what is known. Never leaves out a row that satisfies the filter.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from deltalake import DeltaTable
from pyarrow.fs import FSSpecHandler, LocalFileSystem, PyFileSystem

from lakebed.platform.lake.filters import RowFilter
from lakebed.platform.lake.fragments import Fragment, Snapshot
from lakebed.platform.lake.storage import delta_options, filesystem, inner_path, join, store_errors

Ranges = tuple[tuple[int, int], ...]
"""Positions from start to stop, sorted and disjoint."""

Bounds = Mapping[str, Any]
"""What Delta's log says of one file: `min.x`, `max.x`, `null_count.x` by name."""

_BATCH_ROWS: Final = 65_536
_FOOTERS_AT_ONCE: Final = 16
_TIME_STEP: Final = timedelta(milliseconds=1)
"""Delta keeps bounds of times in whole milliseconds, cut off."""


def pruned(snapshot: Snapshot, row_filter: RowFilter) -> Snapshot:
    """Leave out fragments, and row groups at the ends and in the middle of fragments, without a fitting row.

    What is left has the positions it had. Raises what `RowFilter.expression` raises.
    """
    row_filter.expression(snapshot.schema)
    with store_errors(snapshot.uri):
        fragments = _by_file(snapshot, row_filter)
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            cut = pool.map(lambda fragment: list(_by_row_group(snapshot, fragment, row_filter)), fragments)
            return replace(snapshot, fragments=tuple(part for parts in cut for part in parts))


def select_rows(snapshot: Snapshot, row_filter: RowFilter) -> list[tuple[Fragment, Ranges]]:
    """Find the rows that satisfy a filter: fragments that have any, each with their positions in its file.

    Reads the columns that the filter names, of the fragments that `pruned` leaves; the ranges of rows that come
    singly take about a hundred bytes each.
    """
    left = pruned(snapshot, row_filter)
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        found = pool.map(lambda fragment: matching_ranges(left, fragment, row_filter), left.fragments)
        return [(fragment, ranges) for fragment, ranges in zip(left.fragments, found, strict=True) if ranges]


def count_rows(snapshot: Snapshot, row_filter: RowFilter) -> int:
    """Count the rows that satisfy a filter; reads the columns that it names."""

    def matching(fragment: Fragment) -> int:
        batches = snapshot.read(fragment, row_filter.columns, _BATCH_ROWS)
        return sum(len(row_filter.kept(rows)) for rows in batches)

    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        return sum(pool.map(matching, snapshot.fragments))


def matching_ranges(snapshot: Snapshot, fragment: Fragment, row_filter: RowFilter) -> Ranges:
    """Return the positions in its file of a fragment's rows that satisfy a filter."""
    found = []
    at = fragment.start
    for rows in snapshot.read(fragment, row_filter.columns, _BATCH_ROWS):
        numbered = rows.append_column("", pa.array(np.arange(at, at + len(rows))))
        found.append(row_filter.kept(numbered).column("").to_numpy())
        at += len(rows)
    return _ranges(np.concatenate(found)) if found else ()


def _ranges(positions: Any) -> Ranges:
    """Join ascending positions."""
    if not len(positions):
        return ()
    breaks = np.flatnonzero(np.diff(positions) != 1) + 1
    starts, stops = positions[np.r_[0, breaks]], positions[np.r_[breaks - 1, len(positions) - 1]] + 1
    return tuple(zip(starts.tolist(), stops.tolist(), strict=True))


def _by_file(snapshot: Snapshot, row_filter: RowFilter) -> list[Fragment]:
    bounds = _delta_bounds(snapshot) if snapshot.format == "delta" else {}
    schema = pa.schema([snapshot.field(name) for name in row_filter.columns])
    form = pads.ParquetFileFormat()
    known = [
        form.make_fragment(str(place), LocalFileSystem(), _known(schema, fragment, bounds.get(fragment.path, {})))
        for place, fragment in enumerate(snapshot.fragments)
    ]
    dataset = pads.FileSystemDataset(known, schema, form, LocalFileSystem())
    left = {int(fragment.path) for fragment in dataset.get_fragments(row_filter.possible(schema))}
    return [fragment for place, fragment in enumerate(snapshot.fragments) if place in left]


def _delta_bounds(snapshot: Snapshot) -> dict[str, Bounds]:
    """What the log says of each file."""
    table = DeltaTable(snapshot.uri, version=int(snapshot.version), storage_options=delta_options(snapshot.uri))
    rows = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return {unquote(row["path"]): row for row in rows}


def _known(schema: pa.Schema, fragment: Fragment, bounds: Bounds) -> Any:
    """Everything known of a file's rows, as an expression."""
    known = pc.scalar(True)
    for field in schema:
        if field.name in fragment.constants:
            value = pa.scalar(fragment.constants[field.name]).cast(field.type)
            column = pc.field(field.name)
            known = known & (column == value if value.is_valid else column.is_null())
        elif f"min.{field.name}" in bounds:
            known = known & _within(field, bounds)
    return known


def _within(field: pa.Field, bounds: Bounds) -> Any:
    """Bounds of a column in one file; true when the log does not have both."""
    least, greatest = bounds[f"min.{field.name}"], bounds.get(f"max.{field.name}")
    if least is None or greatest is None or least != least or greatest != greatest:
        return pc.scalar(True)
    if isinstance(greatest, datetime):
        greatest += _TIME_STEP
    try:
        low, high = pa.scalar(least, field.type), pa.scalar(greatest, field.type)
    except (pa.ArrowException, TypeError, ValueError):
        return pc.scalar(True)
    column = pc.field(field.name)
    inside = (column >= low) & (column <= high)
    return inside if bounds.get(f"null_count.{field.name}") == 0 else inside | column.is_null()


def _by_row_group(snapshot: Snapshot, fragment: Fragment, row_filter: RowFilter) -> Iterator[Fragment]:
    """Cut a fragment to runs of row groups that may hold fitting rows."""
    if snapshot.format == "delta" and fragment.row_groups is None:
        yield fragment  # a small file, whose bounds the log has said
        return
    if snapshot.reader is not None or fragment.names:
        yield fragment  # not Parquet, or its columns have other names
        return
    uri = join(snapshot.uri, fragment.path)
    schema = pa.schema([snapshot.field(name) for name in row_filter.columns])
    file = pads.ParquetFileFormat().make_fragment(
        inner_path(uri),
        PyFileSystem(FSSpecHandler(filesystem(uri))),
        _known(schema, fragment, {}),
        row_groups=fragment.row_groups,
    )
    if not {*schema.names} <= {*file.physical_schema.names, *fragment.constants}:
        yield fragment  # a file from before a column was added
        return
    groups = [group.id for group in file.row_groups]
    rows = {group.id: group.num_rows for group in file.row_groups}
    left = {group.id for group in file.subset(row_filter.possible(schema), schema=schema).row_groups}
    yield from _runs(fragment, groups, rows, left)


def _runs(
    fragment: Fragment, groups: Sequence[int], rows: Mapping[int, int], left: set[int]
) -> Iterator[Fragment]:
    if len(left) == len(groups):
        yield fragment
        return
    start = fragment.start
    for wanted, run in groupby(groups, left.__contains__):
        numbers = tuple(run)
        count = sum(rows[number] for number in numbers)
        if wanted and count:
            size = fragment.size * len(numbers) // len(groups)
            yield replace(fragment, start=start, rows=count, size=size, row_groups=numbers)
        start += count
