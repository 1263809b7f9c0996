"""What a run is to do, all told: units to embed, and rows that the tables hold and the source has no more.

Rows of files that the source has under other names, or not at all, are compared by their signatures; `Compare`
brings those of the source, from wherever rows are read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.jobs.done import HeldRows
from lakebed.jobs.moved import Moved
from lakebed.jobs.output import FILE, KEY
from lakebed.jobs.ranges import NONE, Mask, Positions, count, ranges_of, split_at, within
from lakebed.jobs.signatures import Signatures, found_in, joined, matched, signatures_of
from lakebed.jobs.units import Held, Unit, all_held, files_gone, units_left
from lakebed.platform.config.embed import ColumnsConfig
from lakebed.platform.lake.fragments import Fragment, Snapshot

_BATCH_ROWS: Final = 65_536


@dataclass(frozen=True, eq=False)
class UnitSignatures:
    """Of the rows of one unit: their positions (n,) in its file, and their signatures."""

    positions: Positions
    signatures: Signatures


Compare = Callable[[Sequence[Unit]], Iterator[UnitSignatures]]
"""Reads the rows of units, in their order, and gives their signatures."""

Surplus = Mapping[str, Mask]
"""By part of a table: which of its rows are to go."""


@dataclass(frozen=True, eq=False)
class Work:
    """What a run is to do. `held` rows of this version of the source are there, `rejected` of them as bad.

    `moved` is what a comparison found out, when all that is held of files that are gone lies in other files now.
    """

    units: tuple[Unit, ...]
    held: int
    rejected: int
    surplus: Surplus = field(default_factory=dict)
    surplus_rejected: Surplus = field(default_factory=dict)
    moved: Moved | None = None

    @property
    def rows(self) -> int:
        """How many rows are to be embedded."""
        return sum(unit.rows for unit in self.units)

    @property
    def removed(self) -> int:
        """How many rows with vectors are to go."""
        return sum(int(mask.sum()) for mask in self.surplus.values())


def plan_work(
    source: Sequence[Unit],
    result: HeldRows,
    rejected: HeldRows,
    columns: ColumnsConfig,
    compare: Compare,
    *,
    moved: Moved | None = None,
    again: bool = False,
    retry: bool = False,
) -> Work:
    """Tell what is left to do of the units of a source; raises CommitError when the tables hold a row twice.

    `moved` is what an earlier comparison found out; `again` replaces all that is held; `retry` tries again what is
    held as bad.
    """
    held = all_held([*result.parts, *rejected.parts], result.snapshot.uri)
    if again:
        units = tuple(replace(unit, held_back=True) for unit in source)
        return Work(units, 0, 0, _everything(result), _everything(rejected))
    gone = files_gone(source, held)
    if gone and moved and not any(rejected.parts_with(gone)):
        others = {file: ranges for file, ranges in held.items() if file not in gone}
        found = moved.held(gone, result, source, others)
        held, gone = (held, gone) if found is None else (found, frozenset())
    units = units_left(source, held)
    bad = sum(_rows_outside(part, gone) for part in rejected.parts)
    if gone:
        work = _compared(units, gone, result, rejected, columns, compare, bad)
    else:
        work = Work(units, sum(unit.rows for unit in source) - sum(unit.rows for unit in units), bad)
    return _with_retries(work, source, rejected) if retry else work


def _with_retries(work: Work, source: Sequence[Unit], rejected: HeldRows) -> Work:
    """Add what is held as bad; it takes its own place in the last commit."""
    retried = []
    bad = all_held(rejected.parts, rejected.snapshot.uri)
    for fragment in (unit.fragment for unit in source):
        todo = within(bad.get(fragment.file, NONE), fragment.start, fragment.start + fragment.rows)
        retried += [Unit(fragment, todo, held_back=True)] if todo else []
    count = sum(unit.rows for unit in retried)
    return replace(
        work,
        units=(*work.units, *retried),
        held=work.held - count,
        rejected=work.rejected - count,
        surplus_rejected=_everything(rejected),
    )


def _everything(rows: HeldRows) -> Surplus:
    return {part.path: np.ones(part.rows, np.bool_) for part in rows.snapshot.fragments}


def _compared(
    units: tuple[Unit, ...],
    gone: frozenset[str],
    result: HeldRows,
    rejected: HeldRows,
    columns: ColumnsConfig,
    compare: Compare,
    bad: int,
) -> Work:
    old = [_OldPart.read(part, result.snapshot, gone, columns) for part in result.parts_with(gone)]
    theirs = joined([part.signatures for part in old])
    found = list(compare(units)) if units and len(theirs) else [_unknown(unit) for unit in units]
    ours = joined([unit.signatures for unit in found])
    kept_ours, kept_theirs = matched(ours.whole, theirs.whole)
    replaced = found_in(ours.keys, theirs.take(~kept_theirs).keys)
    left: list[Unit] = []
    start = 0
    for unit, rows in zip(units, found, strict=True):
        part = slice(start, start + len(rows.positions))
        left += _units_of(unit, rows.positions, kept_ours[part], replaced[part])
        start = part.stop
    held = sum(_rows_outside(part, gone) for part in result.parts) + int(kept_ours.sum())
    moved = None
    if kept_theirs.all():
        places = _places(zip(units, found, strict=True), kept_ours)
        moved = Moved(gone, frozenset(part.path for part in old), places)
    surplus = dict(_surplus(old, kept_theirs)), dict(_all_of(rejected, gone))
    return Work(tuple(left), held + bad, bad, *surplus, moved)


def _places(units: Iterable[tuple[Unit, UnitSignatures]], kept: Mask) -> Held:
    """Positions that are kept, by file."""
    found: dict[str, list[Positions]] = {}
    start = 0
    for unit, rows in units:
        mask = kept[start : start + len(rows.positions)]
        start += len(rows.positions)
        if mask.any():
            found.setdefault(unit.fragment.file, []).append(rows.positions[mask])
    return {file: ranges_of(np.concatenate(positions)) for file, positions in found.items()}


def _units_of(unit: Unit, positions: Positions, kept: Mask, replaced: Mask) -> Iterator[Unit]:
    later, now = split_at(positions[~kept], replaced[~kept])
    if now:
        yield replace(unit, todo=now)
    if later:
        yield replace(unit, todo=later, held_back=True)


def _unknown(unit: Unit) -> UnitSignatures:
    """Rows that need no comparison: there is nothing to compare them with."""
    positions = np.concatenate([np.arange(start, stop) for start, stop in unit.todo])
    none = np.zeros((len(positions), 2), np.uint64)
    return UnitSignatures(positions, Signatures(none, none))


@dataclass(frozen=True, eq=False)
class _OldPart:
    """A part that holds rows of files that are gone: which of its rows, and their signatures."""

    path: str
    old: Mask
    signatures: Signatures

    @classmethod
    def read(cls, part: Fragment, table: Snapshot, gone: frozenset[str], columns: ColumnsConfig) -> "_OldPart":
        masks, found = [], []
        names = pa.array(sorted(gone))
        for rows in table.read(part, tuple(dict.fromkeys((*columns.copied, KEY, FILE))), _BATCH_ROWS):
            mask = pc.is_in(rows.column(FILE), value_set=names).to_numpy(zero_copy_only=False)
            rows = rows.filter(pa.array(mask))
            contents = rows.column(KEY).to_pylist()
            masks.append(mask)
            found.append(signatures_of(rows, contents, table.schema, columns.copied, columns.keys))
        return cls(part.path, np.concatenate(masks), joined(found))


def _surplus(parts: Sequence[_OldPart], kept: Mask) -> Iterator[tuple[str, Mask]]:
    start = 0
    for part in parts:
        surplus = part.old.copy()
        stop = start + len(part.signatures)
        surplus[part.old] = ~kept[start:stop]
        start = stop
        if surplus.any():
            yield part.path, surplus


def _all_of(rejected: HeldRows, gone: frozenset[str]) -> Iterator[tuple[str, Mask]]:
    """Rows of a quarantine table whose files are gone: what is the matter with them is found out anew."""
    names = pa.array(sorted(gone), pa.string())
    for part in rejected.parts_with(gone):
        rows = pa.concat_tables(rejected.snapshot.read(part, (FILE,), _BATCH_ROWS))
        yield part.path, pc.is_in(rows.column(FILE), value_set=names).to_numpy(zero_copy_only=False)


def _rows_outside(part: Held, gone: frozenset[str]) -> int:
    return sum(count(ranges) for file, ranges in part.items() if file not in gone)
