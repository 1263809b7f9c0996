"""Whether every planned row came back exactly once. Counts positions, not rows, so nothing can cancel out."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from lakebed.platform.errors import CommitError
from lakebed.platform.lake.fragments import Fragment

Range = tuple[int, int, int]
"""A unit, and positions in it from start to stop."""


class Coverage:
    """Which positions of each unit have been staged, as good or as quarantined rows."""

    def __init__(self, fragments: Sequence[Fragment]) -> None:
        self._fragments = fragments
        self._ranges: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def add(self, ranges: Sequence[Range]) -> None:
        """Note what one part holds."""
        for unit, start, stop in ranges:
            self._ranges[unit].append((start, stop))

    def check(self) -> None:
        """Raise CommitError naming a row that is missing or came twice."""
        for unit, fragment in enumerate(self._fragments):
            expected = 0
            for start, stop in [*sorted(self._ranges[unit]), (fragment.rows, fragment.rows)]:
                if start != expected:
                    fault = "was lost" if start > expected else "came twice"
                    place = fragment.start + min(start, expected)
                    raise CommitError(f"{fragment.path}: row {place} {fault}; nothing was committed")
                expected = stop


def ranges_of(units: Sequence[int], positions: Sequence[int]) -> list[Range]:
    """Return the runs of consecutive positions, per unit."""
    return list(_runs(sorted(zip(units, positions, strict=True))))


def _runs(places: Sequence[tuple[int, int]]) -> Iterator[Range]:
    first: tuple[int, int] | None = None
    last = (-1, -1)
    for place in places:
        if first is None or place != (last[0], last[1] + 1):
            if first is not None:
                yield (*first, last[1] + 1)
            first = place
        last = place
    if first is not None:
        yield (*first, last[1] + 1)
