"""What an actor of a job does: load the encoder, prove that it is the right one, turn batches into vectors.

Knows Ray for its own address only; what calls it is in `pipeline.py`.
"""

import hashlib
import os
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import ray

from lakebed.jobs.canaries import Canaries
from lakebed.jobs.encoding import RowEmbedder
from lakebed.jobs.output import POSITION, UNIT, embedded_table
from lakebed.jobs.rows import ItemOrError, RowMapping
from lakebed.jobs.suspects import DEATHS, Book, Turns, guarded
from lakebed.jobs.vector_cache import VectorCache
from lakebed.platform.encoder.load import Model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.errors import InvalidItemError, JobFailedError, LakebedError

_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")

_KILLED: Final = InvalidItemError(
    f"{DEATHS} processes died while they embedded this row and no other", code="killed_worker"
)


@dataclass(frozen=True)
class Embedding:
    """What the actors need to know. `model` is packed: its files travel inside."""

    model: Model
    mapping: RowMapping
    dimensions: int
    budget: Budget
    threads: int
    device: Any
    cache_bytes: int = 0
    canaries: Canaries | None = None


class EmbedBatches:
    """An actor's work: one encoder, loaded once, and batches of rows through it."""

    def __init__(self, embedding: Embedding, book: Book) -> None:
        self._mapping = embedding.mapping
        self._book = book
        self._turns = Turns()
        self._failure: LakebedError | None = None
        try:
            self._embed = _loaded(embedding, book)
        except LakebedError as error:  # Ray keeps an error of a call, but of a constructor only the words
            self._failure = error

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return rows with vectors in place of what was embedded."""
        if self._failure:
            raise self._failure

        def embedded(start: int, stop: int) -> pa.Table:
            began, part = time.time(), rows.slice(start, stop - start)
            return self._table(part, self._mapping.items(part), began)

        def condemned(row: int) -> pa.Table:
            return self._table(rows.slice(row, 1), [_KILLED], time.time())

        parts = guarded(self._book, self._turns, _name_of(rows), len(rows), embedded, condemned)
        return parts[0] if len(parts) == 1 else pa.concat_tables(parts)

    def _table(self, rows: pa.Table, items: list[ItemOrError], began: float) -> pa.Table:
        return embedded_table(rows, self._mapping.columns.copied, self._embed(items), began)


def _loaded(embedding: Embedding, book: Book) -> RowEmbedder:
    """Load the encoder, and prove it by its canaries."""
    reference = embedding.model.reference
    if not book.starting():
        raise JobFailedError(
            f"model {reference}: the processes that load it die, again and again", hint="is there enough memory?"
        )
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(embedding.threads)))  # read as libraries load
    _limit_threads(embedding.threads)  # an encoder has as many lanes as torch has threads when it is loaded
    encoder = embedding.model.load(embedding.device)
    _limit_threads(embedding.threads)
    if embedding.canaries:
        embedding.canaries.check(encoder, reference, f"node {_node()}")
    book.ready()
    cache = VectorCache(embedding.cache_bytes, embedding.dimensions) if embedding.cache_bytes else None
    return RowEmbedder(encoder, embedding.dimensions, embedding.budget, cache)


def _node() -> str:
    """Name the node that this worker is on, as Ray's own lists of nodes do."""
    context = ray.get_runtime_context()
    return f"{ray.util.get_node_ip_address()} ({context.get_node_id()[:12]})"  # type: ignore[no-untyped-call]


def _name_of(rows: pa.Table) -> bytes:
    """Name a batch by the places of its rows."""
    places = (rows.column(name).combine_chunks().to_numpy() for name in (UNIT, POSITION))
    return hashlib.blake2b(b"".join(place.tobytes() for place in places), digest_size=16).digest()


def _limit_threads(threads: int) -> None:
    """Keep torch to an encoder's share of the machine, when the model uses torch at all."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
