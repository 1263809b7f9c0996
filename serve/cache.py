"""Vectors of items that were embedded before, within a bound of bytes, the least recently used dropped first.

An entry belongs to a content and a model digest and holds the whole native vector, so one entry answers every
`dimensions`. It also holds what the item counts, so that usage needs no tokenizing. Knows no requests.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lakebed.platform.encoder.prepared import VectorArray

_OVERHEAD_BYTES: Final = 600
"""What Python takes for an entry besides its vector; a test measures it."""


@dataclass(frozen=True, slots=True)
class CachedItem:
    """One item's native vector, as little-endian float32, and its counts."""

    vector: bytes
    tokens: int
    truncated: int
    samples: int

    @property
    def size(self) -> int:
        """Bytes that the entry takes."""
        return len(self.vector) + _OVERHEAD_BYTES


class EmbeddingCache:
    """At most `max_bytes` of cached items. Safe to call from several threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._entries: OrderedDict[tuple[str, str], CachedItem] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, digest: str, keys: Iterable[str]) -> dict[str, CachedItem]:
        """What there is of these content keys for a model; finding one makes it the most recent."""
        found = {}
        with self._lock:
            for key in keys:
                entry = self._entries.get((digest, key))
                if entry is not None:
                    self._entries.move_to_end((digest, key))
                    found[key] = entry
        return found

    def store(self, digest: str, items: Mapping[str, CachedItem]) -> int:
        """Keep items by content key, the last ones as the most recent; returns how many others had to go."""
        evicted = 0
        with self._lock:
            for key, item in items.items():
                if item.size > self.max_bytes:
                    continue
                self._forget((digest, key))
                self._entries[digest, key] = item
                self.bytes += item.size
                while self.bytes > self.max_bytes:
                    self._forget(next(iter(self._entries)))
                    evicted += 1
        return evicted

    def _forget(self, key: tuple[str, str]) -> None:
        entry = self._entries.pop(key, None)
        self.bytes -= 0 if entry is None else entry.size


def vectors_of(items: Sequence[CachedItem]) -> VectorArray:
    """Native vectors (n, dimensions) of cached items; `items` must not be empty."""
    return np.frombuffer(b"".join([item.vector for item in items]), "<f4").reshape(len(items), -1)
