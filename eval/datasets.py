"""What is measured on: parts of items with labels, a name, a version and a digest of the content.

Knows neither where data lies (`sources/`) nor what is computed on it (`tasks/`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from lakebed.platform.items import Item
from lakebed.platform.tracking import DatasetRef

LabelArray = npt.NDArray[np.str_]

_DIGEST_BYTES: Final = 16
_SHUFFLE_SEED: Final = 0


@dataclass(frozen=True, eq=False)
class Part:
    """Items with one label each: a class, a gold score, or for retrieval what a query and its answers share.

    `attributes` (items x attributes), where there are any, grade how near two items are to each other.
    """

    items: Sequence[Item]
    labels: LabelArray
    attributes: LabelArray | None = None

    @cached_property
    def keys(self) -> list[str]:
        """Name of each example: its content key and, as contents may repeat, its position."""
        return [f"{item.content_key()}-{position}" for position, item in enumerate(self.items)]

    def __len__(self) -> int:
        return len(self.items)

    def limited(self, limit: int) -> "Part":
        """At most `limit` examples, always the same ones."""
        if len(self) <= limit:
            return self
        chosen = np.sort(np.random.default_rng(_SHUFFLE_SEED).permutation(len(self))[:limit])
        attributes = None if self.attributes is None else self.attributes[chosen]
        return Part([self.items[index] for index in chosen], self.labels[chosen], attributes)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Named parts, such as `train` and `test`; `filled` counts missing values that the loader interpolated."""

    name: str
    version: str
    source: str
    parts: Mapping[str, Part]
    filled: int = 0

    @cached_property
    def digest(self) -> str:
        """32 hex digits over content keys, labels and attributes of every part, in order."""
        digest = hashlib.blake2b(b"lakebed-dataset-1", digest_size=_DIGEST_BYTES)
        for name, part in self.parts.items():
            digest.update(f"\n{name} {len(part)}".encode())
            for key, label in zip(part.keys, part.labels, strict=True):
                digest.update(f"\n{key} {label!r}".encode())
            if part.attributes is not None:
                digest.update(f"\nattributes {part.attributes.tolist()!r}".encode())
        return digest.hexdigest()

    @property
    def rows(self) -> int:
        """Items in all parts."""
        return sum(len(part) for part in self.parts.values())

    @property
    def reference(self) -> DatasetRef:
        """How a run names it."""
        return DatasetRef(self.name, self.digest, self.source, self.rows, self.version)

    def limited(self, limit: int) -> "Dataset":
        """The same data set with at most `limit` examples per part; its digest is another."""
        parts = {name: part.limited(limit) for name, part in self.parts.items()}
        return Dataset(self.name, self.version, self.source, parts, self.filled)
