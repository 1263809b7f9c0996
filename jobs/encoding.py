"""Items to vectors, where one bad item must not take its batch with it.

The same three calls as everywhere, with two differences: a call that raises is repeated on halves, down to the
item that is the cause; and items of equal content are embedded once. Knows no tables and no Ray.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np

from lakebed.jobs.rows import ItemOrError
from lakebed.jobs.vector_cache import VectorCache
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import IntArray, Prepared, VectorArray, concat
from lakebed.platform.encoder.protocol import Encoder, forward, lanes_of, planned_batches
from lakebed.platform.errors import InvalidItemError
from lakebed.platform.items import Item

NORM_TOLERANCE: Final = 1e-3
"""How far from 1 the length of a vector may be."""

Errors = dict[int, InvalidItemError]
T = TypeVar("T")


@dataclass(frozen=True)
class EmbeddedRows:
    """n rows: vectors (n, dimensions) float32 with zeros where `errors` has an entry; counts and keys per row.

    A key is the content key of the row's item, None where it has no item.
    """

    vectors: VectorArray
    errors: Errors
    tokens: IntArray
    samples: IntArray
    keys: list[str | None]

    @classmethod
    def of(cls, rows: Sequence[ItemOrError], dimensions: int) -> "EmbeddedRows":
        """Start without vectors."""
        return cls(
            np.zeros((len(rows), dimensions), np.float32),
            {place: row for place, row in enumerate(rows) if isinstance(row, InvalidItemError)},
            np.zeros(len(rows), np.int64),
            np.zeros(len(rows), np.int64),
            [row.content_key() if isinstance(row, Item) else None for row in rows],
        )


@dataclass
class RowEmbedder:
    """Embeds rows with one encoder. Several threads may call it.

    `forward` runs in one thread at a time, unless the encoder has lanes. `cache` spares contents that came before.
    """

    encoder: Encoder
    dimensions: int
    budget: Budget
    cache: VectorCache | None = None
    _device: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, rows: Sequence[ItemOrError]) -> EmbeddedRows:
        """Embed the items among `rows`; the others keep their errors."""
        result = EmbeddedRows.of(rows, self.dimensions)
        first_of = _first_places(result.keys)
        places = self._uncached(np.fromiter(first_of.values(), np.int64, len(first_of)), result)
        prepared = list(self._prepare(rows, places, result.errors))
        if prepared:
            self._forward(np.concatenate([places for places, _ in prepared]), prepared, result)
        self._remember(places, result)
        _repeat(first_of, result)
        return result

    def _uncached(self, places: IntArray, result: EmbeddedRows) -> IntArray:
        """Fill in what the cache has; returns the other places."""
        if self.cache is None:
            return places
        found, vectors, counts = self.cache.find(_keys(places, result))
        hits = places[found]
        result.vectors[hits], result.tokens[hits], result.samples[hits] = vectors, counts[:, 0], counts[:, 1]
        return np.delete(places, found)

    def _remember(self, places: IntArray, result: EmbeddedRows) -> None:
        if self.cache is not None:
            good = np.array([place for place in places.tolist() if place not in result.errors], np.int64)
            counts = np.stack([result.tokens[good], result.samples[good]], axis=1)
            self.cache.store(_keys(good, result), result.vectors[good], counts)

    def _prepare(
        self, rows: Sequence[ItemOrError], places: IntArray, errors: Errors
    ) -> Iterator[tuple[IntArray, Prepared]]:
        def prepare(part: IntArray) -> Prepared:
            return self.encoder.prepare([row for row in (rows[place] for place in part) if isinstance(row, Item)])

        yield from _bisected(prepare, places, errors)

    def _forward(self, places: IntArray, prepared: list[tuple[IntArray, Prepared]], result: EmbeddedRows) -> None:
        """Run the device over length-sorted batches and put vectors and counts in their places."""
        work = concat([part for _, part in prepared])
        result.tokens[places] = work.tokens
        result.samples[places] = work.samples

        def run(batch: IntArray) -> tuple[list[tuple[IntArray, VectorArray]], Errors]:
            errors: Errors = {}
            return list(_bisected(lambda part: forward(self.encoder, work.take(part)), batch, errors)), errors

        for found, errors in self._run(run, list(planned_batches(self.encoder, work, self.budget))):
            result.errors.update({int(places[row]): error for row, error in errors.items()})
            for part, vectors in found:
                result.vectors[places[part]] = self.encoder.finish(vectors, self.dimensions)
                _refuse_bad_vectors(places[part], result)

    def _run(self, run: Callable[[IntArray], T], batches: list[IntArray]) -> Iterator[T]:
        """Run batches one after the other, or beside each other where the encoder can."""
        count = lanes_of(self.encoder)
        if count > 1:
            from lakebed.platform.encoder.lanes import lanes

            yield from lanes(count).map(run, batches)
            return
        for batch in batches:
            with self._device:
                found = run(batch)
            yield found


def _first_places(keys: Sequence[str | None]) -> dict[str, int]:
    """Where each content comes first."""
    places: dict[str, int] = {}
    for place, key in enumerate(keys):
        if key is not None:
            places.setdefault(key, place)
    return places


def _keys(places: IntArray, result: EmbeddedRows) -> list[str]:
    return [key for key in (result.keys[place] for place in places.tolist()) if key is not None]


def _repeat(first_of: dict[str, int], result: EmbeddedRows) -> None:
    """Give rows what the first row of equal content has."""
    if len(first_of) == len(result.keys):
        return
    for place, key in enumerate(result.keys):
        first = place if key is None else first_of[key]
        if first != place:
            for column in (result.vectors, result.tokens, result.samples):
                column[place] = column[first]
            if first in result.errors:
                result.errors[place] = result.errors[first]


def _bisected(call: Callable[[IntArray], T], places: IntArray, errors: Errors) -> Iterator[tuple[IntArray, T]]:
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
    good = np.abs(norms - 1) <= NORM_TOLERANCE  # a norm that is NaN is not
    for place, norm in zip(places[~good].tolist(), norms[~good].tolist(), strict=True):
        result.vectors[place] = 0
        result.errors[place] = InvalidItemError(
            f"the encoder returned a vector of length {norm:.4g}, not 1", code="bad_vector"
        )
