"""Which rows of a new version of the source a table holds already, though their files have other names.

A row's signature is a hash of what the result keeps of it: its copied columns, as the table stores them, and its
content key. Rows with equal signatures are interchangeable, so only how many of them there are counts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.jobs.ranges import Mask
from lakebed.platform.items import Item

_BYTES: Final = 16
_NOTHING: Final = bytes(_BYTES)

SignatureArray = npt.NDArray[np.uint64]
"""n signatures of 128 bits: (n, 2)."""


@dataclass(frozen=True, eq=False)
class Signatures:
    """Of n rows: `whole`, their signatures, and `keys`, those of their key columns alone; each (n, 2)."""

    whole: SignatureArray
    keys: SignatureArray

    def __len__(self) -> int:
        return len(self.whole)

    def take(self, chosen: Mask) -> "Signatures":
        """Those of some rows."""
        return Signatures(self.whole[chosen], self.keys[chosen])


def signatures_of(
    rows: pa.Table, contents: Sequence[str | None], schema: pa.Schema, copied: Sequence[str], keys: Sequence[str]
) -> Signatures:
    """Signatures of rows with these content keys; None for what has none and equals nothing.

    `schema` is the table's: a copied column is compared as it is stored there.
    """
    values = [_values(rows, schema, name) for name in copied]
    key_values = values[: len(keys)]
    whole = [_hashed(*row) if row[0] is not None else _NOTHING for row in zip(contents, *values, strict=True)]
    of_keys = [_hashed(*row) for row in zip(*key_values, strict=True)] if keys else [_NOTHING] * len(rows)
    return Signatures(_array(whole), _array(of_keys))


def joined(parts: Sequence[Signatures]) -> Signatures:
    """Put signatures together."""
    none = np.empty((0, 2), np.uint64)
    return Signatures(
        np.concatenate([none, *(part.whole for part in parts)]),
        np.concatenate([none, *(part.keys for part in parts)]),
    )


def matched(ours: SignatureArray, theirs: SignatureArray) -> tuple[Mask, Mask]:
    """Pair equal signatures off, one to one: which of ours, and which of theirs, found a partner."""
    left, right = _numbered(ours), _numbered(theirs)
    return _within(left, right) & ours.any(axis=1), _within(right, left) & theirs.any(axis=1)


def found_in(ours: SignatureArray, theirs: SignatureArray) -> Mask:
    """Which of ours equal any of theirs."""
    return _within(_as_bytes(ours), _as_bytes(theirs)) & ours.any(axis=1)


def content_key(item: object) -> str | None:
    """The content key of what a row became; None when it became an error."""
    return item.content_key() if isinstance(item, Item) else None


def _values(rows: pa.Table, schema: pa.Schema, name: str) -> list[Any]:
    column = rows.column(name)
    wanted = schema.field(name).type
    values: list[Any] = (column if column.type == wanted else column.cast(wanted)).to_pylist()
    return values


def _hashed(*values: Any) -> bytes:
    return hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest()


def _array(hashes: Sequence[bytes]) -> SignatureArray:
    return np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, 2)


def _numbered(signatures: SignatureArray) -> pa.Array:
    """Tell equal signatures apart by a number: the first of its kind, the second …"""
    order = np.lexsort((signatures[:, 0], signatures[:, 1]))
    ordered = signatures[order]
    new = np.ones(len(ordered), np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.flatnonzero(new)
    numbers = np.empty(len(ordered), np.uint64)
    numbers[order] = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    return _as_bytes(np.column_stack([signatures, numbers]))


def _as_bytes(rows: npt.NDArray[np.uint64]) -> pa.Array:
    width = rows.shape[1] * rows.itemsize
    buffer = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, buffer])


def _within(values: pa.Array, others: pa.Array) -> Mask:
    found: Mask = pc.is_in(values, value_set=others).to_numpy(zero_copy_only=False)
    return found
