"""The table to try things on: real recordings, every class in words, and rows that belong in a quarantine."""

from deltalake import DeltaTable

from lakebed.eval.sample_table import (
    ROWS_PER_SET,
    SCHEMA,
    WORDS,
    sample_table,
    unseen_recording,
    write_sample_table,
)
from lakebed.platform.errors import InvalidItemError
from lakebed.platform.items import item_of


def _failure(row):
    try:
        item_of({"text": row["note"], "time_series": row["series"]})
    except InvalidItemError as error:
        return error.code
    return None


def test_the_sample_is_real_with_two_damaged_rows(tmp_path):
    rows = write_sample_table(str(tmp_path / "table"))
    table = DeltaTable(tmp_path / "table").to_pyarrow_table().to_pylist()
    assert rows == len(table)
    assert set(table[0]) == set(SCHEMA.names)
    assert {row["recording"] for row in table} == set(WORDS)
    assert len({row["id"] for row in table}) == rows
    assert max(sum(row["recording"] == name for row in table) for name in WORDS) <= ROWS_PER_SET + 2
    failures = {row["id"]: code for row in table if (code := _failure(row))}
    assert failures == {"damaged-gap": "non_finite", "damaged-torn": "ragged"}


def test_writing_again_is_a_new_version_with_the_same_rows(tmp_path):
    rows = [write_sample_table(str(tmp_path / "table")) for _ in range(2)]
    assert rows[0] == rows[1]
    assert DeltaTable(tmp_path / "table").version() == 1


def test_the_unseen_recording_is_not_in_the_table():
    label, series = unseen_recording()
    assert label in WORDS["BasicMotions"].classes.values()
    assert series not in sample_table().column("series").to_pylist()
