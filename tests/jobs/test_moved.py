"""What is kept of rows that were only moved: used for what it was found of, and for nothing else."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from lakebed.jobs.done import HeldRows
from lakebed.jobs.moved import Moved, keep_moved, read_moved
from lakebed.jobs.units import Unit
from lakebed.platform.lake.fragments import Fragment, Snapshot

MOVED = Moved(frozenset({"old"}), frozenset({"part-1"}), {"new": ((0, 10),)})
OTHERS = {"appended": ((0, 3),)}


def fragment(path: str, rows: int) -> Fragment:
    return Fragment(path, 0, rows, size=1)


def result(rows: int = 10, path: str = "part-1") -> HeldRows:
    """A table whose first part holds rows of a file that is gone, and whose second those of another file."""
    parts = (fragment(path, rows), fragment("part-2", 3))
    return HeldRows(Snapshot("sink", "parquet", "1", pa.schema([]), parts), ({"old": ((0, rows),)}, OTHERS))


def source(*files: str) -> list[Unit]:
    return [Unit(fragment(file, 20), ((0, 20),)) for file in files]


def test_rows_are_held_where_they_were_moved_to() -> None:
    held = MOVED.held(frozenset({"old"}), result(), source("new", "appended"), OTHERS)
    assert held == {"new": ((0, 10),), "appended": ((0, 3),)}
    more = MOVED.held(frozenset({"old"}), result(), source("new"), {"new": ((10, 12),)})
    assert more == {"new": ((0, 12),)}


@pytest.mark.parametrize(
    ("gone", "table", "files", "others"),
    [
        ({"old", "newer"}, result(), ("new",), {}),
        ({"old"}, result(rows=9), ("new",), {}),
        ({"old"}, result(path="part-3"), ("new",), {}),
        ({"old"}, result(), ("newest",), {}),
        ({"old"}, result(), ("new",), {"new": ((9, 12),)}),
    ],
    ids=["another file is gone", "fewer rows", "another part", "moved again", "held twice"],
)
def test_where_anything_is_another_rows_are_compared(
    gone: set[str], table: HeldRows, files: tuple[str, ...], others: dict[str, tuple[tuple[int, int], ...]]
) -> None:
    assert MOVED.held(frozenset(gone), table, source(*files), others) is None


def test_it_is_read_as_it_was_kept_for_the_model_it_is_of(tmp_path: Path) -> None:
    keep_moved(str(tmp_path), "abc", MOVED)
    assert read_moved(str(tmp_path), "abc") == MOVED
    assert read_moved(str(tmp_path), "other") is None
    keep_moved(str(tmp_path), "abc", later := replace(MOVED, gone=frozenset({"older"})))
    assert read_moved(str(tmp_path), "abc") == later


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "later"}', '{"format": "lakebed-moved-1"}'])
def test_what_cannot_be_read_is_as_if_it_were_not_there(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    keep_moved(str(tmp_path), "abc", MOVED)
    (tmp_path / "_lakebed" / "moved" / "abc.json").write_text(content)
    assert read_moved(str(tmp_path), "abc") is None
    assert "rows are compared again" in caplog.text
