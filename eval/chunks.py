"""Cutting the items of a data set into chunks: what is encoded, kept and batched as one.

A vector's last bits depend on the items that share its batch. A chunk's batches are cut from the chunk alone, and
the chunks from the data alone, so a vector is the same whoever encodes the chunk, and whether it is encoded or was
kept. Equal contents of a part are one item.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.tasks.protocol import Vectors
from lakebed.platform.encoder.plan import Window, windows
from lakebed.platform.encoder.prepared import IntArray, VectorArray
from lakebed.platform.encoder.protocol import size_of
from lakebed.platform.items import Item

WINDOW: Final = Window(rows=1024, size=2**20)
"""How large a chunk may be: some seconds of work, so that little is lost by a kill and many workers find some."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Items of different contents, in order."""

    items: Sequence[Item]

    @cached_property
    def key(self) -> str:
        """32 hex digits over the content keys."""
        keys = "\n".join(item.content_key() for item in self.items)
        return hashlib.blake2b(keys.encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, eq=False)
class ChunkedPart:
    """A part's chunks; `rows` says for each example which of their items it is."""

    chunks: Sequence[Chunk]
    rows: IntArray

    def joined(self, vectors: Sequence[VectorArray]) -> VectorArray:
        """One vector per example from one array per chunk; (examples, dimensions) float32."""
        return np.asarray(np.concatenate(vectors)[self.rows])


@dataclass(frozen=True, eq=False)
class ChunkedSet:
    """A data set in chunks, part by part: sets that share a part share its chunks."""

    parts: Mapping[str, ChunkedPart]

    @classmethod
    def of(cls, data: Dataset) -> "ChunkedSet":
        """Cut a data set."""
        return cls({name: _chunked(part) for name, part in data.parts.items()})

    @cached_property
    def chunks(self) -> list[Chunk]:
        """The chunks of all parts, in order."""
        return [chunk for part in self.parts.values() for chunk in part.chunks]

    def joined(self, vectors: Sequence[VectorArray]) -> Vectors:
        """Vectors by part from one array per chunk, in the order of `chunks`."""
        given: Iterator[VectorArray] = iter(vectors)
        return {name: part.joined([next(given) for _ in part.chunks]) for name, part in self.parts.items()}


def _chunked(part: Part) -> ChunkedPart:
    places: dict[str, int] = {}
    rows = [places.setdefault(item.content_key(), len(places)) for item in part.items]
    firsts = np.unique(np.array(rows, np.int64), return_index=True)[1]
    different = [part.items[place] for place in firsts]
    return ChunkedPart([Chunk(held) for held in windows(different, size_of, WINDOW)], np.array(rows, np.int64))
