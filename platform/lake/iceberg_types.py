"""Columns of Iceberg tables as Arrow columns, and the other way round.

Iceberg knows columns by number, not by name: files that are written for a table carry the numbers (field ids).
"""

from typing import Final

import pyarrow as pa
from pyiceberg.io.pyarrow import (
    UnsupportedPyArrowTypeException,
    _pyarrow_schema_ensure_small_types,
    _pyarrow_to_schema_without_ids,
    schema_to_pyarrow,
)
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from lakebed.platform.errors import TableError

_FIELD_ID: Final = b"PARQUET:field_id"
_WIDER: Final = {
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
}


def arrow_schema(schema: Schema) -> pa.Schema:
    """Columns of a table as Arrow columns."""
    small: pa.Schema = _pyarrow_schema_ensure_small_types(schema_to_pyarrow(schema, include_field_ids=False))
    return pa.schema([field.remove_metadata() for field in small])


def storable(uri: str, schema: pa.Schema) -> pa.Schema:
    """Return a schema with every type one that Iceberg holds without loss; raises TableError when there is none.

    Lists of a fixed size keep it: Iceberg has no such type, but the files do.
    """
    wide = pa.schema([field.with_type(_wider(field.type)) for field in schema])
    for field in wide:
        try:
            _pyarrow_to_schema_without_ids(pa.schema([field]))
        except (UnsupportedPyArrowTypeException, TypeError, ValueError, NotImplementedError):
            raise TableError(
                f"{uri}: Iceberg cannot hold column {field.name!r} of {field.type}",
                hint="leave it out, or write Parquet",
            ) from None
    there = arrow_schema(iceberg_schema(wide))
    return pa.schema([field.with_type(_sized(there.field(field.name).type, field.type)) for field in wide])


def iceberg_schema(schema: pa.Schema) -> Schema:
    """Columns of a new table, numbered as pyiceberg numbers them."""
    return assign_fresh_schema_ids(_pyarrow_to_schema_without_ids(schema))


def numbered(schema: pa.Schema, table: Schema) -> pa.Schema:
    """Give columns, and what they are made of, the field ids of a table."""
    return pa.schema([_numbered_field(field, table.find_field(field.name)) for field in schema])


def _numbered_field(field: pa.Field, iceberg: NestedField) -> pa.Field:
    kind = _numbered(field.type, iceberg.field_type)
    return pa.field(field.name, kind, field.nullable, {_FIELD_ID: str(iceberg.field_id).encode()})


def _numbered(kind: pa.DataType, iceberg: IcebergType) -> pa.DataType:
    if isinstance(iceberg, ListType):
        return _list_like(kind, _numbered_field(kind.value_field, iceberg.element_field))
    if isinstance(iceberg, StructType):
        return pa.struct([_numbered_field(kind.field(field.name), field) for field in iceberg.fields])
    if isinstance(iceberg, MapType):
        key = _numbered_field(kind.key_field, iceberg.key_field)
        return pa.map_(key, _numbered_field(kind.item_field, iceberg.value_field))
    return kind


def _wider(kind: pa.DataType) -> pa.DataType:
    if _is_list(kind):
        return _list_like(kind, kind.value_field.with_type(_wider(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_wider(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_wider(kind.key_type), kind.item_field.with_type(_wider(kind.item_type)))
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    return _WIDER.get(kind, kind)


def _sized(kind: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    """Return a type with the sizes that lists have in another."""
    if not _is_list(kind):
        return kind
    return _list_like(wanted, kind.value_field.with_type(_sized(kind.value_type, wanted.value_type)))


def _list_like(kind: pa.DataType, values: pa.Field) -> pa.DataType:
    return pa.list_(values, kind.list_size) if pa.types.is_fixed_size_list(kind) else pa.list_(values)


def _is_list(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in kinds)
