"""One request against the cache: which items still need computing, and the whole put together from both parts.

An item that a request holds twice is computed once. Without a cache every item is computed as it comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lakebed.platform.encoder.prepared import IntArray, Prepared, VectorArray
from lakebed.platform.items import Item
from lakebed.serve.cache import CachedItem, EmbeddingCache, vectors_of
from lakebed.serve.tokens import OwnTokens


@dataclass(frozen=True, eq=False)
class Counts:
    """What each item of a request counts: text tokens, text tokens cut off, series values."""

    tokens: IntArray
    truncated: IntArray
    samples: IntArray


class Lookup(Protocol):
    """What of a request is known. `prepared` and `computed` are of the `new` items, None when there are none."""

    @property
    def new(self) -> Sequence[Item] | OwnTokens:
        """The inputs to compute."""
        ...

    def counts(self, prepared: Prepared | None) -> Counts:
        """What all items of the request count, in their order."""
        ...

    def vectors(self, computed: VectorArray | None) -> VectorArray:
        """Native vectors of all items, in their order."""
        ...

    def keep(self, prepared: Prepared | None, computed: VectorArray | None) -> int:
        """Remember what was computed; returns how many others had to go for it."""
        ...


class Uncached:
    """Nothing is known."""

    def __init__(self, inputs: Sequence[Item] | OwnTokens) -> None:
        self.new = inputs

    def counts(self, prepared: Prepared | None) -> Counts:
        """As prepared."""
        assert prepared is not None
        return Counts(prepared.tokens, prepared.truncated, prepared.samples)

    def vectors(self, computed: VectorArray | None) -> VectorArray:
        """As computed."""
        assert computed is not None
        return computed

    def keep(self, prepared: Prepared | None, computed: VectorArray | None) -> int:
        """Remember nothing."""
        return 0


class Cached:
    """What one model's cache knew of a request's items when it was asked."""

    def __init__(self, cache: EmbeddingCache, digest: str, items: Sequence[Item]) -> None:
        self._cache = cache
        self._digest = digest
        self._keys = [item.content_key() for item in items]
        self._known = cache.find(digest, set(self._keys))
        first: dict[str, Item] = {}
        for key, item in zip(self._keys, items, strict=True):
            if key not in self._known:
                first.setdefault(key, item)
        self._new_keys = list(first)
        self.new = list(first.values())

    def counts(self, prepared: Prepared | None) -> Counts:
        """From the cache, and from what was prepared."""
        rows = {key: (item.tokens, item.truncated, item.samples) for key, item in self._known.items()}
        if prepared is not None:
            rows.update(zip(self._new_keys, _counts(prepared), strict=True))
        return Counts(*np.array([rows[key] for key in self._keys], np.int64).T)

    def vectors(self, computed: VectorArray | None) -> VectorArray:
        """From the cache, and from what was computed."""
        known = vectors_of(list(self._known.values())) if self._known else None
        rows = np.concatenate([part for part in (known, computed) if part is not None])
        place = {key: row for row, key in enumerate([*self._known, *self._new_keys])}
        return rows[[place[key] for key in self._keys]]

    def keep(self, prepared: Prepared | None, computed: VectorArray | None) -> int:
        """Put what was computed into the cache."""
        if prepared is None or computed is None:
            return 0
        rows = zip(np.ascontiguousarray(computed, "<f4"), _counts(prepared), strict=True)
        items = [CachedItem(vector.tobytes(), *counts) for vector, counts in rows]
        return self._cache.store(self._digest, dict(zip(self._new_keys, items, strict=True)))


def _counts(prepared: Prepared) -> list[tuple[int, int, int]]:
    columns = (prepared.tokens, prepared.truncated, prepared.samples)
    return list(zip(*(column.tolist() for column in columns), strict=True))
