"""Items to vectors, where one bad item must not take its batch with it.

The same three calls as everywhere, with a difference: a call that raises is repeated on halves, down to the item
that is the cause. Knows no tables and no Ray.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np

from lakebed.jobs.rows import ItemOrError
from lakebed.platform.encoder.plan import Budget, length_sorted_batches
from lakebed.platform.encoder.prepared import IntArray, Prepared, VectorArray, concat
from lakebed.platform.encoder.protocol import Encoder
from lakebed.platform.errors import InvalidItemError
from lakebed.platform.items import Item

NORM_TOLERANCE: Final = 1e-3
"""How far from 1 the length of a vector may be."""

T = TypeVar("T")


@dataclass(frozen=True)
class EmbeddedRows:
    """n rows: vectors (n, dimensions) float32 with zeros where `errors` has an entry; counts per row."""

    vectors: VectorArray
    errors: dict[int, InvalidItemError]
    tokens: IntArray
    samples: IntArray


@dataclass
class RowEmbedder:
    """Embeds rows with one encoder; several threads may call it, and `forward` runs in one at a time."""

    encoder: Encoder
    dimensions: int
    budget: Budget
    _device: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, rows: Sequence[ItemOrError]) -> EmbeddedRows:
        """Embed the items among `rows`; the others keep their errors."""
        result = EmbeddedRows(
            np.zeros((len(rows), self.dimensions), np.float32),
            {place: row for place, row in enumerate(rows) if isinstance(row, InvalidItemError)},
            np.zeros(len(rows), np.int64),
            np.zeros(len(rows), np.int64),
        )
        places = np.array([place for place, row in enumerate(rows) if isinstance(row, Item)], np.int64)
        prepared = list(self._prepare(rows, places, result.errors))
        if prepared:
            self._forward(np.concatenate([places for places, _ in prepared]), prepared, result)
        return result

    def _prepare(
        self, rows: Sequence[ItemOrError], places: IntArray, errors: dict[int, InvalidItemError]
    ) -> Iterator[tuple[IntArray, Prepared]]:
        def prepare(part: IntArray) -> Prepared:
            return self.encoder.prepare([row for row in (rows[place] for place in part) if isinstance(row, Item)])

        yield from _bisected(prepare, places, errors)

    def _forward(self, places: IntArray, prepared: list[tuple[IntArray, Prepared]], result: EmbeddedRows) -> None:
        """Run the device over length-sorted batches and put vectors and counts in their places."""
        work = concat([part for _, part in prepared])
        result.tokens[places] = work.tokens
        result.samples[places] = work.samples
        work_of = {int(place): index for index, place in enumerate(places)}

        def forward(part: IntArray) -> VectorArray:
            with self._device:
                return self.encoder.forward(work.take(np.array([work_of[int(place)] for place in part], np.int64)))

        for batch in length_sorted_batches(work.costs, self.budget):
            for part, vectors in _bisected(forward, places[batch], result.errors):
                result.vectors[part] = self.encoder.finish(vectors, self.dimensions)
                _refuse_bad_vectors(part, result)


def _bisected(
    call: Callable[[IntArray], T], places: IntArray, errors: dict[int, InvalidItemError]
) -> Iterator[tuple[IntArray, T]]:
    """Call with all places; when it raises, with halves, until what is left of the failure is single items."""
    if not len(places):
        return
    try:
        yield places, call(places)
    except Exception as error:  # noqa: BLE001  whatever an encoder raises, one row must not cost its batch
        if len(places) == 1:
            errors[int(places[0])] = _of_row(error)
            return
        middle = len(places) // 2
        yield from _bisected(call, places[:middle], errors)
        yield from _bisected(call, places[middle:], errors)


def _of_row(error: Exception) -> InvalidItemError:
    if isinstance(error, InvalidItemError):
        return error
    return InvalidItemError(f"the encoder raised {type(error).__name__}: {error}", code="encoder_error")


def _refuse_bad_vectors(places: IntArray, result: EmbeddedRows) -> None:
    """Turn vectors that are not finite or not of unit length into errors of their rows."""
    norms = np.linalg.norm(result.vectors[places].astype(np.float64), axis=1)
    for place, norm in zip(places, norms, strict=True):
        if not abs(norm - 1) <= NORM_TOLERANCE:  # a norm that is NaN fails this too
            result.vectors[place] = 0
            result.errors[int(place)] = InvalidItemError(
                f"the encoder returned a vector of length {norm:.4g}, not 1", code="bad_vector"
            )
