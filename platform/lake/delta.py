"""Delta tables, through delta-rs: fragments of a pinned version, and commits that are whole or nothing.

The log of the table itself says who owns it and how often it was committed to: an application transaction
`lakebed/<owner>` (Delta protocol, "Transaction Identifiers"). delta-rs records it and refuses two *concurrent*
commits with one id, but takes a stale number from a fresh handle; so the number is compared on the handle that
commits.
"""

import json
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions

from lakebed.platform import errors
from lakebed.platform.lake.fragments import DataFile, Snapshot, fragments_of
from lakebed.platform.lake.parts import Part
from lakebed.platform.lake.sink import (
    SLOT_COLUMN,
    SOURCE_VERSION_COLUMN,
    Commit,
    Owner,
    SinkState,
    check_columns,
)
from lakebed.platform.lake.storage import delta_options, exists, join, remove_folder, store_errors

_UNREADABLE: Final = frozenset({"columnMapping"})
_RUN: Final = "lakebed.run"
_COMMITS_SEARCHED: Final = 50
_SIGNED: Final = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}


def is_delta(uri: str) -> bool:
    """Whether a Delta table lies there."""
    return exists(join(uri, "_delta_log"))


def open_delta(uri: str, version: int | None = None) -> Snapshot:
    """Open a table, at a version or at its newest."""
    with store_errors(uri):
        table = _load_version(uri, version)
        _check_readable(uri, table)
        schema = pa.schema(table.schema().to_arrow())
        files = [_data_file(row) for row in _added(table)]
        return Snapshot(uri, "delta", str(table.version()), schema, fragments_of(uri, files))


def _load_version(uri: str, version: int | None) -> DeltaTable:
    newest = _load(uri)
    if newest is None:
        raise errors.TableNotFoundError(f"{uri}: there is no Delta table", hint="check the path")
    if version is None or version == newest.version():
        return newest
    if version > newest.version():
        raise errors.TableNotFoundError(
            f"{uri}: there is no version {version}", hint=f"the newest is {newest.version()}"
        )
    try:
        return DeltaTable(uri, version=version, storage_options=delta_options(uri))
    except DeltaError as error:
        raise errors.TableNotFoundError(f"{uri}: version {version} is gone: {error}") from None


def _load(uri: str) -> DeltaTable | None:
    try:
        return DeltaTable(uri, storage_options=delta_options(uri))
    except TableNotFoundError:
        return None


def _check_readable(uri: str, table: DeltaTable) -> None:
    """Refuse tables whose files do not hold their rows as they stand."""
    refused = _UNREADABLE.intersection(table.protocol().reader_features or ())
    if refused:
        raise errors.TableError(f"{uri}: uses {', '.join(refused)}, which is not supported")
    if pa.table(table.deletion_vectors().read_all()).num_rows:
        raise errors.TableError(
            f"{uri}: has deletion vectors, which are not supported", hint="purge them: REORG TABLE … APPLY (PURGE)"
        )


def _added(table: DeltaTable) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return rows


def _data_file(row: dict[str, Any]) -> DataFile:
    constants = {
        name.removeprefix("partition."): value for name, value in row.items() if name.startswith("partition.")
    }
    return DataFile(unquote(row["path"]), row["size_bytes"], row.get("num_records"), constants)


class DeltaSink:
    """A Delta table of one owner, partitioned by model digest."""

    def __init__(self, uri: str, schema: pa.Schema, owner: Owner) -> None:
        self.uri = uri
        self.schema = storable(uri, schema)
        self._owner = owner
        self._application = f"lakebed/{owner.key}"

    def open(self) -> SinkState:
        """Look at the table; raises TableError when it is another job's, or has other columns."""
        with store_errors(self.uri):
            table = _load(self.uri)
            if table is None:
                return SinkState(False, 0, None, {})
            sequence = table.transaction_version(self._application)
            if sequence is None:
                raise self._owner.refuse(self.uri, table.metadata().description)
            check_columns(self.uri, pa.schema(table.schema().to_arrow()), self.schema)
            return SinkState(True, sequence, str(table.version()), _slots(table))

    @property
    def stored_columns(self) -> pa.Schema:
        """Columns of a data file: the log holds the one that the table is partitioned by."""
        return self.schema.remove(self.schema.get_field_index(SLOT_COLUMN))

    def folder(self, run: str) -> str:
        """Folder inside the table that a run stages its parts in; VACUUM removes what was never committed."""
        return f"run-{run}"

    def commit(self, state: SinkState, commit: Commit) -> str:
        """Make parts visible and return the new version; raises CommitError, and then nothing has changed."""
        try:
            with store_errors(self.uri):
                return self._commit(state, commit)
        except (errors.CommitError, errors.TableNotFoundError):
            raise
        except errors.LakebedError as error:
            landed = self._version_of(commit.run)  # the store's answer may be what was lost
            if landed is not None:
                return landed
            raise errors.CommitError(f"{self.uri}: the commit failed: {error.message}") from error

    def discard(self, run: str) -> None:
        """Remove what a run staged and did not commit."""
        with store_errors(self.uri):
            remove_folder(join(self.uri, self.folder(run)))

    def _commit(self, state: SinkState, commit: Commit) -> str:
        added = [_add_action(part, commit.slot) for part in commit.parts]
        table = _load(self.uri)
        if table is None:
            return self._create(added, commit)
        if not state.exists or table.transaction_version(self._application) != state.sequence:
            raise self._overtaken()
        try:
            table.create_write_transaction(
                [*added],
                "overwrite",
                Schema.from_arrow(self.schema),
                partition_by=[SLOT_COLUMN],
                partition_filters=[(SLOT_COLUMN, "=", commit.slot)],
                commit_properties=self._properties(commit, state.sequence + 1),
            )
        except CommitFailedError:
            raise self._overtaken() from None
        return str(table.version())

    def _create(self, added: list[AddAction], commit: Commit) -> str:
        """Make the table and its rows in one commit, so that no reader meets an empty table."""
        create_table_with_add_actions(
            self.uri,
            Schema.from_arrow(self.schema),
            added,
            mode="error",
            partition_by=[SLOT_COLUMN],
            description=self._owner.text,
            storage_options=delta_options(self.uri),
            commit_properties=self._properties(commit, 1),
        )
        return "0"

    def _properties(self, commit: Commit, sequence: int) -> CommitProperties:
        return CommitProperties(
            custom_metadata={_RUN: commit.run, **commit.metadata},
            app_transactions=[Transaction(self._application, sequence)],
            max_commit_retries=0,  # a retry would land on a state that nobody compared
        )

    def _overtaken(self) -> errors.CommitError:
        return errors.CommitError(
            f"{self.uri}: another run of this job committed first; nothing of this run was written",
            hint="run it again if the other run's result is not the one you want",
        )

    def _version_of(self, run: str) -> str | None:
        """Version that a run's commit became, if it landed."""
        table = _load(self.uri)
        history = table.history(_COMMITS_SEARCHED) if table else []
        return next((str(entry["version"]) for entry in history if entry.get(_RUN) == run), None)


def storable(uri: str, schema: pa.Schema) -> pa.Schema:
    """Return a schema with every type one that Delta holds without loss; raises TableError when there is none.

    delta-rs would take unsigned integers for signed ones of the same width.
    """
    schema = pa.schema([field.with_type(_wider(field.type)) for field in schema])
    try:
        Schema.from_arrow(schema)
    except Exception as error:  # noqa: BLE001  delta-rs raises bare Exception, with a stack in its text
        fault = str(error).splitlines()[0]
        raise errors.TableError(
            f"{uri}: Delta cannot hold a column of the result: {fault}", hint="leave it out, or write Parquet"
        ) from None
    return schema


def _wider(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_uint64(kind):
        return pa.decimal128(20, 0)
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    return _SIGNED.get(kind, kind)


def _add_action(part: Part, slot: str) -> AddAction:
    return AddAction(part.path, part.size, {SLOT_COLUMN: slot}, 0, True, json.dumps(part.statistics))


def _slots(table: DeltaTable) -> dict[str, str | None]:
    """Tell each slot's source version from the statistics of its files."""
    slots: dict[str, str | None] = {}
    for row in _added(table):
        slot = row[f"partition.{SLOT_COLUMN}"]
        least, greatest = (row.get(f"{bound}.{SOURCE_VERSION_COLUMN}") for bound in ("min", "max"))
        version = least if least == greatest else None
        slots[slot] = version if slots.get(slot, version) == version else None
    return slots
