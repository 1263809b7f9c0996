"""A few items of our own, embedded by the driver and by every worker before its first batch: a worker on which the
same model gives other vectors must not write any.

What can differ is the machine: its processor, its libraries, its memory. Knows no tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from lakebed.jobs.encoding import RowEmbedder
from lakebed.platform.config.embed import ColumnsConfig
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.protocol import Encoder
from lakebed.platform.errors import JobFailedError
from lakebed.platform.items import Item

LEAST_COSINE: Final = 0.999
"""How close vectors of one item must be. Lower precision on a GPU stays well above; another model does not."""

TEXTS: Final = (
    "A miner would watch a canary: if it fell silent, the air was bad.",
    "pump 7 vibrates above its limit since 04:12",
    "Où est passé l'oiseau jaune ? 東京で見た。",
    "1 2 3 4 5 6 7 8 9 10",
)

_STEPS: Final = np.arange(96) / 96

SIGNALS: Final = (
    np.stack([np.sin(2 * np.pi * 5 * _STEPS), np.cos(2 * np.pi * 3 * _STEPS)]),
    np.stack([_STEPS**2 - 0.3, np.where(_STEPS < 0.5, 0.0, 1.0)]),
    np.sin(2 * np.pi * (2 + 9 * _STEPS) * _STEPS)[np.newaxis],
)


def items_for(columns: ColumnsConfig) -> tuple[Item, ...]:
    """Items of the kinds that a job embeds: what it does not use need not work, nor be compiled."""
    texts = [Item.of(text) for text in TEXTS] if columns.text else []
    signals = [Item.of(None, signal) for signal in SIGNALS] if columns.series or columns.channels else []
    return (*texts, *signals)


def canary_vectors(encoder: Encoder, items: Sequence[Item], dimensions: int | None = None) -> VectorArray:
    """Embed items; (n, dimensions) float32, with zeros for those that this encoder cannot embed."""
    return RowEmbedder(encoder, dimensions or encoder.info.dimensions, Budget())(items).vectors


@dataclass(frozen=True, eq=False)
class Canaries:
    """Items, and the vectors (n, dimensions) that they had where the job was checked."""

    items: tuple[Item, ...]
    vectors: VectorArray

    @classmethod
    def of(cls, encoder: Encoder, columns: ColumnsConfig, dimensions: int) -> Self:
        """Record them."""
        items = items_for(columns)
        return cls(items, canary_vectors(encoder, items, dimensions))

    def check(self, encoder: Encoder, model: str, node: str) -> None:
        """Raise JobFailedError when an encoder gives other vectors. What had none when recorded is left out."""
        found = canary_vectors(encoder, self.items, self.vectors.shape[1])
        recorded = self.vectors.any(axis=1)
        cosines = np.einsum("ij,ij->i", found[recorded], self.vectors[recorded], dtype=np.float64)
        if not cosines.size or cosines.min() >= LEAST_COSINE:
            return
        raise JobFailedError(
            f"model {model} on node {node} gives other vectors than where the job was started: a cosine of "
            f"{cosines.min():.4f} for {_shown(self.items[np.flatnonzero(recorded)[cosines.argmin()]])}",
            hint="compare the versions of torch and numpy there, and the processors",
        )


def _shown(item: Item) -> str:
    return f"the text {item.text!r:.60}" if item.text else f"a test signal of {item.samples} samples"
