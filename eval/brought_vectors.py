"""Vectors that a data set brings, as an embedded table does: checked, and used instead of encoding again.

Knows no tables: a source puts the vectors into the data set's parts.
"""

import numpy as np

from lakebed.eval.datasets import Dataset
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.protocol import EncoderInfo, truncate
from lakebed.platform.errors import ConfigError, LakebedError


def brought_vectors(data: Dataset, info: EncoderInfo, dimensions: int | None) -> dict[str, VectorArray] | None:
    """Vectors by part at unit length, cut to `dimensions`; None when the data set brings none.

    Raises ConfigError when another model than `info` made them or they are shorter than `dimensions`, and
    LakebedError when they are not finite, zero, or of several lengths.
    """
    brought = {name: part.vectors for name, part in data.parts.items() if part.vectors is not None}
    if not brought:
        return None
    if data.made_by is not None and data.made_by != info.digest:
        raise ConfigError(
            f"data set {data.name}: its vectors were made by model digest {data.made_by[:12]}, "
            f"{info.name} is {info.digest[:12]}",
            hint="name with --model the model that embedded the table",
        )
    length = _length(data, brought)
    if dimensions is not None and dimensions > length:
        raise ConfigError(
            f"data set {data.name}: its vectors have {length} dimensions, {dimensions} were asked for"
        )
    return {name: truncate(_unit(vectors), dimensions) for name, vectors in brought.items()}


def _length(data: Dataset, brought: dict[str, VectorArray]) -> int:
    """The one length of all vectors."""
    if len(brought) < len(data.parts):
        raise LakebedError(f"data set {data.name}: only {' and '.join(brought)} bring vectors")
    lengths = {vectors.shape[1] for vectors in brought.values()}
    if len(lengths) > 1:
        raise LakebedError(f"data set {data.name}: brings vectors of {sorted(lengths)} dimensions")
    bad = sum(
        int((~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)).sum()) for vectors in brought.values()
    )
    if bad:
        raise LakebedError(
            f"data set {data.name}: {bad} of the vectors it brings are zero or not finite numbers",
            hint="its scores would mean nothing",
        )
    return int(lengths.pop())


def _unit(vectors: VectorArray) -> VectorArray:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / norms, dtype=np.float32)
