"""Rows that the source only moved to other files, as a comparison found them: they are compared once.

Kept under `<sink>/_lakebed/moved/`, by the digest of the model. It is a shortcut and no truth: it holds for the
very parts of the table, files and numbers of rows that it names. Where one of these is another, or it cannot be
read, rows are compared again.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lakebed.jobs.done import HeldRows
from lakebed.jobs.ranges import count, first_overlap, joined
from lakebed.jobs.units import Held, Unit
from lakebed.platform.errors import LakebedError
from lakebed.platform.lake.storage import exists, join, read_bytes, replace_file, store_errors

_log = logging.getLogger(__name__)

_FOLDER: Final = ("_lakebed", "moved")
_FORMAT: Final = "lakebed-moved-1"


@dataclass(frozen=True)
class Moved:
    """Rows of files that are `gone`, in `parts` of a table: the positions that they have in the source now."""

    gone: frozenset[str]
    parts: frozenset[str]
    positions: Held

    def held(self, gone: frozenset[str], result: HeldRows, source: Sequence[Unit], others: Held) -> Held | None:
        """Positions of the source's files that a table holds, if this is what became of rows of files `gone`.

        `others` are the positions of files that are not gone; None when rows must be compared.
        """
        if gone != self.gone or {part.path for part in result.parts_with(gone)} != self.parts:
            return None
        if _rows_of(gone, result) != sum(map(count, self.positions.values())):
            return None
        if not self.positions.keys() <= {unit.fragment.file for unit in source}:
            return None
        both = {file: joined([*others.get(file, ()), *self.positions.get(file, ())]) for file in self.positions}
        if any(first_overlap(ranges) is not None for ranges in both.values()):
            return None
        return {**others, **both}


def read_moved(folder: str, digest: str) -> Moved | None:
    """What an earlier run kept of a model's rows; None when there is nothing that can be read."""
    place = _place(folder, digest)
    try:
        with store_errors(place):
            if not exists(place):
                return None
            return _parsed(json.loads(read_bytes(place)))
    except (LakebedError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s: cannot be read, rows are compared again: %s", place, error)
        return None


def keep_moved(folder: str, digest: str, moved: Moved) -> None:
    """Keep what was found; without it, rows are compared again by the next run."""
    place = _place(folder, digest)
    values = {
        "format": _FORMAT,
        "gone": sorted(moved.gone),
        "parts": sorted(moved.parts),
        "positions": {file: list(ranges) for file, ranges in moved.positions.items()},
    }
    try:
        with store_errors(place):
            replace_file(place, json.dumps(values).encode())
    except LakebedError as error:
        _log.warning("%s: cannot be written, the next run will compare the same rows again: %s", place, error)


def _parsed(values: Mapping[str, Any]) -> Moved:
    if values["format"] != _FORMAT:
        raise ValueError(f"format {values['format']!r}")
    positions = {
        str(file): tuple((int(start), int(stop)) for start, stop in ranges)
        for file, ranges in values["positions"].items()
    }
    return Moved(frozenset(values["gone"]), frozenset(values["parts"]), positions)


def _rows_of(files: frozenset[str], result: HeldRows) -> int:
    return sum(count(ranges) for part in result.parts for file, ranges in part.items() if file in files)


def _place(folder: str, digest: str) -> str:
    return join(folder, *_FOLDER, f"{digest}.json")
