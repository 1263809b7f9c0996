"""An item: a text, a multi-channel time series, or both; its Arrow schema, validation and content key.

Knows nothing of tables' own column names (that is the job's mapping) nor of any encoder.
"""

import hashlib
import json
import math
import struct
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from lakebed.platform.errors import InvalidItemError
from lakebed.platform.series import FloatArray as FloatArray  # noqa: PLC0414  an item's array: found here, too
from lakebed.platform.series import is_number, series_of

ITEM_SCHEMA: Final = pa.schema(
    [
        pa.field("text", pa.string()),
        pa.field("time_series", pa.list_(pa.list_(pa.float64()))),
        pa.field("channel_names", pa.list_(pa.string())),
        pa.field("sampling_rate", pa.float64()),
    ]
)
"""An item as Arrow columns; `time_series` is channels x samples, `sampling_rate` in Hz."""

_UNSEEN: Final = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf", "Mn"))
"""General categories of Unicode that show nothing by themselves."""

_KEY_VERSION: Final = b"lakebed-item-1"
_KEY_BYTES: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One thing to embed. Build it with `Item.of`, which validates.

    `series` is float64, C-contiguous, channels x samples: float64 because a timestamp-like offset with small
    steps loses its shape in float32. `sampling_rate` is in Hz.
    """

    text: str | None = None
    series: FloatArray | None = None
    channel_names: tuple[str, ...] | None = None
    sampling_rate: float | None = None

    @classmethod
    def of(
        cls,
        text: str | None = None,
        series: Any = None,
        channel_names: Sequence[str] | None = None,
        sampling_rate: float | None = None,
    ) -> "Item":
        """Validate and build an item; raises InvalidItemError naming the fault.

        `series` is anything array-like of channels x samples; a flat sequence of numbers is one channel. Integers
        and floats of any width are taken; booleans, strings of digits, complex numbers and nulls are errors. A
        blank text beside a series is no text.
        """
        if series is not None and _is_blank(text):
            text = None
        if text is None and series is None:
            raise InvalidItemError("an item needs text, a time series, or both", code="empty_item")
        array = None if series is None else series_of(series)
        if text is not None:
            _check_text(text)
        names = _names(channel_names, array)
        return cls(text, array, names, _rate(sampling_rate))

    @property
    def samples(self) -> int:
        """Number of values in the series, over all channels; 0 for text alone."""
        return 0 if self.series is None else int(self.series.size)

    def content_key(self) -> str:
        """32 hex digits that are equal exactly when the content is: same text, values, names and rate.

        BLAKE2b-128 over length-prefixed parts; numbers as little-endian float64, so a float32 column and the
        same values in a float64 column agree, and -0.0 equals 0.0.
        """
        digest = hashlib.blake2b(_KEY_VERSION, digest_size=_KEY_BYTES)
        for part in self._canonical_parts():
            digest.update(struct.pack("<q", -1 if part is None else len(part)))
            digest.update(part or b"")
        return digest.hexdigest()

    def _canonical_parts(self) -> list[bytes | None]:
        series = self.series
        names = None if self.channel_names is None else json.dumps(self.channel_names).encode()
        return [
            None if self.text is None else self.text.encode(),
            None if series is None else struct.pack("<qq", *series.shape),
            None if series is None else (series + 0.0).astype("<f8", copy=False).tobytes(),
            names,
            None if self.sampling_rate is None else struct.pack("<d", self.sampling_rate),
        ]


def item_of(value: Any) -> Item:
    """Build an item from what a caller has at hand: an Item, a text, an array, or a mapping of item fields.

    A mapping has the fields of `ITEM_SCHEMA`; an unknown field is an error, never ignored.
    """
    if isinstance(value, Item):
        return value
    if isinstance(value, str):
        return Item.of(text=value)
    if isinstance(value, Mapping):
        unknown = set(value) - set(ITEM_SCHEMA.names)
        if unknown:
            raise InvalidItemError(
                f"unknown item field {sorted(map(str, unknown))[0]!r}",
                hint=f"fields are {', '.join(ITEM_SCHEMA.names)}",
                code="unknown_field",
            )
        return Item.of(
            value.get("text"),
            value.get("time_series"),
            value.get("channel_names"),
            value.get("sampling_rate"),
        )
    return Item.of(series=value)


def items_of(values: Iterable[Any], first: int = 0) -> list[Item]:
    """Build items from many values; raises InvalidItemError with the position of the first bad one.

    `first` is the position of the first value in a larger whole.
    """
    items = []
    for position, value in enumerate(values, first):
        try:
            items.append(item_of(value))
        except InvalidItemError as error:
            raise placed(error, position) from None
    return items


def placed(error: InvalidItemError, position: int) -> InvalidItemError:
    """Return the error with its item's position, in its message and as `position`."""
    return InvalidItemError(
        f"item {position}: {error.message}", hint=error.hint, **{**error.context, "position": position}
    )


def table_of(items: Sequence[Item]) -> pa.Table:
    """Return items as an Arrow table of `ITEM_SCHEMA`."""
    return pa.table(
        {
            "text": pa.array([item.text for item in items], pa.string()),
            "time_series": pa.array(
                [None if item.series is None else list(item.series) for item in items],
                ITEM_SCHEMA.field("time_series").type,
            ),
            "channel_names": pa.array([item.channel_names for item in items], pa.list_(pa.string())),
            "sampling_rate": pa.array([item.sampling_rate for item in items], pa.float64()),
        },
        schema=ITEM_SCHEMA,
    )


def _is_blank(text: Any) -> bool:
    """Whether a text has nothing to read: spaces, controls, invisible characters, accents without a letter."""
    return isinstance(text, str) and all(unicodedata.category(character) in _UNSEEN for character in text)


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise InvalidItemError(f"text must be a string, not {type(text).__name__}", code="text_type")
    if _is_blank(text):
        raise InvalidItemError("text is empty", hint="leave it out, or give some words", code="empty_text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidItemError(
            f"text is not valid Unicode: lone surrogate at character {error.start}", code="text_encoding"
        ) from None


def _names(names: Any, series: FloatArray | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, str | Mapping) or not isinstance(names, Iterable):
        raise InvalidItemError(
            f"channel_names must be a list of strings, not {type(names).__name__}", code="channel_names"
        )
    named = tuple(names)
    if series is None or len(named) != series.shape[0]:
        have = 0 if series is None else series.shape[0]
        raise InvalidItemError(f"{len(named)} channel names for {have} channels", code="channel_names")
    if not all(isinstance(name, str) for name in named):
        raise InvalidItemError("channel names must be strings", code="channel_names")
    return named


def _rate(rate: Any) -> float | None:
    if rate is None:
        return None
    hertz = float(rate) if is_number(type(rate)) else math.nan
    if not 0 < hertz < math.inf:
        raise InvalidItemError(
            f"sampling_rate must be a positive number of Hz, not {rate!r:.40}", code="sampling_rate"
        )
    return hertz
