"""A deterministic encoder without weights: real prepare, forward and finish, no torch. For tests and dry runs.

Its vectors carry no meaning, but equal items get equal vectors, different ones different vectors, and truncation,
usage and batching behave as with a real model.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lakebed.platform.encoder.prepared import Prepared, Ragged, VectorArray
from lakebed.platform.encoder.protocol import EncoderInfo, truncate
from lakebed.platform.items import Item

_MAX_TOKENS = 256


@dataclass(frozen=True)
class FakeEncoder:
    """Vectors seeded by the content key. `seconds_per_row` simulates a slow device."""

    dimensions: int = 32
    seconds_per_row: float = 0.0
    name: str = "fake"

    @property
    def info(self) -> EncoderInfo:
        """Name, digest and sizes; the digest changes with the dimensions, as a model's would."""
        digest = hashlib.sha256(f"lakebed fake encoder {self.dimensions}".encode()).hexdigest()
        return EncoderInfo(self.name, digest, self.dimensions, _MAX_TOKENS)

    def prepare(self, items: Sequence[Item]) -> Prepared:
        """Split texts at white space; a token is a word."""
        words = np.array([len((item.text or "").split()) for item in items], np.int64)
        samples = np.array([item.samples for item in items], np.int64)
        tokens = np.minimum(words, _MAX_TOKENS)
        keys = [np.frombuffer(bytes.fromhex(item.content_key()), np.uint64) for item in items]
        return Prepared(
            {"key": Ragged.of(keys, np.uint64)},
            costs=np.maximum(1, tokens + samples // 16),
            tokens=tokens,
            truncated=words - tokens,
            samples=samples,
        )

    def forward(self, work: Prepared) -> VectorArray:
        """Draw each vector from its key alone, so that the batch around it cannot matter."""
        if self.seconds_per_row:
            time.sleep(self.seconds_per_row * len(work))
        keys = work.columns["key"]
        vectors = np.empty((len(work), self.dimensions), np.float32)
        for row in range(len(work)):
            generator = np.random.default_rng(keys.row(row))
            vectors[row] = generator.standard_normal(self.dimensions)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def finish(self, vectors: VectorArray, dimensions: int | None = None) -> VectorArray:
        """Truncate and renormalise."""
        return truncate(vectors, dimensions)
