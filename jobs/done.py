"""What the two tables of a job hold already, read back from them: positions of the source, part by part.

Knows where rows say what they are of, not what is to be done about it.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.jobs.output import FILE, PLACE
from lakebed.jobs.ranges import Ranges, ranges_of
from lakebed.jobs.units import Held
from lakebed.platform.lake.fragments import Fragment, Snapshot

_PARTS_AT_ONCE: Final = 8
_BATCH_ROWS: Final = 65_536


@dataclass(frozen=True)
class HeldRows:
    """Rows of one slot of a table, `snapshot`: which positions of which files each part holds."""

    snapshot: Snapshot
    parts: tuple[Held, ...]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.snapshot.rows

    def parts_with(self, files: Iterable[str]) -> Iterator[Fragment]:
        """Parts that hold rows of any of these files."""
        wanted = frozenset(files)
        for fragment, held in zip(self.snapshot.fragments, self.parts, strict=True):
            if wanted.intersection(held):
                yield fragment


def held_rows(snapshot: Snapshot) -> HeldRows:
    """Read a slot's places, several parts at a time."""
    with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
        return HeldRows(snapshot, tuple(pool.map(lambda part: _held(snapshot, part), snapshot.fragments)))


def _held(snapshot: Snapshot, part: Fragment) -> Held:
    found: dict[str, list[np.ndarray]] = {}
    for rows in snapshot.read(part, (FILE, PLACE), _BATCH_ROWS):
        for file, positions in _by_file(rows):
            found.setdefault(file, []).append(positions)
    return {file: _ranges(positions) for file, positions in found.items()}


def _ranges(positions: list[np.ndarray]) -> Ranges:
    return ranges_of(np.concatenate(positions))


def _by_file(rows: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
    files = pc.dictionary_encode(rows.column(FILE)).combine_chunks()
    positions = rows.column(PLACE).to_numpy()
    indices = files.indices.to_numpy(zero_copy_only=False)
    for index, file in enumerate(files.dictionary.to_pylist()):
        yield file, positions[indices == index]
