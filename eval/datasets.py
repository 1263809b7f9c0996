"""What is measured on: parts of items with labels, a name, a version and a digest of the content.

Knows neither where data lies (`sources/`) nor what is computed on it (`tasks/`). A part may bring vectors that
were made before, instead of items: `brought_vectors.py` says what becomes of them.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.items import Item
from lakebed.platform.tracking import DatasetRef

LabelArray = npt.NDArray[np.str_]

_DIGEST_BYTES: Final = 16
_SHUFFLE_SEED: Final = 0


@dataclass(frozen=True, eq=False)
class Part:
    """Items with one label each: a class, a gold score, or for retrieval what a query and its answers share.

    `attributes` (items x attributes), where there are any, grade how near two items are to each other. A part that
    brings `vectors` (labels x dimensions) may have no items; `contents` are then the content keys of what they
    were made from, so that the same rows embedded by another model are the same data.
    """

    items: Sequence[Item]
    labels: LabelArray
    attributes: LabelArray | None = None
    vectors: VectorArray | None = None
    contents: Sequence[str] | None = None

    @cached_property
    def content_keys(self) -> list[str]:
        """Content key of each example."""
        return [item.content_key() for item in self.items] if self.contents is None else list(self.contents)

    @cached_property
    def keys(self) -> list[str]:
        """Name of each example: its content key and, as contents may repeat, its position."""
        return [f"{content}-{position}" for position, content in enumerate(self.content_keys)]

    def __len__(self) -> int:
        return len(self.labels)

    def limited(self, limit: int) -> "Part":
        """At most `limit` examples, always the same ones."""
        if len(self) <= limit:
            return self
        chosen = np.sort(np.random.default_rng(_SHUFFLE_SEED).permutation(len(self))[:limit])
        return self.taken(chosen)

    def taken(self, places: npt.NDArray[np.int64]) -> "Part":
        """The examples at these places, in this order."""
        return Part(
            [self.items[place] for place in places] if self.items else [],
            self.labels[places],
            None if self.attributes is None else self.attributes[places],
            None if self.vectors is None else self.vectors[places],
            None if self.contents is None else [self.contents[place] for place in places],
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """Named parts, such as `train` and `test`; `filled` counts missing values that the loader interpolated.

    `notes` say what the loader left out or took for something else. `made_by` is the digest of the model whose
    vectors the parts bring, where it is known.
    """

    name: str
    version: str
    source: str
    parts: Mapping[str, Part]
    filled: int = 0
    notes: tuple[str, ...] = ()
    made_by: str | None = None

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

    @property
    def remarks(self) -> Iterator[str]:
        """What a reader of its scores should know: the loader's notes, and rows both trained on and tested."""
        yield from self.notes
        shared = self.shared_rows
        if shared:
            tested = len(self.parts["test"])
            yield f"{shared} of {tested} test rows are in the train part too (equal content keys)"

    @cached_property
    def shared_rows(self) -> int:
        """How many examples of part `test` have the very content of one of part `train`."""
        if not {"train", "test"} <= self.parts.keys():
            return 0
        trained = set(self.parts["train"].content_keys)
        return sum(content in trained for content in self.parts["test"].content_keys)

    def limited(self, limit: int) -> "Dataset":
        """The same data set with at most `limit` examples per part; its digest is another."""
        return replace(self, parts={name: part.limited(limit) for name, part in self.parts.items()})
