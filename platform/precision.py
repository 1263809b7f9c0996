"""Vectors in fewer bytes: as they are, rounded to half precision, or as bytes with a scale for each vector.

Pure arithmetic on arrays: what the endpoint sends, and what an evaluation of it reads.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from lakebed.platform.encoder.prepared import VectorArray

EmbedDtype = Literal["float32", "float16", "int8"]

_LARGEST: Final = 127
"""-128 is left out, so that a vector and its negative say the same but for the sign."""


@dataclass(frozen=True, eq=False)
class Rounded:
    """Vectors (n, dimensions), little-endian and C-contiguous; `scales` (n) float64 where there are any."""

    values: npt.NDArray[Any]
    scales: npt.NDArray[np.float64] | None = None


def rounded(vectors: VectorArray, dtype: EmbedDtype) -> Rounded:
    """Vectors in `dtype`. float32 is exact; float16 is the nearest there is.

    int8 is symmetric, per vector: with scale = max|x| / 127, q = round(x / scale), so that scale * q is at most
    scale / 2 away from x, and larger values never get smaller numbers. A zero vector has scale 0.
    """
    if dtype == "float32":
        return Rounded(np.ascontiguousarray(vectors, "<f4"))
    if dtype == "float16":
        return Rounded(np.ascontiguousarray(vectors, "<f2"))
    exact = vectors.astype(np.float64)
    scales = np.abs(exact).max(axis=1) / _LARGEST
    return Rounded(np.rint(exact / np.where(scales > 0, scales, 1)[:, None]).astype(np.int8), scales)
