"""A few items of our own, embedded where a model is made, by a job's driver, and by every worker before its first
batch: where the same model gives other vectors, none must be written.

What can differ is the machine: its processor, its libraries, its memory. Knows no tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from lakebed.jobs.encoding import RowEmbedder
from lakebed.platform.config.embed import ColumnsConfig
from lakebed.platform.encoder.artifact import record_vectors
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


def all_items() -> tuple[Item, ...]:
    """Items of every kind."""
    return (*map(Item.of, TEXTS), *(Item.of(None, signal) for signal in SIGNALS))


def items_for(columns: ColumnsConfig) -> tuple[Item, ...]:
    """Items of the kinds that a job embeds: what it does not use need not work, nor be compiled."""
    series = bool(columns.series or columns.channels)
    return tuple(item for item in all_items() if (series if item.text is None else columns.text))


def record_canaries(encoder: Encoder, folder: Path) -> None:
    """Keep the vectors that an encoder gives here beside its model."""
    items = all_items()
    keys = (item.content_key() for item in items)
    record_vectors(folder, dict(zip(keys, canary_vectors(encoder, items), strict=True)))


def canary_vectors(encoder: Encoder, items: Sequence[Item], dimensions: int | None = None) -> VectorArray:
    """Embed items; (n, dimensions) float32, with zeros for those that this encoder cannot embed."""
    return RowEmbedder(encoder, dimensions or encoder.info.dimensions, Budget())(items).vectors


@dataclass(frozen=True, eq=False)
class Canaries:
    """Items, and the vectors (n, dimensions) that they are to have; `source` says where they had them."""

    items: tuple[Item, ...]
    vectors: VectorArray
    source: str

    @classmethod
    def of(
        cls, encoder: Encoder, columns: ColumnsConfig, dimensions: int, recorded: Mapping[str, VectorArray]
    ) -> Self:
        """Take what was recorded of a model by content key; of a model without, what this encoder gives."""
        items = items_for(columns)
        known = tuple(item for item in items if item.content_key() in recorded)
        if not known:
            return cls(items, canary_vectors(encoder, items, dimensions), "where the job was started")
        vectors = encoder.finish(np.stack([recorded[item.content_key()] for item in known]), dimensions)
        return cls(known, vectors, "where it was made")

    def check(self, encoder: Encoder, model: str, node: str) -> None:
        """Raise JobFailedError when an encoder gives other vectors. What had none when recorded is left out."""
        found = canary_vectors(encoder, self.items, self.vectors.shape[1])
        recorded = self.vectors.any(axis=1)
        cosines = np.einsum("ij,ij->i", found[recorded], self.vectors[recorded], dtype=np.float64)
        if not cosines.size or cosines.min() >= LEAST_COSINE:
            return
        raise JobFailedError(
            f"model {model} on {node} gives other vectors than {self.source}: a cosine of "
            f"{cosines.min():.4f} for {_shown(self.items[np.flatnonzero(recorded)[cosines.argmin()]])}",
            hint="compare the versions of torch and numpy there, and the processors",
        )


def _shown(item: Item) -> str:
    return f"the text {item.text!r:.60}" if item.text else f"a test signal of {item.samples} samples"
