"""The nearest documents of every query, in blocks: a corpus of a million needs no matrix of all similarities.

Similarity is the cosine of unit vectors, computed in float64 and rounded to float32: the same two vectors are then
equally similar wherever they stand in a block. Among equally similar documents the worse graded one comes first,
or an encoder that maps everything to one point would look perfect. Knows no metrics.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.items import FloatArray

QUERIES: Final = 256
DOCUMENTS: Final = 16_384

Places = npt.NDArray[np.int64]


def rankings(
    queries: VectorArray,
    documents: VectorArray,
    grades: Any,
    depth: int,
    left_out: Places | None = None,
) -> Iterator[tuple[slice, Places]]:
    """Yield blocks of queries, each with the places of the `depth` nearest documents (queries x depth), best
    first.

    `grades` are sparse, queries x documents, above 0 where relevant. `left_out` is for each query the place of a
    document that is no answer to it, or -1; it ranks behind all others.
    """
    depth = min(depth, len(documents))
    for asking in _blocks(len(queries), QUERIES):
        asked, judged = queries[asking].astype(np.float64), grades[asking].tocsc()
        excluded = None if left_out is None else left_out[asking]
        keys = np.full((len(asked), depth), -np.inf)
        places = np.zeros((len(asked), depth), np.int64)
        for answering in _blocks(len(documents), DOCUMENTS):
            similarity = asked @ documents[answering].astype(np.float64).T
            found = _keys(similarity, judged[:, answering])
            if excluded is not None:
                rows = np.flatnonzero((excluded >= answering.start) & (excluded < answering.stop))
                found[rows, excluded[rows] - answering.start] = -np.inf
            keys, places = _best(keys, places, found, answering.start)
        order = np.argsort(-keys, axis=1, kind="stable")
        yield asking, np.take_along_axis(places, order, axis=1)


def _keys(similarity: FloatArray, grades: Any) -> FloatArray:
    """What documents are ordered by: similarity, a relevant one's lowered by a float64 step for each grade.

    Between two neighbouring float32 numbers lie 2^29 float64 ones, so only equal similarities change places.
    """
    keys = similarity.astype(np.float32).astype(np.float64)
    relevant = grades.tocoo()
    rows, columns = relevant.coords
    found = keys[rows, columns]
    keys[rows, columns] = found - relevant.data * np.spacing(np.abs(found))
    return keys


def _best(keys: FloatArray, places: Places, found: FloatArray, start: int) -> tuple[FloatArray, Places]:
    """The best of what was kept and of the next block."""
    depth = keys.shape[1]
    every = np.concatenate([keys, found], axis=1)
    kept = np.argpartition(-every, depth - 1, axis=1)[:, :depth]
    earlier = np.take_along_axis(places, np.minimum(kept, depth - 1), axis=1)
    return np.take_along_axis(every, kept, axis=1), np.where(kept < depth, earlier, kept - depth + start)


def _blocks(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
