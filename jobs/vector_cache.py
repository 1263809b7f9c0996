"""Vectors of contents that one worker has embedded before, within a bound of bytes, the oldest dropped first.

Rows lie in arrays that are made whole at the start and touched as they fill, so an entry costs little beside its
vector. Knows no tables and no models: a worker has one model.
"""

import threading
from collections.abc import Sequence
from typing import Final

import numpy as np

from lakebed.platform.encoder.prepared import IntArray, VectorArray

_OVERHEAD_BYTES: Final = 220
"""What an entry takes besides its vector: its key, its place, its counts."""


class VectorCache:
    """At most `max_bytes` of vectors, with the counts of tokens and samples of each. Safe on several threads."""

    def __init__(self, max_bytes: int, dimensions: int) -> None:
        self.slots = max_bytes // (4 * dimensions + _OVERHEAD_BYTES)
        self._vectors = np.empty((self.slots, dimensions), np.float32)
        self._counts = np.empty((self.slots, 2), np.int64)
        self._slot_of: dict[str, int] = {}
        self._key_in: list[str] = []
        self._next = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._slot_of)

    def find(self, keys: Sequence[str]) -> tuple[IntArray, VectorArray, IntArray]:
        """Which of these are here: their places in `keys`, vectors (n, dimensions), tokens and samples (n, 2)."""
        with self._lock:
            slots = np.fromiter((self._slot_of.get(key, -1) for key in keys), np.int64, len(keys))
            places = np.flatnonzero(slots >= 0)
            return places, self._vectors[slots[places]], self._counts[slots[places]]

    def store(self, keys: Sequence[str], vectors: VectorArray, counts: IntArray) -> None:
        """Keep vectors by key, as many as there is room for; `keys` are all different."""
        with self._lock:
            fresh = np.array([place for place, key in enumerate(keys) if key not in self._slot_of], np.int64)
            fresh = fresh[: self.slots]
            slots = (self._next + np.arange(len(fresh))) % max(1, self.slots)
            for place, slot in zip(fresh.tolist(), slots.tolist(), strict=True):
                self._put(keys[place], slot)
            self._vectors[slots] = vectors[fresh]
            self._counts[slots] = counts[fresh]
            self._next += len(fresh)

    def _put(self, key: str, slot: int) -> None:
        if slot == len(self._key_in):
            self._key_in.append(key)
        else:
            del self._slot_of[self._key_in[slot]]
            self._key_in[slot] = key
        self._slot_of[key] = slot
