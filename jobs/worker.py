"""What the actors of a job do: load the encoder, prove that it is the right one, turn batches into vectors.

One kind of actor does all of it, or one prepares what another embeds. Knows Ray for its own address only; what
calls it is in `pipeline.py`.
"""

import hashlib
import os
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import pyarrow as pa
import ray

from lakebed.jobs.canaries import Canaries
from lakebed.jobs.encoding import EmbeddedRows, PreparedRows, RowEmbedder
from lakebed.jobs.output import POSITION, UNIT, embedded_table
from lakebed.jobs.rows import RowMapping
from lakebed.jobs.suspects import DEATHS, Book, Turns, guarded
from lakebed.jobs.vector_cache import VectorCache
from lakebed.platform.encoder.load import Model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.protocol import Encoder
from lakebed.platform.errors import InvalidItemError, JobFailedError, LakebedError

_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")

_BATCH: Final = "batch"

_KILLED: Final = InvalidItemError(
    f"{DEATHS} processes died while they embedded this row and no other", code="killed_worker"
)

T = TypeVar("T")


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


class _Actor:
    """An encoder, loaded once, and a book of the batches that its process has begun.

    Ray keeps an error of a call, but of a constructor only the words: so a call raises what loading raised.
    """

    def __init__(self, embedding: Embedding, book: Book) -> None:
        self._mapping = embedding.mapping
        self._book = book
        self._turns = Turns()
        self._failure: LakebedError | None = None
        try:
            self._start(embedding)
        except LakebedError as error:
            self._failure = error

    def _start(self, embedding: Embedding) -> None:
        raise NotImplementedError

    def _guarded(
        self, rows: pa.Table, run: Callable[[int, int], T], condemned: Callable[[int], T], stage: bytes = b""
    ) -> list[T]:
        if self._failure:
            raise self._failure
        return guarded(self._book, self._turns, stage + _name_of(rows), len(rows), run, condemned)


class _EmbeddingActor(_Actor):
    """Has the device."""

    def _start(self, embedding: Embedding) -> None:
        self._embed = _embedder(embedding, self._book)

    def _table(self, rows: pa.Table, embedded: EmbeddedRows, began: float) -> pa.Table:
        return embedded_table(rows, self._mapping.columns.copied, embedded, began)


class EmbedBatches(_EmbeddingActor):
    """Prepares and embeds batches of rows."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return rows with vectors in place of what was embedded."""

        def embedded(start: int, stop: int) -> pa.Table:
            began, part = time.time(), rows.slice(start, stop - start)
            return self._table(part, self._embed(self._mapping.items(part)), began)

        def condemned(row: int) -> pa.Table:
            return self._table(rows.slice(row, 1), self._embed([_KILLED]), time.time())

        return _joined(self._guarded(rows, embedded, condemned))


class PrepareBatches(_Actor):
    """Prepares batches of rows on a CPU, for `EmbedPrepared`."""

    def _start(self, embedding: Embedding) -> None:
        self._encoder = _encoder(embedding, self._book, "cpu")
        self._book.ready()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return one row, or a few, each with a prepared batch of rows."""
        kept = rows.select([UNIT, POSITION, *self._mapping.columns.copied])

        def prepared(start: int, stop: int) -> bytes:
            began, part = time.time(), rows.slice(start, stop - start)
            ready = PreparedRows.of(self._encoder, self._mapping.items(part))
            return _packed(kept.slice(start, stop - start), ready, began)

        def condemned(row: int) -> bytes:
            return _packed(kept.slice(row, 1), PreparedRows.of(self._encoder, [_KILLED]), time.time())

        parts = self._guarded(rows, prepared, condemned, b"prepare")
        return pa.table({_BATCH: pa.array(parts, pa.large_binary())})


class EmbedPrepared(_EmbeddingActor):
    """Embeds what `PrepareBatches` prepared."""

    def __call__(self, batches: pa.Table) -> pa.Table:
        """Return rows with vectors."""
        return _joined([table for batch in batches.column(_BATCH) for table in self._tables(batch)])

    def _tables(self, batch: pa.LargeBinaryScalar) -> list[pa.Table]:
        rows, prepared, began = _unpacked(batch)

        def embedded(start: int, stop: int) -> pa.Table:
            return self._table(
                rows.slice(start, stop - start), self._embed.embed(prepared.cut(start, stop)), began
            )

        def condemned(row: int) -> pa.Table:
            return self._table(rows.slice(row, 1), self._embed([_KILLED]), began)

        return self._guarded(rows, embedded, condemned)


def _packed(rows: pa.Table, prepared: PreparedRows, began: float) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:  # of a slice, pickle takes the whole
        stream.write_table(rows)
    return pickle.dumps((sink.getvalue().to_pybytes(), prepared, began), protocol=5)


def _unpacked(batch: pa.LargeBinaryScalar) -> tuple[pa.Table, PreparedRows, float]:
    table, prepared, began = pickle.loads(batch.as_buffer())  # noqa: S301  our own workers wrote it
    return pa.ipc.open_stream(table).read_all(), prepared, began


def _joined(parts: list[pa.Table]) -> pa.Table:
    return parts[0] if len(parts) == 1 else pa.concat_tables(parts)


def _embedder(embedding: Embedding, book: Book) -> RowEmbedder:
    """Load the encoder, and prove it by its canaries."""
    encoder = _encoder(embedding, book, embedding.device)
    if embedding.canaries:
        embedding.canaries.check(encoder, embedding.model.reference, f"node {_node()}")
    book.ready()
    cache = VectorCache(embedding.cache_bytes, embedding.dimensions) if embedding.cache_bytes else None
    return RowEmbedder(encoder, embedding.dimensions, embedding.budget, cache)


def _encoder(embedding: Embedding, book: Book, device: Any) -> Encoder:
    """Load the encoder, unless processes that do so die of it."""
    reference = embedding.model.reference
    if not book.starting():
        raise JobFailedError(
            f"model {reference}: the processes that load it die, again and again", hint="is there enough memory?"
        )
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(embedding.threads)))  # read as libraries load
    _limit_threads(embedding.threads)  # an encoder has as many lanes as torch has threads when it is loaded
    encoder = embedding.model.load(device)
    _limit_threads(embedding.threads)
    return encoder


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
