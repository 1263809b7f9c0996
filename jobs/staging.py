"""From embedded rows to data files that nobody sees yet, and a short account of them for the driver.

Runs on workers; knows the sinks' columns, not how they commit.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.jobs.output import (
    BEGAN,
    ERROR_CODE,
    FILE,
    KEY,
    PLACE,
    POSITION,
    SAMPLES,
    TOKENS,
    UNIT,
    Lineage,
    vectors_of,
    with_lineage,
)
from lakebed.jobs.ranges import Ranges, ranges_of
from lakebed.jobs.units import Unit
from lakebed.jobs.validation import equal_vectors
from lakebed.platform.config.embed import EMBEDDING
from lakebed.platform.lake.parts import Part, PartWriter


@dataclass(frozen=True)
class StagedRows:
    """What one call staged of rows that may be committed together."""

    part: Part | None
    quarantine: Part | None

    @property
    def good(self) -> int:
        """Rows with a vector."""
        return self.part.rows if self.part else 0

    @property
    def bad(self) -> int:
        """Rows that were quarantined."""
        return self.quarantine.rows if self.quarantine else 0


@dataclass(frozen=True)
class Staged:
    """What one call staged. `held_back` are rows for the last commit, `ranges` positions by unit.

    `equal` counts rows that have the vector of another content. `began` and `ended` are when its first row was
    begun and its last file written.
    """

    rows: StagedRows
    held_back: StagedRows
    ranges: Mapping[int, Ranges]
    errors: Mapping[str, int]
    example: str | None
    tokens: int
    samples: int
    equal: int
    least_norm: float
    greatest_norm: float
    began: float
    ended: float

    @property
    def good(self) -> int:
        """Rows with a vector."""
        return self.rows.good + self.held_back.good

    @property
    def bad(self) -> int:
        """Rows that were quarantined."""
        return self.rows.bad + self.held_back.bad


@dataclass(frozen=True)
class Stager:
    """Writes embedded rows of `units` to the staging areas of the two tables."""

    result: PartWriter
    quarantine: PartWriter
    lineage: Lineage
    units: tuple[Unit, ...]

    def __call__(self, rows: pa.Table) -> Staged:
        """Write the good rows and the bad rows, each to a file of its own."""
        good, bad = _parted(rows)
        vectors = vectors_of(good.column(EMBEDDING))
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        return Staged(
            rows=self._written(good, bad, held_back=False),
            held_back=self._written(good, bad, held_back=True),
            ranges=_ranges(rows),
            errors=Counter(bad.column(ERROR_CODE).to_pylist()),
            example=bad.column("lb_error")[0].as_py() if len(bad) else None,
            tokens=pc.sum(rows.column(TOKENS)).as_py() or 0,
            samples=pc.sum(rows.column(SAMPLES)).as_py() or 0,
            equal=equal_vectors(vectors, good.column(KEY).to_pylist()),
            least_norm=float(norms.min(initial=1)),
            greatest_norm=float(norms.max(initial=1)),
            began=pc.min(rows.column(BEGAN)).as_py(),
            ended=time.time(),
        )

    def _written(self, good: pa.Table, bad: pa.Table, *, held_back: bool) -> StagedRows:
        return StagedRows(
            self._write(self.result, self._chosen(good, held_back), plain=(EMBEDDING,)),
            self._write(self.quarantine, self._chosen(bad, held_back)),
        )

    def _chosen(self, rows: pa.Table, held_back: bool) -> pa.Table:
        """Rows of the units that are held back, or of the others."""
        if not any(unit.held_back for unit in self.units):
            return rows.slice(0, 0) if held_back else rows
        chosen = np.array([unit.held_back is held_back for unit in self.units])
        return rows.filter(pa.array(chosen[rows.column(UNIT).to_numpy()]))

    def _write(self, writer: PartWriter, rows: pa.Table, plain: tuple[str, ...] = ()) -> Part | None:
        if not len(rows):
            return None
        return writer(with_lineage(self._with_place(rows), self.lineage, writer.columns), plain)

    def _with_place(self, rows: pa.Table) -> pa.Table:
        """Say where in the source each row lies: its file, and its position in that file."""
        files = pa.array([unit.fragment.file for unit in self.units], pa.string())
        indices = rows.column(UNIT).combine_chunks()
        rows = rows.append_column(FILE, files.take(indices))
        return rows.append_column(PLACE, rows.column(POSITION))


def _parted(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Rows with a vector, and rows with an error; nothing is copied where all are good."""
    failed = pc.is_valid(rows.column(ERROR_CODE))
    if not pc.any(failed).as_py():
        return rows, rows.slice(0, 0)
    return rows.filter(pc.invert(failed)), rows.filter(failed)


def _ranges(rows: pa.Table) -> dict[int, Ranges]:
    units, positions = rows.column(UNIT).to_numpy(), rows.column(POSITION).to_numpy()
    return {int(unit): ranges_of(positions[units == unit]) for unit in np.unique(units)}
