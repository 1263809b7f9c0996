"""Delta tables, through delta-rs: fragments of a pinned version, and commits that are whole or nothing.

The log of the table itself says who owns it and how often it was committed to: an application transaction
`lakebed/<owner>` (Delta protocol, "Transaction Identifiers"). delta-rs records it and refuses two *concurrent*
commits with one id, but takes a stale number from a fresh handle; so the number is compared on the handle that
commits.
"""

import json
import re
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote, unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from lakebed.platform import errors
from lakebed.platform.lake.fragments import DataFile, Snapshot, fragments_of, whole_files
from lakebed.platform.lake.parts import ParquetWriter, Part
from lakebed.platform.lake.sink import (
    RUN,
    SEQUENCE,
    SLOT_COLUMN,
    Commit,
    Orphan,
    Owner,
    SinkState,
    answers_lost,
    check_columns,
    described,
    mark_of,
    overtaken,
    rewritten,
)
from lakebed.platform.lake.storage import (
    delta_options,
    exists,
    files_below,
    join,
    names_in,
    read_bytes,
    remove_files,
    remove_folder,
    store_errors,
)

_UNREADABLE: Final = frozenset({"columnMapping"})
_COMMITS_SEARCHED: Final = 50
_COMMIT_ATTEMPTS: Final = 2
_RUNS: Final = "run-"
_LOG_ENTRY: Final = re.compile(r"\d{20}\.json")
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


def delta_sink_at(uri: str) -> "DeltaSink | None":
    """The sink of a table that is there, whichever job made it; raises TableError when none did."""
    with store_errors(uri):
        table = _load(uri)
        if table is None:
            return None
        owner = Owner.of(described(table.metadata().description) or {})
        sink = DeltaSink(uri, pa.schema(table.schema().to_arrow()), owner)
        sink.open()
        return sink


class DeltaSink:
    """A Delta table of one owner, partitioned by model digest."""

    def __init__(self, uri: str, schema: pa.Schema, owner: Owner) -> None:
        self.uri = uri
        self.folder = uri
        self.schema = storable(uri, schema)
        self.owner = owner
        self._application = f"lakebed/{owner.key}"

    def open(self) -> SinkState:
        """Look at the table; raises TableError when it is another job's, or has other columns."""
        with store_errors(self.uri):
            table = _load(self.uri)
            if table is None:
                return SinkState(False, 0, None, {})
            sequence = table.transaction_version(self._application)
            if sequence is None:
                raise self.owner.refuse(self.uri, table.metadata().description)
            check_columns(self.uri, pa.schema(table.schema().to_arrow()), self.schema)
            return self._state(table, sequence)

    def slot(self, state: SinkState, slot: str) -> Snapshot:
        """Rows of one slot, one fragment for each part."""
        if state.version is None:
            return Snapshot(self.uri, "delta", "", self.schema, ())
        with store_errors(self.uri):
            table = DeltaTable(self.uri, version=int(state.version), storage_options=delta_options(self.uri))
            files = [_data_file(row) for row in _added(table) if row[f"partition.{SLOT_COLUMN}"] == slot]
            return Snapshot(self.uri, "delta", state.version, self.schema, whole_files(self.uri, files))

    def writer(self, run: str, slot: str) -> ParquetWriter:
        """What stages parts of a run; the log holds the column that the table is partitioned by."""
        columns = self.schema.remove(self.schema.get_field_index(SLOT_COLUMN))
        return ParquetWriter(self.uri, f"{_RUNS}{run}", columns)

    def commit(self, state: SinkState, commit: Commit) -> SinkState:
        """Commit upon `state`; return what the table is now. Raises CommitError, and then nothing has changed."""
        return self._committed(state, commit, _COMMIT_ATTEMPTS)

    def _committed(self, state: SinkState, commit: Commit, attempts: int) -> SinkState:
        """Commit, or find that the commit is there; again when the store did not answer, as delta-rs does not.

        A request without an answer may still be carried out: then the next finds its number taken, by this run.
        """
        try:
            with store_errors(self.uri):
                return self._commit(state, commit)
        except errors.TableNotFoundError:
            raise
        except errors.LakebedError as error:
            with answers_lost(self.uri):
                landed = self._landed(commit.run, state.sequence + 1)
                if landed is not None:
                    return self._state(landed, state.sequence + 1)
            if isinstance(error, errors.UnreachableError) and attempts > 1:
                return self._committed(state, commit, attempts - 1)
            if isinstance(error, errors.CommitError):
                raise
            raise errors.CommitError(f"{self.uri}: the commit failed: {error.message}", hint=error.hint) from error

    def discard(self, run: str) -> None:
        """Remove what a run staged; only for a run that has committed nothing."""
        with store_errors(self.uri):
            remove_folder(join(self.uri, f"{_RUNS}{run}"))

    def orphans(self) -> list[Orphan]:
        """Data files that runs staged and no version of the table holds; VACUUM removes them as well, later."""
        with store_errors(self.uri):
            runs = [name for name in names_in(self.uri) if name.startswith(_RUNS)]
            staged = [file for run in runs for file in files_below(self.uri, run)]
            known = self._named_in_log() if staged else frozenset()
            return [Orphan(file.path, file.size, file.modified) for file in staged if file.path not in known]

    def remove(self, paths: Sequence[str]) -> None:
        """Remove data files that no version of the table holds."""
        with store_errors(self.uri):
            remove_files(self.uri, paths)

    def _state(self, table: DeltaTable, sequence: int) -> SinkState:
        slots = {row[f"partition.{SLOT_COLUMN}"] for row in _added(table)}
        marks = {slot: table.transaction_version(self._mark(slot)) or None for slot in slots}
        return SinkState(True, sequence, str(table.version()), marks)

    def _mark(self, slot: str) -> str:
        """The application transaction whose number is the slot's mark."""
        return f"{self._application}/{slot}"

    def _commit(self, state: SinkState, commit: Commit) -> SinkState:
        table = _load(self.uri)
        if table is None:
            return self._create(commit)
        if not state.exists or table.transaction_version(self._application) != state.sequence:
            raise overtaken(self.uri)
        actions: list[AddAction | RemoveAction] = [_add_action(part, commit.slot) for part in commit.parts]
        actions += self._removals(table, commit)
        try:
            table.create_write_transaction(
                actions,
                "append",
                Schema.from_arrow(self.schema),
                partition_by=[SLOT_COLUMN],
                commit_properties=self._properties(commit, state.sequence + 1),
            )
        except CommitFailedError:
            raise overtaken(self.uri) from None
        table.load_as_version(table.version() + 1)  # it was committed upon; the handle does not say so by itself
        return self._state(table, state.sequence + 1)

    def _removals(self, table: DeltaTable, commit: Commit) -> list[RemoveAction]:
        if not commit.removed:
            return []
        sizes = {unquote(row["path"]): row["size_bytes"] for row in _added(table)}
        gone = [path for path in commit.removed if path not in sizes]
        if gone:
            raise rewritten(self.uri, gone[0])
        now, values = time.time_ns() // 1_000_000, {SLOT_COLUMN: commit.slot}
        return [RemoveAction(quote(path), True, now, sizes[path], dict(values)) for path in commit.removed]

    def _create(self, commit: Commit) -> SinkState:
        """Make the table and its rows in one commit, so that no reader meets an empty table."""
        create_table_with_add_actions(
            self.uri,
            Schema.from_arrow(self.schema),
            [_add_action(part, commit.slot) for part in commit.parts],
            mode="error",
            partition_by=[SLOT_COLUMN],
            description=self.owner.text,
            storage_options=delta_options(self.uri),
            commit_properties=self._properties(commit, 1),
        )
        return self._state(DeltaTable(self.uri, version=0, storage_options=delta_options(self.uri)), 1)

    def _properties(self, commit: Commit, sequence: int) -> CommitProperties:
        mark = mark_of(commit.complete_for) if commit.complete_for is not None else 0
        return CommitProperties(
            custom_metadata={RUN: commit.run, SEQUENCE: str(sequence), **commit.metadata},
            app_transactions=[
                Transaction(self._application, sequence),
                Transaction(self._mark(commit.slot), mark),
            ],
            max_commit_retries=0,  # a retry would land on a state that nobody compared
        )

    def _landed(self, run: str, sequence: int) -> DeltaTable | None:
        """The table right after a commit of a run, if that one landed."""
        table = _load(self.uri)
        for entry in table.history(_COMMITS_SEARCHED) if table else []:
            if (entry.get(RUN), entry.get(SEQUENCE)) == (run, str(sequence)):
                return DeltaTable(self.uri, version=entry["version"], storage_options=delta_options(self.uri))
        return None

    def _named_in_log(self) -> frozenset[str]:
        """Paths that any entry of the log adds or removes, or that the newest version holds."""
        folder = join(self.uri, "_delta_log")
        entries = [name for name in names_in(folder) if _LOG_ENTRY.fullmatch(name)]
        lines = [json.loads(line) for name in entries for line in read_bytes(join(folder, name)).splitlines()]
        named = {action["path"] for line in lines for kind, action in line.items() if kind in ("add", "remove")}
        table = _load(self.uri)
        held = {row["path"] for row in _added(table)} if table else set()
        return frozenset(map(unquote, named | held))


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
    return AddAction(quote(part.path), part.size, {SLOT_COLUMN: slot}, 0, True, json.dumps(part.statistics))
