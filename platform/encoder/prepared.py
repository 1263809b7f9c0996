"""Work that is ready for the device: ragged columns of numbers for n items, cut and joined as whole arrays.

Does not know what the columns mean: each encoder names its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
VectorArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Variable-length rows in one array: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: npt.NDArray[Any]
    offsets: IntArray

    @classmethod
    def of(cls, rows: Sequence[npt.NDArray[Any]], dtype: npt.DTypeLike, shape: tuple[int, ...] = ()) -> "Ragged":
        """Join rows; `shape` is the shape of one element, for when there are no rows to tell it."""
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        values = np.concatenate(rows) if rows else np.empty((0, *shape))
        return cls(values.astype(dtype, copy=False), offsets_of(lengths))

    @cached_property
    def lengths(self) -> IntArray:
        """Length of each row."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, index: int) -> npt.NDArray[Any]:
        """Row `index`, a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def take(self, indices: IntArray) -> "Ragged":
        """Rows `indices`, in that order."""
        lengths = self.lengths[indices]
        offsets = offsets_of(lengths)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        return Ragged(self.values[places], offsets)


def offsets_of(lengths: IntArray) -> IntArray:
    """Running offsets, from 0, of rows of these lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


@dataclass(frozen=True, eq=False)
class Prepared:
    """n items ready for `forward`.

    `costs` is each item's share of a batch budget, in token equivalents. `tokens`, `truncated` and `samples`
    are counts per item for usage reports: text tokens that are embedded, text tokens cut off, series values.
    """

    columns: Mapping[str, Ragged]
    costs: IntArray
    tokens: IntArray
    truncated: IntArray
    samples: IntArray

    def __len__(self) -> int:
        return len(self.costs)

    def take(self, indices: IntArray) -> "Prepared":
        """Items `indices`, in that order."""
        return Prepared(
            {name: column.take(indices) for name, column in self.columns.items()},
            self.costs[indices],
            self.tokens[indices],
            self.truncated[indices],
            self.samples[indices],
        )


def concat(parts: Sequence[Prepared]) -> Prepared:
    """Join prepared work of one encoder, in order; `parts` must not be empty."""
    if len(parts) == 1:
        return parts[0]
    columns = {
        name: Ragged(
            np.concatenate([part.columns[name].values for part in parts]),
            offsets_of(np.concatenate([part.columns[name].lengths for part in parts])),
        )
        for name in parts[0].columns
    }
    return Prepared(
        columns,
        *(
            np.concatenate([getattr(part, field) for part in parts])
            for field in ("costs", "tokens", "truncated", "samples")
        ),
    )
