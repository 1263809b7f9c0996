"""Generated series with captions of the test split: pools for retrieval, and pairs that differ in level only."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lakebed.eval.datasets import Dataset, Part
from lakebed.platform import synthesis
from lakebed.platform.config.entries.cross_modal import CrossModal
from lakebed.platform.config.entries.level import Level
from lakebed.platform.items import Item

_ORIGIN: Final = "lakebed.platform.synthesis"
_DEPENDENT: Final = {"wave": "cycle", "where": "event"}
"""Attributes that say nothing where another one is `none`."""


@dataclass(frozen=True)
class Pairs:
    """A pool of captions and their series; equal captions answer for each other."""

    entry: CrossModal

    def names(self) -> list[str]:
        """The pool's size is in its name."""
        return [self._name(self.entry.pool)]

    def missing(self) -> list[str]:
        """Nothing can be."""
        return []

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Draw the pairs."""
        size = min(self.entry.pool, limit or self.entry.pool)
        drawn = synthesis.captioned_series(size, seed=self.entry.seed, split="test")
        yield _dataset(self._name(size), self.entry.seed, drawn, graded=True)

    def _name(self, size: int) -> str:
        return f"{self.entry.name}-{size}"


@dataclass(frozen=True)
class LevelPairs:
    """Pairs of series one after the other, the low one and the high one, with their captions."""

    entry: Level

    def names(self) -> list[str]:
        """The number of pairs is in its name."""
        return [self._name(self.entry.pairs)]

    def missing(self) -> list[str]:
        """Nothing can be."""
        return []

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Draw the pairs."""
        count = min(self.entry.pairs, limit or self.entry.pairs)
        drawn = [one for pair in synthesis.level_pairs(count, seed=self.entry.seed) for one in pair]
        yield _dataset(self._name(count), self.entry.seed, drawn, graded=False)

    def _name(self, count: int) -> str:
        return f"{self.entry.name}-{count}"


def _dataset(name: str, seed: int, drawn: Sequence[synthesis.Captioned], *, graded: bool) -> Dataset:
    captions = np.array([one.caption for one in drawn])
    attributes = np.array([_graded(one.attributes) for one in drawn]) if graded else None
    parts = {
        "text": Part([Item.of(text=one.caption) for one in drawn], captions, attributes),
        "signal": Part([Item.of(series=one.series) for one in drawn], captions, attributes),
    }
    return Dataset(name, f"seed-{seed}", f"{_ORIGIN}?seed={seed}", parts)


def _graded(attributes: Mapping[str, str]) -> list[str]:
    """Attributes as relevance is graded by them: numbers by sign and decade, since no two are quite equal."""
    values = dict(sorted(attributes.items()))
    for name, owner in _DEPENDENT.items():
        if values[owner] == "none":
            values[name] = "none"
    for name in ("level", "spread"):
        values[name] = _decade(float(values[name]))
    return list(values.values())


def _decade(value: float) -> str:
    return "0" if value == 0 else f"{'-' if value < 0 else ''}1e{math.floor(math.log10(abs(value)))}"
