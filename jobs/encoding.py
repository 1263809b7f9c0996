"""Items to vectors, where one bad item must not take its batch with it.

The same three calls as everywhere, with two differences: a call that raises is repeated on halves, down to the
item that is the cause; and items of equal content are embedded once. `prepare` may have run in another process.
Knows no tables and no Ray.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

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
    def without_vectors(cls, keys: list[str | None], errors: Errors, dimensions: int) -> Self:
        """Start with what is known before the device has run."""
        counts = np.zeros((2, len(keys)), np.int64)
        return cls(np.zeros((len(keys), dimensions), np.float32), errors, counts[0], counts[1], keys)


@dataclass(frozen=True)
class PreparedRows:
    """n rows, ready for the device; keys and errors are as in EmbeddedRows.

    `item_of` (n,) says which item of `work` a row is, -1 where it has none; rows of equal content share one.
    """

    keys: list[str | None]
    errors: Errors
    item_of: IntArray
    work: Prepared | None

    @classmethod
    def of(cls, encoder: Encoder, rows: Sequence[ItemOrError]) -> Self:
        """Prepare the items among `rows`; the others keep their errors."""
        keys, errors = _known(rows)
        first_of = _first_places(keys)
        parts = list(_prepared(encoder, rows, np.fromiter(first_of.values(), np.int64, len(first_of)), errors))
        item_of = np.full(len(keys), -1)
        if parts:
            places = np.concatenate([places for places, _ in parts])
            item_of[places] = np.arange(len(places))
        _repeat(first_of, keys, errors, item_of)
        return cls(keys, errors, item_of, concat([part for _, part in parts]) if parts else None)

    def __len__(self) -> int:
        return len(self.keys)

    def cut(self, start: int, stop: int) -> "PreparedRows":
        """Rows from `start` to `stop`."""
        errors = {place - start: error for place, error in self.errors.items() if start <= place < stop}
        return PreparedRows(self.keys[start:stop], errors, self.item_of[start:stop], self.work)


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
        result = EmbeddedRows.without_vectors(*_known(rows), self.dimensions)
        first_of = _first_places(result.keys)
        new = self._uncached(np.fromiter(first_of.values(), np.int64, len(first_of)), result)
        parts = list(_prepared(self.encoder, rows, new, result.errors))
        if parts:
            places = np.concatenate([places for places, _ in parts])
            self._forward(places, concat([part for _, part in parts]), result)
        return self._spread(first_of, new, result)

    def embed(self, prepared: PreparedRows) -> EmbeddedRows:
        """Embed rows that were prepared by the same model."""
        result = EmbeddedRows.without_vectors(prepared.keys, dict(prepared.errors), self.dimensions)
        first_of = _first_places(result.keys)
        firsts = np.fromiter(first_of.values(), np.int64, len(first_of))
        new = self._uncached(firsts[prepared.item_of[firsts] >= 0], result)
        if prepared.work is not None and len(new):
            self._forward(new, prepared.work.take(prepared.item_of[new]), result)
        return self._spread(first_of, new, result)

    def _spread(self, first_of: dict[str, int], new: IntArray, result: EmbeddedRows) -> EmbeddedRows:
        """Keep what is new for later, and give every row what the first row of equal content has."""
        self._remember(new, result)
        _repeat(first_of, result.keys, result.errors, result.vectors, result.tokens, result.samples)
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

    def _forward(self, places: IntArray, work: Prepared, result: EmbeddedRows) -> None:
        """Run the device over length-sorted batches and put vectors and counts in their places."""
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


def _known(rows: Sequence[ItemOrError]) -> tuple[list[str | None], Errors]:
    """Content keys, None for rows that are no items, and what those are."""
    keys = [row.content_key() if isinstance(row, Item) else None for row in rows]
    return keys, {place: row for place, row in enumerate(rows) if isinstance(row, InvalidItemError)}


def _prepared(
    encoder: Encoder, rows: Sequence[ItemOrError], places: IntArray, errors: Errors
) -> Iterator[tuple[IntArray, Prepared]]:
    def prepare(part: IntArray) -> Prepared:
        return encoder.prepare([row for row in (rows[place] for place in part) if isinstance(row, Item)])

    yield from _bisected(prepare, places, errors)


def _first_places(keys: Sequence[str | None]) -> dict[str, int]:
    """Where each content comes first."""
    places: dict[str, int] = {}
    for place, key in enumerate(keys):
        if key is not None:
            places.setdefault(key, place)
    return places


def _keys(places: IntArray, result: EmbeddedRows) -> list[str]:
    return [key for key in (result.keys[place] for place in places.tolist()) if key is not None]


def _repeat(
    first_of: dict[str, int], keys: Sequence[str | None], errors: Errors, *columns: npt.NDArray[Any]
) -> None:
    """Give rows what the first row of equal content has, error included."""
    if len(first_of) == len(keys):
        return
    for place, key in enumerate(keys):
        first = place if key is None else first_of[key]
        if first != place:
            for column in columns:
                column[place] = column[first]
            if first in errors:
                errors[place] = errors[first]


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
