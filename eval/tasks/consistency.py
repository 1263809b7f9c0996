"""Consistency: does one item always get one vector, and do nearest neighbours stay when vectors are made
otherwise?

The same encoder is asked again in other company: each item alone, all in another order, all in smaller batches;
and, where a suite names them, an endpoint that serves the model, and another version of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.eval.workplace import takes
from lakebed.platform.encoder.load import Model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import IntArray, VectorArray
from lakebed.platform.encoder.protocol import Encoder, encode
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import FloatArray
from lakebed.platform.precision import EmbedDtype, rounded

_ROUNDED: Final[tuple[EmbedDtype, ...]] = ("float16", "int8")
_SEED: Final = 0


@dataclass(frozen=True)
class ConsistencyTask:
    """Takes all parts together; items of equal content count once. An `EncoderTask`."""

    alone: int
    batch_rows: int
    neighbours: int
    served: Model | None = None
    baseline: Model | None = None
    name: ClassVar[str] = "consistency"

    @property
    def lasting(self) -> bool:
        """What a server answers may change without a word."""
        return self.served is None

    @property
    def headlines(self) -> tuple[str, ...]:
        """How far vectors move at most, and how many neighbours survive a byte a number."""
        return ("alone_cosine_min", "order_cosine_min", "batch_cosine_min", f"int8_top{self.neighbours}")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Numbers of items and neighbours, and whom the encoder is compared with."""
        return {
            "alone": self.alone,
            "batch_rows": self.batch_rows,
            "neighbours": self.neighbours,
            "served": self.served and self.served.reference,
            "baseline": self.baseline and self.baseline.reference,
            "baseline_digest": self.baseline and self.baseline.digest,
        }

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Raise ConfigError: vectors alone do not say how they were made."""
        raise ConfigError(f"{self.name} of {data.name} asks the encoder itself, and there are vectors only")

    def run_with(self, encoder: Encoder, data: Dataset, vectors: Vectors) -> TaskResult:
        """Least and mean cosine to the vectors of the run, and shares of nearest neighbours that stay."""
        pool = _pooled(data, vectors)
        cosines = {name: pool.compared(*found) for name, found in self._again(encoder, pool)}
        kept = dict(self._kept(pool))
        metrics: dict[str, float] = {}
        for name, one in cosines.items():
            metrics |= {f"{name}_cosine_min": float(one.scores.min()), one.metric: float(one.scores.mean())}
        metrics |= {one.metric: float(one.scores.mean()) for one in kept.values()}
        return TaskResult(metrics, [*cosines.values(), *kept.values()])

    def _again(self, encoder: Encoder, pool: "_Pool") -> "Iterator[tuple[str, tuple[str, IntArray, VectorArray]]]":
        """By name: the metric, rows of the pool, and the vectors that they have now."""
        length = pool.vectors.shape[1]
        generator = np.random.default_rng(_SEED)
        some = pool.some(self.alone, generator)
        alone = [encode(encoder, [pool.part.items[row]], length).vectors for row in some]
        yield "alone", ("alone_cosine_mean", some, np.concatenate(alone))
        order = generator.permutation(len(pool.part))
        shuffled = encode(encoder, [pool.part.items[row] for row in order], length).vectors
        yield "order", ("order_cosine_mean", order, shuffled)
        small = encode(encoder, pool.part.items, length, Budget(rows=self.batch_rows)).vectors
        yield "batch", ("batch_cosine_mean", np.arange(len(pool.part)), small)
        if self.served is not None:
            yield "served", ("served_cosine_mean", *_answered(self.served, pool, some, encoder.info.dimensions))

    def _kept(self, pool: "_Pool") -> Iterator[tuple[str, ExampleScores]]:
        exact = pool.nearest(pool.vectors, self.neighbours)
        others: dict[str, VectorArray] = {dtype: _read_back(pool.vectors, dtype) for dtype in _ROUNDED}
        if self.baseline is not None:
            others["baseline"] = encode(self.baseline.load(), pool.part.items).vectors
        for name, vectors in others.items():
            share = overlap(exact, pool.nearest(vectors, self.neighbours))
            metric = f"{name}_top{self.neighbours}"
            said = [f"{value:.0%} kept" for value in share]
            yield name, ExampleScores(metric, pool.part.keys, share, pool.part.labels.tolist(), said)


@dataclass(frozen=True, eq=False)
class _Pool:
    """Different items of all parts, each labelled with its part, and the vectors that the run gave them."""

    part: Part
    vectors: VectorArray

    def some(self, count: int, generator: np.random.Generator) -> IntArray:
        """At most `count` rows of each part."""
        chosen = []
        for name in np.unique(self.part.labels):
            rows = np.flatnonzero(self.part.labels == name)
            chosen.append(np.sort(generator.permutation(rows)[:count]))
        return np.concatenate(chosen)

    def compared(self, metric: str, rows: IntArray, vectors: VectorArray) -> ExampleScores:
        """Cosine of each new vector to that of the run."""
        before = self.vectors[rows].astype(np.float64)
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(vectors.astype(np.float64), axis=1)
        cosines = (before * vectors).sum(axis=1) / np.where(lengths > 0, lengths, 1)
        keys = [self.part.keys[row] for row in rows]
        labels = self.part.labels[rows].tolist()
        return ExampleScores(metric, keys, cosines, labels, [f"{cosine:.6f}" for cosine in cosines])

    def nearest(self, vectors: VectorArray, count: int) -> IntArray:
        """Rows of the nearest others of each item, (n, count) or as many as there are."""
        from sklearn.neighbors import NearestNeighbors

        count = min(count, len(vectors) - 1)
        found = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(vectors)
        return np.asarray(found.kneighbors(return_distance=False))


def overlap(before: IntArray, after: IntArray) -> FloatArray:
    """For each row: which share of its neighbours before are among those after, in any order."""
    return np.asarray((before[:, :, None] == after[:, None, :]).any(axis=2).mean(axis=1))


def _answered(model: Model, pool: _Pool, some: IntArray, dimensions: int) -> tuple[IntArray, VectorArray]:
    """Rows that a server takes, and its vectors of them; raises ConfigError when it serves other dimensions."""
    server = model.load()
    if server.info.dimensions != dimensions:
        raise ConfigError(
            f"{server.info.name} gives vectors of {server.info.dimensions} dimensions, not {dimensions}",
            hint="does it serve the same model?",
        )
    asked = np.array([row for row in some if takes(server, [pool.part.items[row]])], np.int64)
    items = [pool.part.items[row] for row in asked]
    return asked, encode(server, items, pool.vectors.shape[1]).vectors


def _pooled(data: Dataset, vectors: Vectors) -> _Pool:
    items = [item for part in data.parts.values() for item in part.items]
    labels = np.concatenate([np.full(len(part), name) for name, part in data.parts.items()])
    _, first = np.unique([item.content_key() for item in items], return_index=True)
    first = np.sort(first)
    if len(first) < 2:
        raise ConfigError(f"data set {data.name}: fewer than two different items, nothing to compare")
    joined = np.concatenate([vectors[name] for name in data.parts])
    return _Pool(Part([items[row] for row in first], labels[first]), joined[first])


def _read_back(vectors: VectorArray, dtype: EmbedDtype) -> VectorArray:
    """Vectors as a client of the endpoint has them after asking for `dtype`."""
    found = rounded(vectors, dtype)
    values = found.values.astype(np.float64)
    return np.asarray(values if found.scales is None else values * found.scales[:, None], np.float32)
