"""How vectors lie on the sphere: figures of one set of vectors, or of pairs of them, each from its paper.

Arithmetic in float64 on blocks, so that memory stays small for large sets. Knows no items and no tasks.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.items import FloatArray

_BLOCK: Final = 1024
_SAME: Final = 0.9999
"""Cosine from which two vectors say the same."""


def alignment(x: VectorArray, y: VectorArray) -> float:
    """Mean squared distance of positive pairs, row by row (Wang and Isola 2020, arXiv 2005.10242)."""
    return float(((x.astype(np.float64) - y) ** 2).sum(axis=1).mean())


def uniformity(vectors: VectorArray, t: float = 2.0) -> float:
    """Log of the mean potential exp(-t |x - y|^2) of distinct pairs (Wang and Isola 2020); lower is better."""
    squares = (vectors.astype(np.float64) ** 2).sum(axis=1)
    total = sum(
        float(np.exp(-t * np.maximum(squares[block, None] + squares - 2 * cosines, 0)).sum())
        for block, cosines in _products(vectors)
    )
    rows = len(vectors)
    return float(np.log((total - rows) / (rows * (rows - 1))))


def effective_rank(vectors: VectorArray) -> float:
    """Exponential of the entropy of the singular values, as shares (Roy and Vetterli 2007, EUSIPCO).

    Of the matrix as it is, not centred. The singular values come from a triangular factor that is carried from
    block to block: exact, and no larger than dimensions x dimensions.
    """
    from scipy.linalg import qr, svdvals
    from scipy.stats import entropy

    factor = np.empty((0, vectors.shape[1]))
    for block in _blocks(len(vectors)):
        stacked = np.concatenate([factor, vectors[block].astype(np.float64)])
        factor = qr(stacked, mode="r", overwrite_a=True)[0][: vectors.shape[1]]
    return float(np.exp(entropy(svdvals(factor))))


def modality_gap(x: VectorArray, y: VectorArray) -> float:
    """Distance between the means of two modalities (Liang et al. 2022, arXiv 2203.02053)."""
    return float(np.linalg.norm(x.mean(axis=0, dtype=np.float64) - y.mean(axis=0, dtype=np.float64)))


def mean_cosine(vectors: VectorArray) -> float:
    """Mean product over all distinct pairs: the cosine of two vectors drawn at random."""
    rows = len(vectors)
    total = vectors.sum(axis=0, dtype=np.float64)
    own = (vectors.astype(np.float64) ** 2).sum()
    return float((total @ total - own) / (rows * (rows - 1)))


def duplicate_rate(vectors: VectorArray) -> float:
    """Share of vectors that have another one within a cosine of 0.9999."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1)
    return sum(int(((cosines >= _SAME).sum(axis=1) > 1).sum()) for _, cosines in _products(unit)) / len(vectors)


def norms(vectors: VectorArray) -> FloatArray:
    """Euclidean length of each vector."""
    return np.asarray(np.linalg.norm(vectors.astype(np.float64), axis=1))


def _products(vectors: npt.NDArray[np.floating]) -> Iterator[tuple[slice, FloatArray]]:
    """Blocks of rows, and their products with all rows."""
    exact = vectors.astype(np.float64)
    return ((block, exact[block] @ exact.T) for block in _blocks(len(exact)))


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, rows)) for start in range(0, rows, _BLOCK))
