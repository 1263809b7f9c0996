"""From embedded rows to data files that nobody sees yet, and a short account of them for the driver.

Runs on workers; knows the sinks' folders and columns, not how they commit.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.jobs.coverage import Range, ranges_of
from lakebed.jobs.output import (
    BEGAN,
    ERROR_CODE,
    POSITION,
    SAMPLES,
    TOKENS,
    UNIT,
    Lineage,
    vectors_of,
    with_lineage,
)
from lakebed.platform.config.embed import EMBEDDING
from lakebed.platform.lake.fragments import Fragment
from lakebed.platform.lake.parts import Part, write_part


@dataclass(frozen=True)
class StagingArea:
    """Where a worker puts files of one table: the table's folder, a run's folder in it, the columns."""

    uri: str
    folder: str
    columns: pa.Schema


@dataclass(frozen=True)
class Staged:
    """What one call staged. `began` and `ended` are when its first row was begun and its last file written."""

    part: Part | None
    quarantine: Part | None
    ranges: list[Range]
    errors: Mapping[str, int]
    example: str | None
    tokens: int
    samples: int
    least_norm: float
    greatest_norm: float
    began: float
    ended: float

    @property
    def good(self) -> int:
        """Rows with a vector."""
        return self.part.rows if self.part else 0

    @property
    def bad(self) -> int:
        """Rows that were quarantined."""
        return self.quarantine.rows if self.quarantine else 0


@dataclass(frozen=True)
class Stager:
    """Writes embedded rows to the two tables' staging areas."""

    result: StagingArea
    quarantine: StagingArea
    lineage: Lineage
    fragments: tuple[Fragment, ...]

    def __call__(self, rows: pa.Table) -> Staged:
        """Write the good rows and the bad rows, each to a file of its own."""
        failed = pc.is_valid(rows.column(ERROR_CODE))
        good, bad = rows.filter(pc.invert(failed)), rows.filter(failed)
        norms = np.linalg.norm(vectors_of(good.column(EMBEDDING)).astype(np.float64), axis=1)
        return Staged(
            part=self._write(self.result, good, plain=(EMBEDDING,)),
            quarantine=self._write(self.quarantine, self._with_place(bad)),
            ranges=ranges_of(rows.column(UNIT).to_pylist(), rows.column(POSITION).to_pylist()),
            errors=Counter(bad.column(ERROR_CODE).to_pylist()),
            example=bad.column("lb_error")[0].as_py() if len(bad) else None,
            tokens=pc.sum(rows.column(TOKENS)).as_py() or 0,
            samples=pc.sum(rows.column(SAMPLES)).as_py() or 0,
            least_norm=float(norms.min(initial=1)),
            greatest_norm=float(norms.max(initial=1)),
            began=pc.min(rows.column(BEGAN)).as_py(),
            ended=time.time(),
        )

    def _write(self, area: StagingArea, rows: pa.Table, plain: tuple[str, ...] = ()) -> Part | None:
        if not len(rows):
            return None
        return write_part(area.uri, area.folder, with_lineage(rows, self.lineage, area.columns), plain)

    def _with_place(self, rows: pa.Table) -> pa.Table:
        """Say where in the source each row lies: its file, and its position in that file."""
        fragments = [self.fragments[unit] for unit in rows.column(UNIT).to_pylist()]
        starts = pa.array([fragment.start for fragment in fragments], pa.int64())
        files: Any = pa.array([fragment.path for fragment in fragments], pa.string())
        rows = rows.append_column("lb_file", files)
        return rows.append_column("lb_position", pc.add(rows.column(POSITION), starts))
