"""Filters as Arrow expressions: which rows of a table satisfy one, each literal in the type of its column.

A null satisfies no comparison, as in SQL; nor does NaN, but for *unequal*. Knows no files; how a filter is written
is `lakebed.platform.filter_text`'s business.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg import expressions as ice

from lakebed.platform.errors import ColumnNotFoundError, ConfigError, TableError
from lakebed.platform.filter_text import EXAMPLE, columns_in, parse_filter

_UNFIT: Final = (pa.ArrowException, OverflowError, TypeError, ValueError)


@dataclass(frozen=True)
class RowFilter:
    """A filter as it was written; raises ConfigError at once when it cannot be read."""

    text: str

    def __post_init__(self) -> None:
        """Read it."""
        parse_filter(self.text)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns it looks at."""
        return columns_in(self.text)

    def expression(self, schema: pa.Schema) -> Any:
        """Return it as a pyarrow.compute.Expression; raises ColumnNotFoundError or TableError."""
        return _Translation(schema, pruning=False).of(parse_filter(self.text))

    def possible(self, schema: pa.Schema) -> Any:
        """Return a weaker expression, safe to hold against least and greatest values.

        These leave NaN out, which is unequal to everything; so whatever says *unequal* counts as true here.
        """
        return _Translation(schema, pruning=True).of(parse_filter(self.text))

    def kept(self, rows: pa.Table) -> pa.Table:
        """Return the rows that satisfy it, in their order."""
        return rows.filter(self.expression(rows.schema))


@dataclass(frozen=True)
class _Translation:
    """From pyiceberg's tree to an Arrow expression over a schema."""

    schema: pa.Schema
    pruning: bool

    def of(self, tree: Any) -> Any:
        if isinstance(tree, ice.And):
            return self.of(tree.left) & self.of(tree.right)
        if isinstance(tree, ice.Or):
            return self.of(tree.left) | self.of(tree.right)
        if not hasattr(tree, "term"):
            raise ConfigError(f"filter: {tree} stands where a comparison must", hint=EXAMPLE)
        return self._predicate(tree, self._column(tree.term.name))

    def _column(self, name: str) -> "_Column":
        if name not in self.schema.names:
            known = ", ".join(self.schema.names)
            raise ColumnNotFoundError(f"filter: no column {name!r}", hint=f"columns are {known}")
        return _Column(name, self.schema.field(name).type)

    def _predicate(self, tree: Any, column: "_Column") -> Any:
        unequal = isinstance(tree, ice.NotEqualTo | ice.NotIn | ice.NotStartsWith | ice.IsNaN | ice.NotNaN)
        found = _TRANSLATIONS[type(tree)](column, tree)  # checks the literals, also where it is not used
        return pc.scalar(True) if self.pruning and unequal else found


@dataclass(frozen=True)
class _Column:
    """A column that a filter names."""

    name: str
    kind: pa.DataType

    @property
    def field(self) -> Any:
        """The column in an expression. Arrow compares no half floats."""
        field = pc.field(self.name)
        return field.cast(pa.float32()) if pa.types.is_float16(self.kind) else field

    def value(self, literal: Any) -> Any:
        """Return a literal as a scalar that compares with the column as it is meant."""
        try:
            return self._scalar(literal.value)
        except _UNFIT:
            raise self._unfit(literal.value) from None

    def values(self, literals: Iterable[Any]) -> Any:
        """Return literals as an array of the column's type."""
        kind = pa.float32() if pa.types.is_float16(self.kind) else self.kind
        scalars = [self.value(literal) for literal in literals]
        try:
            return pa.array([scalar.cast(kind).as_py() for scalar in scalars], kind)
        except _UNFIT:
            raise self._unfit([scalar.as_py() for scalar in scalars]) from None

    def prefix(self, literal: Any) -> str:
        """Return the text that values are to begin with."""
        if not _is_text(self.kind):
            raise self._unfit(literal.value)
        return str(literal.value)

    def is_nan(self) -> Any:
        """Whether values are NaN."""
        if not pa.types.is_floating(self.kind):
            raise TableError(f"filter: column {self.name!r} holds {self.kind}, which is never NaN")
        return pc.is_nan(self.field)

    def _scalar(self, value: Any) -> Any:
        kind, types = self.kind, pa.types
        if types.is_boolean(kind) != isinstance(value, bool):
            raise ValueError
        if isinstance(value, bool):
            return pa.scalar(value)
        if isinstance(value, str):
            return self._of_text(value)
        if types.is_float16(kind):
            return pa.scalar(np.float32(np.float16(value)))
        if types.is_floating(kind):
            return pa.scalar(float(value), kind)
        if types.is_decimal(kind):
            return pa.scalar(Decimal(value))
        if not types.is_integer(kind):
            raise ValueError
        if isinstance(value, Decimal):
            return pa.scalar(float(value))
        return pa.scalar(value, pa.uint64() if types.is_uint64(kind) else pa.int64())

    def _of_text(self, value: str) -> Any:
        kind, types = self.kind, pa.types
        if _is_text(kind):
            return pa.scalar(value, kind)
        if not types.is_temporal(kind) or types.is_duration(kind):
            raise ValueError
        if not types.is_timestamp(kind) or kind.tz is None:
            return pa.scalar(value).cast(kind)
        try:
            return pa.scalar(value).cast(kind)
        except pa.ArrowInvalid:  # without an offset it is UTC
            return pa.scalar(value).cast(pa.timestamp(kind.unit)).cast(pa.int64()).cast(kind)

    def _unfit(self, value: Any) -> TableError:
        hint = "write '2024-01-31' or '2024-01-31 12:00:00'" if pa.types.is_temporal(self.kind) else None
        shown = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else value
        return TableError(f"filter: column {self.name!r} holds {self.kind}, unlike {shown}", hint=hint)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


_TRANSLATIONS: Final[dict[type, Any]] = {
    ice.EqualTo: lambda column, tree: column.field == column.value(tree.literal),
    ice.NotEqualTo: lambda column, tree: column.field != column.value(tree.literal),
    ice.LessThan: lambda column, tree: column.field < column.value(tree.literal),
    ice.LessThanOrEqual: lambda column, tree: column.field <= column.value(tree.literal),
    ice.GreaterThan: lambda column, tree: column.field > column.value(tree.literal),
    ice.GreaterThanOrEqual: lambda column, tree: column.field >= column.value(tree.literal),
    ice.In: lambda column, tree: column.field.isin(column.values(tree.literals)),
    ice.NotIn: lambda column, tree: ~column.field.isin(column.values(tree.literals)) & column.field.is_valid(),
    ice.StartsWith: lambda column, tree: pc.starts_with(column.field, column.prefix(tree.literal)),
    ice.NotStartsWith: lambda column, tree: ~pc.starts_with(column.field, column.prefix(tree.literal)),
    ice.IsNull: lambda column, _: column.field.is_null(),
    ice.NotNull: lambda column, _: column.field.is_valid(),
    ice.IsNaN: lambda column, _: column.is_nan(),
    ice.NotNaN: lambda column, _: ~column.is_nan(),
}
