"""Iceberg tables as sources: fragments of a pinned snapshot, each file's columns found by their field ids.

Files are named by their whole place, as the table's manifests name them. Tables with row-level deletes are
refused: their files do not hold their rows as they stand.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pyarrow as pa
from pyiceberg.exceptions import ResolveError
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io.pyarrow import pyarrow_to_schema
from pyiceberg.manifest import DataFile as IcebergFile
from pyiceberg.manifest import FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.name_mapping import MappedField, NameMapping
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DateType, IcebergType, TimestampType, TimestamptzType, TimeType
from pyiceberg.utils.datetime import days_to_date, micros_to_time, micros_to_timestamp, micros_to_timestamptz

from lakebed.platform.errors import TableError, TableNotFoundError
from lakebed.platform.lake.fragments import DataFile, Snapshot, fragments_of, read_footer
from lakebed.platform.lake.iceberg_catalog import CatalogConfig, load_table, open_catalog, place_of
from lakebed.platform.lake.iceberg_types import arrow_schema
from lakebed.platform.lake.storage import store_errors

_NO_SNAPSHOT: Final = "none"
_ALL_ROWS: Final = AlwaysTrue()
_FOOTERS_AT_ONCE: Final = 16
_FROM_NUMBER: Final[Mapping[type[IcebergType], Callable[[int], Any]]] = {
    DateType: days_to_date,
    TimeType: micros_to_time,
    TimestampType: micros_to_timestamp,
    TimestamptzType: micros_to_timestamptz,
}


def open_iceberg(uri: str, catalog: CatalogConfig = None, version: int | None = None) -> Snapshot:
    """Open a table, at a snapshot or at its newest; a table without any has no rows."""
    with store_errors(uri):
        table = load_table(open_catalog(catalog), uri)
        if table is None:
            raise TableNotFoundError(f"{uri}: the catalog has no such table", hint="check both names")
        snapshot = _snapshot(uri, table, version)
        schema = _schema(table, snapshot, version)
        if snapshot is None:
            return Snapshot(uri, "iceberg", _NO_SNAPSHOT, arrow_schema(schema), ())
        planned = planned_files(uri, table, snapshot.snapshot_id)
        files = data_files(uri, table, schema, planned)
        return Snapshot(uri, "iceberg", str(snapshot.snapshot_id), arrow_schema(schema), fragments_of(uri, files))


def planned_files(
    uri: str, table: Table, snapshot_id: int, rows: BooleanExpression = _ALL_ROWS
) -> dict[str, IcebergFile]:
    """Data files of a snapshot that may hold such rows, by their places; raises TableError unless readable."""
    tasks = list(table.scan(row_filter=rows, snapshot_id=snapshot_id).plan_files())
    if any(task.delete_files for task in tasks):
        raise TableError(
            f"{uri}: has row-level deletes, which are not supported",
            hint="rewrite its data files: CALL system.rewrite_data_files with delete-file-threshold 1",
        )
    for task in tasks:
        if task.file.file_format != FileFormat.PARQUET:
            raise TableError(f"{uri}: has {task.file.file_format.value} files", hint="only Parquet is supported")
    return {place_of(uri, task.file.file_path): task.file for task in tasks}


def data_files(uri: str, table: Table, schema: Schema, planned: Mapping[str, IcebergFile]) -> list[DataFile]:
    """Say of each file which columns it has, and which are constants of it."""
    names = _names_by_footer(uri, table, schema, planned) if _names_differ(table, schema) else {}
    return [
        DataFile(
            place,
            file.file_size_in_bytes,
            file.record_count,
            _constants(table, schema, file),
            names=names.get(place, {}),
        )
        for place, file in planned.items()
    ]


def _snapshot(uri: str, table: Table, version: int | None) -> IcebergSnapshot | None:
    newest = table.current_snapshot()
    if version is None:
        return newest
    found = table.snapshot_by_id(version)
    if found is None:
        hint = f"the newest is {newest.snapshot_id}" if newest else "the table has none"
        raise TableNotFoundError(f"{uri}: there is no snapshot {version}", hint=hint)
    return found


def _schema(table: Table, snapshot: IcebergSnapshot | None, version: int | None) -> Schema:
    """The columns of today for the newest snapshot, those of its time for one that was asked for."""
    if version is None or snapshot is None or snapshot.schema_id is None:
        return table.schema()
    return table.schemas().get(snapshot.schema_id, table.schema())


def _constants(table: Table, schema: Schema, file: IcebergFile) -> dict[str, Any]:
    """Values of columns that a file need not have: defaults, and what the table is partitioned by as it is."""
    values = {field.field_id: field.initial_default for field in schema.fields}
    for place, part in enumerate(table.specs()[file.spec_id].fields):
        if isinstance(part.transform, IdentityTransform) and file.partition[place] is not None:
            values[part.source_id] = file.partition[place]
    found = {field: values[field.field_id] for field in schema.fields}
    return {field.name: _plain(field.field_type, value) for field, value in found.items() if value is not None}


def _plain(kind: IcebergType, value: Any) -> Any:
    """Return a value as Arrow takes it: manifests hold dates and times as numbers."""
    convert = _FROM_NUMBER.get(type(kind))
    return convert(value) if convert and isinstance(value, int) else value


def _names_differ(table: Table, schema: Schema) -> bool:
    """Whether a file of the table may call a column otherwise than `schema`, or another one the same."""
    names = {number: schema.find_column_name(number) for number in schema.field_ids}
    for other in table.schemas().values():
        for number in other.field_ids:
            name = other.find_column_name(number)
            if names.get(number, name) != name or (number not in names and name in names.values()):
                return True
    mapping = table.name_mapping()
    mapped = _mapped(mapping.root if mapping else [])
    return any(field.names != [_last(names.get(field.field_id or 0))] for field in mapped)


def _mapped(fields: Iterable[MappedField]) -> Iterable[MappedField]:
    for field in fields:
        yield field
        yield from _mapped(field.fields)


def _last(name: str | None) -> str | None:
    return name.rpartition(".")[2] if name else None


def _names_by_footer(
    uri: str, table: Table, schema: Schema, places: Iterable[str]
) -> dict[str, dict[str, str | None]]:
    """Read what every file calls the table's columns, where that differs."""
    mapping = table.name_mapping()

    def names(place: str) -> tuple[str, dict[str, str | None]]:
        stored = _stored_schema(place, read_footer(place).schema.to_arrow_schema(), mapping)
        return place, _names_in(f"{uri}: {place}", stored, schema)

    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        return dict(pool.map(names, places))


def _stored_schema(place: str, columns: pa.Schema, mapping: NameMapping | None) -> Schema:
    try:
        return pyarrow_to_schema(columns, mapping, downcast_ns_timestamp_to_us=True)
    except (TypeError, ValueError, ResolveError) as error:
        raise TableError(f"{place}: its columns cannot be told: {' '.join(str(error).split())}") from None


def _names_in(place: str, stored: Schema, schema: Schema) -> dict[str, str | None]:
    names: dict[str, str | None] = {}
    theirs = {field.field_id: field for field in stored.fields}
    taken = {field.name for field in stored.fields}
    for field in schema.fields:
        there = theirs.get(field.field_id)
        if there is None and field.name in taken:
            names[field.name] = None
        elif there is not None:
            _check_inside(place, stored, schema, field.name, there.name)
            if there.name != field.name:
                names[field.name] = there.name
    return names


def _check_inside(place: str, stored: Schema, schema: Schema, ours: str, theirs: str) -> None:
    """Refuse a column whose fields inside have other names in the file."""

    def inside(table: Schema, column: str) -> dict[int, str]:
        names = {number: table.find_column_name(number) or "" for number in table.field_ids}
        prefix = f"{column}."
        return {number: name.removeprefix(prefix) for number, name in names.items() if name.startswith(prefix)}

    there = inside(stored, theirs)
    for number, name in inside(schema, ours).items():
        if there.get(number, name) != name or (number not in there and name in there.values()):
            raise TableError(
                f"{place}: column {ours!r} has a field {name!r} inside that was renamed, which is not supported",
                hint="rewrite the table's data files",
            )
