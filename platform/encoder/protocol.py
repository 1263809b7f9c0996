"""What an encoder is: three calls. The endpoint, the batch job and a notebook make the same three.

`prepare` runs on CPU threads, `forward` owns the device, `finish` turns raw vectors into what users get.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from lakebed.platform.encoder.plan import Budget, length_sorted_batches
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import Item


@dataclass(frozen=True)
class EncoderInfo:
    """What callers may know of an encoder.

    `dimensions` is the native length of a vector; `max_tokens` the text window, special tokens included;
    `digest` identifies the weights: equal digest, equal vectors.
    """

    name: str
    digest: str
    dimensions: int
    max_tokens: int


@runtime_checkable
class Encoder(Protocol):
    """Turns items into unit-length float32 vectors. `forward` need not be thread-safe; the others are."""

    @property
    def info(self) -> EncoderInfo:
        """Name, digest and sizes."""
        ...

    def prepare(self, items: Sequence[Item]) -> Prepared:
        """Tokenize and resample valid items, in order."""
        ...

    def forward(self, work: Prepared) -> VectorArray:
        """Run one batch on the device; (n, dimensions) float32, unit length."""
        ...

    def finish(self, vectors: VectorArray, dimensions: int | None = None) -> VectorArray:
        """Truncate to `dimensions`, then L2-renormalise; (n, dimensions) float32, C-contiguous."""
        ...


@dataclass(frozen=True, eq=False)
class Encoded:
    """Vectors (n, dimensions) float32 in the order of the items, with what they cost and what was cut."""

    vectors: VectorArray
    tokens: int
    truncated: int
    samples: int


def encode(
    encoder: Encoder, items: Sequence[Item], dimensions: int | None = None, budget: Budget | None = None
) -> Encoded:
    """Embed any number of items: prepare, run length-sorted batches within `budget`, restore the order."""
    check_dimensions(encoder.info, dimensions)
    work = encoder.prepare(items)
    vectors = np.empty((len(items), encoder.info.dimensions), np.float32)
    for batch in length_sorted_batches(work.costs, budget or Budget()):
        vectors[batch] = encoder.forward(work.take(batch))
    return Encoded(
        encoder.finish(vectors, dimensions),
        int(work.tokens.sum()),
        int(work.truncated.sum()),
        int(work.samples.sum()),
    )


def check_dimensions(info: EncoderInfo, dimensions: int | None) -> None:
    """Raise ConfigError unless vectors of this encoder can be cut to `dimensions`."""
    if dimensions is not None and not 1 <= dimensions <= info.dimensions:
        raise ConfigError(f"dimensions must be between 1 and {info.dimensions} for {info.name}, not {dimensions}")


def truncate(vectors: VectorArray, dimensions: int | None) -> VectorArray:
    """Keep the first `dimensions` of each vector and bring it back to unit length.

    Matryoshka truncation (Kusupati et al. 2022, arXiv 2205.13147). A zero vector stays zero.
    """
    if dimensions is None or dimensions == vectors.shape[1]:
        return np.ascontiguousarray(vectors)
    cut = np.array(vectors[:, :dimensions], order="C")
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    cut /= np.where(norms > 0, norms, 1)
    return cut
