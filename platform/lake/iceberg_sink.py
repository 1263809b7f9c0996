"""Iceberg tables as sinks: files that workers wrote become part of a table in one snapshot, with its marks.

The table's properties say who owns it, how often it was committed to, which slots are complete, and which snapshot
that holds for; they change in the same catalog transaction as the snapshot. The first commit makes the table and
its rows at once. When the newest snapshot is not the one our last commit made (rows were deleted, files rewritten,
the table rolled back), no slot counts as complete.

pyiceberg tries a commit that met another one again, upon what is there then: right for appends of anyone, wrong
for ours. So the last look is compared with the table, and a commit that met another is given up, see `_Fenced`.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.conversions import to_bytes
from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError, ValidationException
from pyiceberg.expressions import EqualTo
from pyiceberg.manifest import DataFile as IcebergFile
from pyiceberg.manifest import DataFileContent, FileFormat, ManifestFile
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CreateTableTransaction, Table, Transaction
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _OverwriteFiles
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import PrimitiveType
from pyiceberg.utils.truncate import truncate_upper_bound_text_string

from lakebed.platform.config.iceberg import identifier
from lakebed.platform.errors import CommitError, LakebedError, TableError, TableNotFoundError
from lakebed.platform.lake.fragments import Snapshot, whole_files
from lakebed.platform.lake.iceberg import data_files, planned_files
from lakebed.platform.lake.iceberg_catalog import CatalogConfig, load_table, open_catalog, place_of
from lakebed.platform.lake.iceberg_types import arrow_schema, iceberg_schema, numbered, storable
from lakebed.platform.lake.parts import ParquetWriter, Part
from lakebed.platform.lake.sink import (
    DESCRIPTION,
    OWNER,
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
    files_below,
    join,
    remove_files,
    remove_folder,
    require_store,
    store_errors,
)

_SNAPSHOT: Final = "lakebed.snapshot"
_SLOT: Final = "lakebed.slot."
_DATA: Final = "data"
_RUNS: Final = f"{_DATA}/run-"
_BOUND_LENGTH: Final = 16  # characters; Iceberg's default for the bounds of text
_CONFLICTS: Final = (CommitFailedException, ValidationException, TableAlreadyExistsError)


def iceberg_sink_at(uri: str, catalog: CatalogConfig) -> "IcebergSink | None":
    """The sink of a table that is there, whichever job made it; raises TableError when none did."""
    with store_errors(uri):
        table = load_table(open_catalog(catalog), uri)
        if table is None:
            return None
        owner = Owner.of(described(table.properties.get(DESCRIPTION)) or {})
        sink = IcebergSink(uri, catalog, arrow_schema(table.schema()), owner)
        sink.open()
        return sink


class IcebergSink:
    """An Iceberg table of one owner, partitioned by model digest."""

    def __init__(self, uri: str, catalog: CatalogConfig, schema: pa.Schema, owner: Owner) -> None:
        self.uri = uri
        self.schema = storable(uri, schema)
        self.owner = owner
        self._config = catalog
        self._new_location: str | None = None

    @cached_property
    def _catalog(self) -> Catalog:
        return open_catalog(self._config)

    @property
    def folder(self) -> str:
        """Where the table lies, or will."""
        with store_errors(self.uri):
            return self._place(self._load())

    def open(self) -> SinkState:
        """Look at the table; raises TableError when it is another job's, or has other columns."""
        with store_errors(self.uri):
            table = self._load()
            if table is None:
                require_store(place_of(self.uri, self._staged().table_metadata.location))
                return SinkState(False, 0, None, {})
            if table.properties.get(OWNER) != self.owner.key:
                raise self.owner.refuse(self.uri, table.properties.get(DESCRIPTION))
            check_columns(self.uri, arrow_schema(table.schema()), self.schema)
            self._check_partitions(table)
            return _state(table)

    def slot(self, state: SinkState, slot: str) -> Snapshot:
        """Rows of one slot, one fragment for each part."""
        if state.version is None:
            return Snapshot(self.uri, "iceberg", "", self.schema, ())
        with store_errors(self.uri):
            table = self._load()
            if table is None:
                raise TableNotFoundError(f"{self.uri}: the table is gone", hint="run it again")
            planned = self._files_of(table, int(state.version), slot)
            files = data_files(self.uri, table, table.schema(), planned)
            return Snapshot(self.uri, "iceberg", state.version, self.schema, whole_files(self.uri, files))

    def writer(self, run: str, slot: str) -> ParquetWriter:
        """What stages parts of a run; the files carry the table's field ids."""
        with store_errors(self.uri):
            table = self._load()
            metadata = table.metadata if table else self._staged().table_metadata
            folder = join(place_of(self.uri, metadata.location), f"{_RUNS}{run}")
            return ParquetWriter(self.uri, folder, numbered(self.schema, metadata.schema()))

    def commit(self, state: SinkState, commit: Commit) -> SinkState:
        """Commit upon `state` and return what the table is now; raises CommitError, and nothing has changed."""
        try:
            with store_errors(self.uri):
                version = self._commit(state, commit)
        except CommitError:
            raise
        except LakebedError as error:
            with answers_lost(self.uri):
                landed = self._landed(commit.run, state.sequence + 1)
            if landed is None:
                raise self._failed(error) from error
            version = landed
        return SinkState(True, state.sequence + 1, str(version), _marks(state, commit))

    def discard(self, run: str) -> None:
        """Remove what a run staged; only for a run that has committed nothing."""
        with store_errors(self.uri):
            remove_folder(join(self._place(self._load()), f"{_RUNS}{run}"))

    def orphans(self) -> list[Orphan]:
        """Data files that runs staged and no snapshot holds."""
        with store_errors(self.uri):
            place = self._place(self._load())
            staged = [file for file in files_below(place, _DATA) if file.path.startswith(_RUNS)]
            table = self._load() if staged else None
            held = _held(self.uri, table) if table else frozenset()
            orphans = [Orphan(join(place, file.path), file.size, file.modified) for file in staged]
            return [orphan for orphan in orphans if orphan.path not in held]

    def remove(self, paths: Sequence[str]) -> None:
        """Remove data files that no version of the table holds."""
        with store_errors(self.uri):
            remove_files(self.uri, paths)

    def _load(self) -> Table | None:
        return load_table(self._catalog, self.uri)

    def _place(self, table: Table | None) -> str:
        """Where the table lies, or will."""
        return place_of(self.uri, table.location() if table else self._staged().table_metadata.location)

    def _staged(self) -> CreateTableTransaction:
        """A table that is not there yet, for nobody else; at the same location whenever it is asked for."""
        name = identifier(self.uri)
        schema = iceberg_schema(self.schema)
        try:
            self._catalog.create_namespace_if_not_exists(name[:-1])
            staged = self._catalog.create_table_transaction(
                name,
                schema,
                location=self._new_location,
                partition_spec=_partitions(schema),
                properties={OWNER: self.owner.key, DESCRIPTION: self.owner.text},
            )
        except (ValueError, NotImplementedError) as error:
            raise TableError(f"{self.uri}: the catalog makes no such table: {error}") from None
        self._new_location = staged.table_metadata.location
        return staged

    def _check_partitions(self, table: Table) -> None:
        parts = [(part.source_id, type(part.transform)) for part in table.spec().fields]
        if parts != [(table.schema().find_field(SLOT_COLUMN).field_id, IdentityTransform)]:
            raise TableError(
                f"{self.uri}: is partitioned by {table.spec()} now", hint=f"partition it by {SLOT_COLUMN} alone"
            )

    def _files_of(self, table: Table, snapshot_id: int, slot: str) -> dict[str, IcebergFile]:
        return planned_files(self.uri, table, snapshot_id, EqualTo(term=SLOT_COLUMN, value=slot))

    def _commit(self, state: SinkState, commit: Commit) -> int:
        """Commit and return the id of the new snapshot."""
        table = self._load()
        if (table is not None) != state.exists:
            raise overtaken(self.uri)
        if table is not None:
            self._check_unchanged(table, state)
        removed = self._removed(table, state, commit)
        transaction: Transaction = table.transaction() if table else self._staged()
        update = _Fenced(
            Operation.OVERWRITE if removed else Operation.APPEND,
            transaction,
            transaction._table.io,
            snapshot_properties={RUN: commit.run, SEQUENCE: str(state.sequence + 1), **commit.metadata},
        )
        for part in commit.parts:
            update.append_data_file(self._data_file(transaction, part, commit.slot))
        for file in removed:
            update.delete_data_file(file)
        update.commit()
        transaction.set_properties(_properties(state, commit, update.snapshot_id))
        transaction.commit_transaction()
        return update.snapshot_id

    def _check_unchanged(self, table: Table, state: SinkState) -> None:
        found = _state(table)
        if table.properties.get(OWNER) != self.owner.key or found.sequence != state.sequence:
            raise overtaken(self.uri)
        if found.version != state.version:
            raise CommitError(
                f"{self.uri}: something else changed the table while this run was at work; nothing of it was "
                "committed now",
                hint="run it again",
            )

    def _removed(self, table: Table | None, state: SinkState, commit: Commit) -> list[IcebergFile]:
        if not commit.removed:
            return []
        known = self._files_of(table, int(state.version), commit.slot) if table and state.version else {}
        gone = [path for path in commit.removed if path not in known]
        if gone:
            raise rewritten(self.uri, gone[0])
        return [known[path] for path in commit.removed]

    def _data_file(self, transaction: Transaction, part: Part, slot: str) -> IcebergFile:
        metadata = transaction.table_metadata
        location = metadata.location
        file = IcebergFile.from_args(
            content=DataFileContent.DATA,
            file_path=location + part.path.removeprefix(place_of(self.uri, location)),
            file_format=FileFormat.PARQUET,
            partition=Record(slot),
            record_count=part.rows,
            file_size_in_bytes=part.size,
            **_metrics(metadata.schema(), part),
        )
        file.spec_id = metadata.default_spec_id
        return file

    def _landed(self, run: str, sequence: int) -> int | None:
        """The snapshot that a commit of a run made, if that one landed."""
        table = self._load()
        for snapshot in table.snapshots() if table else []:
            told = snapshot.summary.additional_properties if snapshot.summary else {}
            if (told.get(RUN), told.get(SEQUENCE)) == (run, str(sequence)):
                return snapshot.snapshot_id
        return None

    def _failed(self, error: LakebedError) -> CommitError:
        if isinstance(error.__cause__, _CONFLICTS):
            return overtaken(self.uri)
        return CommitError(f"{self.uri}: the commit failed: {error.message}", hint=error.hint)


class _Fenced(_OverwriteFiles):
    """Adds and removes data files upon the snapshot it was begun on, and upon no other."""

    def _validate_concurrency(self) -> None:
        """Called when the catalog refused the commit and the table was looked at again."""
        if self._commit_window is not None and not self._commit_window.is_empty():
            raise ValidationException("the table was committed to meanwhile")

    def _existing_manifests(self) -> list[ManifestFile]:
        """Leave out manifests that only say what an earlier snapshot removed."""
        return [
            manifest
            for manifest in super()._existing_manifests()
            if manifest.has_added_files() or manifest.has_existing_files()
        ]


def _partitions(schema: Schema) -> PartitionSpec:
    source = schema.find_field(SLOT_COLUMN).field_id
    return PartitionSpec(PartitionField(source, PARTITION_FIELD_ID_START, IdentityTransform(), SLOT_COLUMN))


def _state(table: Table) -> SinkState:
    properties = table.properties
    snapshot = table.current_snapshot()
    version = str(snapshot.snapshot_id) if snapshot else None
    slots = {name.removeprefix(_SLOT): int(mark) for name, mark in properties.items() if name.startswith(_SLOT)}
    holds = version == properties.get(_SNAPSHOT)
    marks = {slot: (mark or None) if holds else None for slot, mark in slots.items()}
    return SinkState(True, int(properties.get(SEQUENCE, 0)), version, marks)


def _marks(state: SinkState, commit: Commit) -> dict[str, int | None]:
    return {**state.slots, commit.slot: None if commit.complete_for is None else mark_of(commit.complete_for)}


def _properties(state: SinkState, commit: Commit, snapshot_id: int) -> dict[str, str]:
    """All slots are marked anew: marks of before a foreign change must not come back with the new snapshot."""
    marks = {f"{_SLOT}{slot}": str(mark or 0) for slot, mark in _marks(state, commit).items()}
    return {RUN: commit.run, SEQUENCE: str(state.sequence + 1), _SNAPSHOT: str(snapshot_id), **marks}


def _held(uri: str, table: Table) -> frozenset[str]:
    """Places of the files that any snapshot holds."""
    lists = [snapshot.manifests(table.io) for snapshot in table.snapshots()]
    manifests = {manifest.manifest_path: manifest for found in lists for manifest in found}
    entries = [entry for manifest in manifests.values() for entry in manifest.fetch_manifest_entry(table.io)]
    return frozenset(place_of(uri, entry.data_file.file_path) for entry in entries)


def _metrics(schema: Schema, part: Part) -> dict[str, Any]:
    """Statistics of a part, by field id and in Iceberg's encoding."""
    nulls = part.statistics["nullCount"]
    numbers = {name: schema.find_field(name).field_id for name in nulls}
    least = {name: _bound(value) for name, value in part.statistics["minValues"].items()}
    greatest = {name: _upper(value) for name, value in part.statistics["maxValues"].items()}
    return {
        "value_counts": dict.fromkeys(numbers.values(), part.rows),
        "null_value_counts": {numbers[name]: count for name, count in nulls.items()},
        "lower_bounds": _encoded(schema, least),
        "upper_bounds": _encoded(schema, greatest),
    }


def _bound(value: Any) -> Any:
    return value[:_BOUND_LENGTH] if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    return truncate_upper_bound_text_string(value, _BOUND_LENGTH) if isinstance(value, str) else value


def _encoded(schema: Schema, bounds: Mapping[str, Any]) -> dict[int, bytes]:
    fields = {name: schema.find_field(name) for name, value in bounds.items() if value is not None}
    return {
        field.field_id: to_bytes(field.field_type, bounds[name])
        for name, field in fields.items()
        if isinstance(field.field_type, PrimitiveType)
    }
