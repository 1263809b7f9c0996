"""What a run has to do: units of work, told from what the tables hold already.

A unit is a fragment of a file of the source, with the positions in that file that are to be embedded. Knows what
positions are held, not how that was found out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lakebed.jobs.ranges import NONE, Ranges, count, first_overlap, joined, without
from lakebed.platform.errors import CommitError
from lakebed.platform.lake.fragments import Fragment

Held = Mapping[str, Ranges]
"""Positions by file."""


@dataclass(frozen=True)
class Unit:
    """Positions `todo` of the file that `fragment` is of. `held_back`: its rows wait for the last commit."""

    fragment: Fragment
    todo: Ranges
    held_back: bool = False

    @property
    def rows(self) -> int:
        """How many rows are to be embedded."""
        return count(self.todo)

    @property
    def size(self) -> int:
        """Bytes of the file that they take, roughly."""
        return self.fragment.size * self.rows // max(1, self.fragment.rows)


def whole_units(fragments: Sequence[Fragment]) -> tuple[Unit, ...]:
    """Units for every row of a table."""
    whole = (Unit(part, ((part.start, part.start + part.rows),)) for part in fragments)
    return tuple(unit for unit in whole if unit.rows)


def units_left(units: Sequence[Unit], held: Held) -> tuple[Unit, ...]:
    """What is not held yet of units."""
    left = (replace(unit, todo=without(unit.todo, held.get(unit.fragment.file, NONE))) for unit in units)
    return tuple(unit for unit in left if unit.todo)


def files_gone(units: Sequence[Unit], held: Held) -> frozenset[str]:
    """Files that rows are held of and the source does not have."""
    return frozenset(held) - {unit.fragment.file for unit in units}


def all_held(parts: Sequence[Held], uri: str) -> Held:
    """Join what several tables hold; raises CommitError when a row is held twice."""
    files: dict[str, list[tuple[int, int]]] = {}
    for part in parts:
        for file, ranges in part.items():
            files.setdefault(file, []).extend(ranges)
    return {file: _disjoint(uri, file, ranges) for file, ranges in files.items()}


def _disjoint(uri: str, file: str, ranges: list[tuple[int, int]]) -> Ranges:
    found = joined(ranges)
    twice = first_overlap(found)
    if twice is not None:
        raise CommitError(
            f"{uri}: holds row {twice} of {file} twice; it was written to by something else",
            hint="remove the table, or restore an earlier version of it",
        )
    return found
