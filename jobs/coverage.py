"""Whether every planned row comes back exactly once. Counts positions, not rows, so nothing can cancel out."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from lakebed.jobs.ranges import Ranges, first_overlap, joined, without
from lakebed.jobs.units import Unit
from lakebed.platform.errors import CommitError


class Coverage:
    """Which positions of each unit have been staged, as good or as quarantined rows."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = units
        self._ranges: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def add(self, ranges: Mapping[int, Ranges]) -> None:
        """Note what one part holds, by unit."""
        for unit, found in ranges.items():
            self._ranges[unit].extend(found)

    def check_once(self) -> None:
        """Raise CommitError naming a row that came twice, or was not planned."""
        for number, ranges in self._ranges.items():
            unit, found = self._units[number], joined(ranges)
            self._ranges[number] = list(found)
            twice = first_overlap(found)
            if twice is not None:
                raise _fault(unit, twice, "came twice")
            for start, _ in without(found, unit.todo):
                raise _fault(unit, start, "was not asked for")

    def check_whole(self) -> None:
        """Raise CommitError naming a row that is missing, came twice, or was not planned."""
        self.check_once()
        for number, unit in enumerate(self._units):
            for start, _ in without(unit.todo, joined(self._ranges[number])):
                raise _fault(unit, start, "was lost")


def _fault(unit: Unit, position: int, fault: str) -> CommitError:
    return CommitError(f"{unit.fragment.path}: row {position} {fault}; nothing more was committed")
