"""Some rows of a table, from places spread over all of it, read in a bounded time.

Of each fragment at most SKIPPED_BYTES are passed over to reach a place in it, so rows deep inside large files are
not met: a table whose files are each sorted by length is sampled from their beginnings.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa

from lakebed.platform.lake.fragments import Fragment, Snapshot

SKIPPED_BYTES: Final = 32 * 1024**2


def sample(
    snapshot: Snapshot, columns: Sequence[str], places: int, rows: int, seed: int = 0
) -> Iterator[pa.Table]:
    """Yield about `places` tables of at most `rows` neighbouring rows, in random order; the same for one seed.

    Who stops early has still seen rows from all over the table, as far as it is in several files.
    """
    chance = random.Random(seed)
    starts = _starts(snapshot, places, rows, chance)
    order = list(starts)
    chance.shuffle(order)
    for number in order:
        yield from _read_at(snapshot, snapshot.fragments[number], starts[number], columns, rows)


def _starts(snapshot: Snapshot, places: int, rows: int, chance: random.Random) -> dict[int, list[int]]:
    """Where to sample, by fragment: at random in each of equal shares of the table, or all of a small one."""
    if snapshot.rows <= places * rows:
        return {number: list(range(0, part.rows, rows)) for number, part in enumerate(snapshot.fragments)}
    share = snapshot.rows / places
    found: dict[int, list[int]] = defaultdict(list)
    for place in range(places):
        number, start = _locate(snapshot.fragments, int(share * place + chance.random() * (share - rows)))
        found[number].append(start)
    return found


def _locate(fragments: Sequence[Fragment], offset: int) -> tuple[int, int]:
    """The fragment that holds a row of the table, and the row's place in it, brought within reach."""
    for number, fragment in enumerate(fragments):
        if offset < fragment.rows:
            reach = max(1, SKIPPED_BYTES * fragment.rows // max(1, fragment.size))
            return number, offset % reach
        offset -= fragment.rows
    raise IndexError(offset)


def _read_at(
    snapshot: Snapshot, fragment: Fragment, starts: Sequence[int], columns: Sequence[str], rows: int
) -> Iterator[pa.Table]:
    """Yield the batches that hold the rows at `starts`, in one pass."""
    waiting, position = sorted(starts), 0
    for table in snapshot.read(fragment, columns, rows):
        position += len(table)
        if waiting[0] < position:
            yield table
            waiting = [start for start in waiting if start >= position]
            if not waiting:
                return
