"""What is suspicious about vectors although each is of unit length. Pure functions on arrays."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from lakebed.platform.encoder.prepared import VectorArray


def equal_vectors(vectors: VectorArray, keys: Sequence[str]) -> int:
    """Count rows with the very vector of a row of another content key; `vectors` are (n, dimensions) float32.

    A broken model gives many: all rows the same. A sound one gives few, for texts that differ in case only.
    """
    if not len(keys):
        return 0
    rows = np.ascontiguousarray(vectors)
    _, vector = np.unique(rows.view(f"V{rows.shape[1] * rows.itemsize}").reshape(-1), return_inverse=True)
    content = pa.array(keys, pa.string()).dictionary_encode()
    count = len(content.dictionary)
    pairs = np.unique(vector * count + content.indices.to_numpy())
    contents_of = np.bincount(pairs // count)
    return int(np.count_nonzero(contents_of[vector] > 1))
