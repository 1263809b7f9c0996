"""Rows that could not be embedded, read back from their table: which, where in the source, and why.

Knows the table's columns, not how rows get there.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lakebed.jobs.run_record import tables_of
from lakebed.platform.config.embed import RESERVED_PREFIX
from lakebed.platform.config.storage import SinkConfig, TableConfig
from lakebed.platform.errors import TableError, TableNotFoundError
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.tables import open_table

CODE: Final = "lb_error_code"
MODEL: Final = "lb_model"

_PLACE: Final = ("lb_file", "lb_position")
_REASON: Final = (CODE, "lb_error")
_BATCH_ROWS: Final = 8192


@dataclass(frozen=True)
class QuarantinedRows:
    """What a quarantine table holds: counts of all its rows by code, and some of them, column by column."""

    uri: str
    version: str | None
    codes: Mapping[str, int]
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    @property
    def total(self) -> int:
        """Number of all rows."""
        return sum(self.codes.values())

    def as_json(self) -> dict[str, Any]:
        """Everything as one object; values are as the table has them."""
        return {
            "quarantine": self.uri,
            "version": self.version,
            "quarantined": self.total,
            **{f"quarantined/{code}": count for code, count in sorted(self.codes.items())},
            "rows": [dict(row) for row in self.rows],
        }


def read_quarantine(table: TableConfig, code: str | None = None, limit: int | None = None) -> QuarantinedRows:
    """Read counts, and at most `limit` rows, of one code or of all.

    A table that is not there holds no rows: it is made with the first bad one. Raises TableError when what lies
    there is no quarantine table.
    """
    try:
        snapshot = open_table(table)
    except TableNotFoundError:
        return QuarantinedRows(table.uri, None, {}, (), ())
    columns = _columns(snapshot)
    most = math.inf if limit is None else limit
    codes: Counter[str] = Counter()
    rows: list[Mapping[str, Any]] = []
    for fragment in snapshot.fragments:
        is_wanted = len(rows) < most
        for batch in snapshot.read(fragment, columns if is_wanted else (CODE,), _BATCH_ROWS):
            found = batch.to_pylist()
            codes.update(row[CODE] for row in found)
            rows += [row for row in found if code in (None, row[CODE])] if is_wanted else []
    return QuarantinedRows(snapshot.uri, snapshot.version, codes, columns, tuple(rows[:limit]))


def quarantine_of(table: SinkConfig) -> TableConfig:
    """The quarantine table that a place means: itself, or that of the job whose vectors lie there.

    Raises TableNotFoundError when there is neither.
    """
    try:
        itself = TableConfig(uri=table.uri)
        if is_quarantine(open_table(itself)):
            return itself
    except TableNotFoundError:
        pass  # a run may have ended before its first commit; its ledger says where its bad rows would be
    return as_source(tables_of(table)[1])


def as_source(table: SinkConfig) -> TableConfig:
    """A table that is written to, as one to read."""
    return TableConfig(**table.model_dump())


def is_quarantine(snapshot: Snapshot) -> bool:
    """Whether a table is one of rows that could not be embedded."""
    return {*_PLACE, *_REASON} <= set(snapshot.schema.names)


def _columns(snapshot: Snapshot) -> tuple[str, ...]:
    """The row's keys, its place, the reason, and whose reason it is."""
    if not is_quarantine(snapshot):
        raise TableError(
            f"{snapshot.uri}: this is no quarantine table", hint="name the table of vectors, or a job"
        )
    keys = [name for name in snapshot.schema.names if not name.startswith(RESERVED_PREFIX)]
    return (*keys, *_PLACE, *_REASON, MODEL)
