"""Tensor columns as what they hold: nested fixed-size lists, whatever extension type they were written with.

Arrow's own fixed-shape tensors, and Ray's, which a reader without Ray sees as flat lists with a remark on the
column. No extension type leaves here: Delta tables that get one cannot be read back, and shapes are lost where
Ray is not imported.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

_NAME: Final = b"ARROW:extension:name"
_METADATA: Final = b"ARROW:extension:metadata"
_ARROW_FIXED: Final = "arrow.fixed_shape_tensor"
_RAY_FIXED: Final = ("ray.data.arrow_tensor", "ray.data.arrow_tensor_v2")
_RAY_VARIABLE: Final = "ray.data.arrow_variable_shaped_tensor"


@dataclass(frozen=True)
class _Tensors:
    """What a column of tensors of one shape stores: flat lists of the values of `shape`, axes to be `order`ed."""

    value_type: pa.DataType
    shape: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def plain(self) -> pa.DataType:
        kind = self.value_type
        for axis in reversed(self.order):
            kind = pa.list_(kind, self.shape[axis])
        return kind


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with tensors as nested lists; other columns as they are."""
    return pa.schema([_plain_field(field) for field in schema], schema.metadata)


def plain_column(column: pa.Array, stored: pa.Field, wanted: pa.DataType) -> pa.Array:
    """Return a column that is stored as `stored` says as plain values of the type `wanted`."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    tensors = _tensors_in(stored)
    if tensors is not None:
        column = _nested(column, tensors)
    elif _extension(stored)[0] == _RAY_VARIABLE and pa.types.is_struct(column.type):
        column = _ragged(column, wanted)
    return column if column.type == wanted else column.cast(wanted)


def has_fixed_lists(kind: pa.DataType) -> bool:
    """Whether fixed-size lists lie anywhere in a type."""
    if isinstance(kind, pa.BaseExtensionType):
        return has_fixed_lists(kind.storage_type)
    if pa.types.is_fixed_size_list(kind):
        return True
    return any(has_fixed_lists(kind.field(place).type) for place in range(kind.num_fields))


def _plain_field(field: pa.Field) -> pa.Field:
    tensors = _tensors_in(field)
    if tensors is not None:
        return pa.field(field.name, tensors.plain, field.nullable)
    if _extension(field)[0] == _RAY_VARIABLE:
        storage = _storage(field.type)
        return pa.field(field.name, _ragged_type(storage, int(_extension(field)[1])), field.nullable)
    return field


def _extension(field: pa.Field) -> tuple[str, str]:
    """Name and parameters of a column's extension type, also where the type itself is not known here."""
    kind = field.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return _ARROW_FIXED, ""
    if isinstance(kind, pa.ExtensionType):
        return kind.extension_name, kind.__arrow_ext_serialize__().decode(errors="replace")
    metadata = field.metadata or {}
    return metadata.get(_NAME, b"").decode(), metadata.get(_METADATA, b"").decode(errors="replace")


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _tensors_in(field: pa.Field) -> _Tensors | None:
    name, parameters = _extension(field)
    if name == _ARROW_FIXED and isinstance(field.type, pa.FixedShapeTensorType):
        shape = tuple(field.type.shape)
        return _Tensors(field.type.value_type, shape, tuple(field.type.permutation or range(len(shape))))
    if name in _RAY_FIXED:
        shape = tuple(json.loads(parameters))
        return _Tensors(_storage(field.type).value_type, shape, tuple(range(len(shape))))
    return None


def _nested(column: pa.Array, tensors: _Tensors) -> pa.Array:
    """Nest flat lists, all of one length; a null stays a null."""
    present = column.drop_null()
    values = present.flatten()
    if tensors.order != tuple(range(len(tensors.shape))):
        places = np.arange(len(values)).reshape(len(present), *tensors.shape)
        values = values.take(pa.array(places.transpose(0, *(axis + 1 for axis in tensors.order)).reshape(-1)))
    for axis in reversed(tensors.order):
        values = pa.FixedSizeListArray.from_arrays(values, tensors.shape[axis])
    if not column.null_count:
        return values
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    return values.take(pa.array(np.cumsum(valid) - 1, mask=~valid))


def _ragged_type(storage: pa.DataType, dimensions: int) -> pa.DataType:
    """Type of Ray's tensors of differing shapes as lists; those of three dimensions and more stay as stored."""
    values = pa.large_list(storage.field("data").type.value_type)
    return {1: values, 2: pa.large_list(values)}.get(dimensions, storage)


def _ragged(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    if wanted == column.type:
        return column
    flat = column.field("data").cast(pa.large_list(column.type.field("data").type.value_type))
    if not pa.types.is_list(wanted.value_type) and not pa.types.is_large_list(wanted.value_type):
        return flat
    shapes = column.field("shape").to_pylist()
    whole = [place for place, valid in enumerate(column.is_valid().to_pylist()) if valid]
    rows = [shapes[place] for place in whole]
    channels = pa.LargeListArray.from_arrays(
        _ends(np.repeat([width for _, width in rows], [count for count, _ in rows])), flat.take(whole).flatten()
    )
    lists = pa.LargeListArray.from_arrays(_ends([count for count, _ in rows]), channels)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    return lists.take(pa.array(np.cumsum(valid) - 1, mask=~valid))


def _ends(lengths: Sequence[int] | Any) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]), pa.int64())
