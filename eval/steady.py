"""An encoder whose vectors depend on the items alone, bit for bit, however many cores a process has.

`encode` cuts batches by the number of an encoder's lanes, and which items share a batch decides the last bits of a
vector. Here every process cuts as if it had `LANES` lanes, and runs as many at once as it has cores. Each lane has
one core (`platform/encoder/lanes.py`), so no sum is split between threads either.
"""

import threading
from collections.abc import Sequence
from typing import Final

from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.platform.encoder.protocol import ConcurrentEncoder, Encoder, EncoderInfo
from lakebed.platform.items import Item

LANES: Final = 8
"""Enough that the last batches of a chunk keep all of a few cores busy, and few enough that batches are large."""


class SteadyEncoder:
    """A `ConcurrentEncoder` in batches that no machine decides."""

    def __init__(self, encoder: ConcurrentEncoder) -> None:
        self._encoder = encoder
        self._cores = threading.BoundedSemaphore(encoder.lanes)

    @property
    def info(self) -> EncoderInfo:
        """Those of the encoder."""
        return self._encoder.info

    @property
    def lanes(self) -> int:
        """The same everywhere."""
        return LANES

    def prepare(self, items: Sequence[Item]) -> Prepared:
        """Prepare as the encoder does."""
        return self._encoder.prepare(items)

    def forward(self, work: Prepared) -> VectorArray:
        """Wait for a core, and run the encoder's forward on it."""
        with self._cores:
            return self._encoder.forward(work)

    def finish(self, vectors: VectorArray, dimensions: int | None = None) -> VectorArray:
        """Finish as the encoder does."""
        return self._encoder.finish(vectors, dimensions)


def steady(encoder: Encoder) -> Encoder:
    """The encoder in batches that depend on the items alone; one without lanes has such batches already."""
    return SteadyEncoder(encoder) if isinstance(encoder, ConcurrentEncoder) else encoder
