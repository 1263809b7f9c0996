"""The text of a row: a column's, or one made of several columns by a template. Pure functions on Arrow tables."""

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakebed.platform.config.embed import ColumnsConfig
from lakebed.platform.errors import ConfigError, InvalidItemError, TableError
from lakebed.platform.item_columns import is_text
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.text_template import Field, TextTemplate

_SAMPLES: Final = (
    (pa.types.is_integer, 1),
    (pa.types.is_floating, 1.0),
    (pa.types.is_decimal, Decimal(1)),
    (pa.types.is_boolean, True),
    (pa.types.is_date, date(2024, 1, 31)),
    (pa.types.is_timestamp, datetime(2024, 1, 31)),  # noqa: DTZ001  only its type matters
    (pa.types.is_time, time(12)),
    (is_text, "text"),
)
"""A value of each type that can stand in a text."""


def texts_of(rows: pa.Table, columns: ColumnsConfig) -> list[Any]:
    """Return each row's text, None where it has none, or an error where a part of it is missing.

    A row that has none of a template's columns has no text.
    """
    template = columns.template
    if template is None:
        return [None] * len(rows)
    if template.column is not None:
        texts: list[Any] = rows.column(template.column).to_pylist()
        return texts
    parts = [_shown(rows.column(field.column), field) for field in template.fields]
    return [_text(template, values, columns.null_text) for values in zip(*parts, strict=True)]


def _text(template: TextTemplate, values: tuple[str | None, ...], null_text: str | None) -> Any:
    absent = [field.column for field, value in zip(template.fields, values, strict=True) if value is None]
    if len(absent) == len(values):
        return None
    if absent and null_text is None:
        return InvalidItemError(
            f"{absent[0]} is null, and the text is made of it",
            hint='columns.null_text: "" leaves it out',
            code="null_in_template",
        )
    return template.filled([null_text or "" if value is None else value for value in values])


def _shown(column: pa.ChunkedArray, field: Field) -> list[str | None]:
    """Show each value as Python does. A float32 shows the digits it has, not the float64's."""
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    values = column.to_pylist()
    if not field.format and (pa.types.is_float32(kind) or pa.types.is_float16(kind)):
        narrow = np.float32 if pa.types.is_float32(kind) else np.float16
        return [None if value is None else str(narrow(value)) for value in values]
    return [None if value is None else field.shown(value) for value in values]


def check_text(snapshot: Snapshot, template: TextTemplate) -> None:
    """Raise ColumnNotFoundError, TableError or ConfigError unless a text can be made of these columns."""
    if template.column is not None:
        kind = snapshot.field(template.column).type
        if not is_text(kind):
            raise TableError(
                f"{snapshot.uri}: column {template.column!r} holds {kind}, not text",
                hint=f"name another column in `columns`, or write it as {{{template.column}}}",
            )
    for field in template.fields:
        _check_field(snapshot, field)


def _check_field(snapshot: Snapshot, field: Field) -> None:
    kind = snapshot.field(field.column).type
    sample = next((value for of_type, value in _SAMPLES if of_type(kind)), None)
    if sample is None:
        raise TableError(
            f"{snapshot.uri}: column {field.column!r} holds {kind}, which cannot stand in a text",
            hint="text, numbers, dates and times can",
        )
    try:
        field.shown(sample)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"columns.text: {{{field.column}:{field.format}}} does not fit a column of {kind}: {error}"
        ) from None
