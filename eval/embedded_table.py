"""The vectors of one version of a table, read once in bounded memory: a fixed sample, and facts on every row.

Reads any table that lakebed reads. Of a table with vectors of several models only one model's are taken: two
models' vectors cannot be compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakebed.platform.errors import ConfigError, TableError
from lakebed.platform.items import FloatArray
from lakebed.platform.lake.fragments import Snapshot

DIGEST: Final = "lb_model_digest"
CONTENT: Final = "lb_key"
_BATCH_ROWS: Final = 8192
_FIXED_HASH: Final = 0x9E3779B97F4A7C15


@dataclass(frozen=True, eq=False)
class EmbeddedRows:
    """One version: `hashes` and `norms` of every vector in table order, `keys` by row where asked for.

    `sample` (vectors x dimensions) are at most so many rows, chosen by the seed; `sampled` are their positions.
    """

    version: str
    rows: int
    without_vector: int
    hashes: npt.NDArray[np.uint64]
    norms: FloatArray
    contents: Sequence[str] | None
    keys: Sequence[tuple[object, ...]] | None
    sample: FloatArray
    sampled: npt.NDArray[np.int64]

    @property
    def duplicate_rate(self) -> float:
        """Share of vectors that an earlier row has too."""
        return 1 - len(np.unique(self.hashes)) / self.rows

    def beyond(self, baseline: "EmbeddedRows") -> npt.NDArray[np.bool_]:
        """Which rows have a vector that no row of the baseline has."""
        return ~np.isin(self.hashes, baseline.hashes)


def model_digests(snapshot: Snapshot) -> set[str]:
    """The models whose vectors a table holds; none where it does not say."""
    if DIGEST not in snapshot.schema.names:
        return set()
    found: set[str] = set()
    for rows in _batches(snapshot, [DIGEST]):
        found |= {str(value) for value in pc.unique(rows.column(DIGEST)).to_pylist()}
    return found


def read_rows(
    snapshot: Snapshot,
    column: str,
    keys: Sequence[str],
    digest: str | None,
    sample: int,
    seed: int,
    *,
    only_new: "EmbeddedRows | None" = None,
) -> EmbeddedRows:
    """Read the vectors in `column`, of model `digest` if given; rows without a vector are counted and left out.

    `only_new` restricts the sample to vectors that the other version lacks. Raises ColumnNotFoundError,
    ConfigError for a column that holds no vectors of one length, TableError for a vector that is not finite.
    """
    kept = _Sampler(sample, seed, None if only_new is None else np.unique(only_new.hashes))
    content = CONTENT in snapshot.schema.names
    wanted = list(dict.fromkeys([column, *keys, *([CONTENT] if content else []), *([DIGEST] if digest else [])]))
    found_keys: list[tuple[object, ...]] = []
    contents: list[str] = []
    missing = 0
    for batch in _batches(snapshot, wanted):
        rows = batch.filter(pc.equal(batch.column(DIGEST), digest)) if digest else batch
        present = rows.filter(pc.is_valid(rows.column(column)))
        missing += len(rows) - len(present)
        if not len(present):
            continue
        kept.add(_vectors(present.column(column), f"{snapshot.uri} version {snapshot.version}, column {column!r}"))
        if keys:
            found_keys += zip(*(present.column(key).to_pylist() for key in keys), strict=True)
        if content:
            contents += present.column(CONTENT).to_pylist()
    return kept.result(snapshot.version, missing, contents if content else None, found_keys if keys else None)


class _Sampler:
    """Keeps the rows with the smallest random numbers: a uniform sample without knowing how many rows come."""

    def __init__(self, size: int, seed: int, known: npt.NDArray[np.uint64] | None) -> None:
        self._size, self._known = size, known
        self._generator = np.random.default_rng(seed)
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._norms: list[FloatArray] = []
        self._priorities = np.empty(0)
        self._positions = np.empty(0, np.int64)
        self._vectors: npt.NDArray[np.float32] | None = None
        self._rows = 0

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        """Take in the next rows; raises ConfigError when their length is another than before."""
        if self._vectors is None:
            self._vectors = np.empty((0, vectors.shape[1]), np.float32)
        if vectors.shape[1] != self._vectors.shape[1]:
            raise ConfigError(
                f"vectors of {self._vectors.shape[1]} and of {vectors.shape[1]} dimensions in one column"
            )
        hashes = _hashes(vectors)
        self._hashes.append(hashes)
        self._norms.append(np.linalg.norm(vectors.astype(np.float64), axis=1))
        drawn = self._generator.random(len(vectors))
        eligible = np.ones(len(vectors), bool) if self._known is None else ~np.isin(hashes, self._known)
        priorities = np.concatenate([self._priorities, drawn[eligible]])
        positions = np.concatenate([self._positions, self._rows + np.flatnonzero(eligible)])
        together = np.concatenate([self._vectors, vectors[eligible]])
        best = np.sort(np.argsort(priorities, kind="stable")[: self._size])
        self._priorities, self._positions, self._vectors = priorities[best], positions[best], together[best]
        self._rows += len(vectors)

    def result(
        self, version: str, missing: int, contents: Sequence[str] | None, keys: Sequence[tuple[object, ...]] | None
    ) -> EmbeddedRows:
        """Everything that was taken in."""
        vectors = np.empty((0, 0)) if self._vectors is None else self._vectors.astype(np.float64)
        hashes = np.concatenate(self._hashes) if self._hashes else np.empty(0, np.uint64)
        norms = np.concatenate(self._norms) if self._norms else np.empty(0)
        return EmbeddedRows(version, self._rows, missing, hashes, norms, contents, keys, vectors, self._positions)


def _batches(snapshot: Snapshot, columns: Sequence[str]) -> Iterator[pa.Table]:
    for fragment in snapshot.fragments:
        yield from snapshot.read(fragment, columns, _BATCH_ROWS)


def _vectors(column: pa.ChunkedArray, where: str) -> npt.NDArray[np.float32]:
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise ConfigError(f"{where}: {kind} is no column of vectors", hint="name it with --column")
    if not pa.types.is_floating(kind.value_type):
        raise ConfigError(f"{where}: a vector of {kind.value_type} is no embedding", hint="name it with --column")
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) != 1:
        raise ConfigError(f"{where}: vectors of {len(lengths)} different lengths")
    values = pc.list_flatten(column).to_numpy()
    vectors: npt.NDArray[np.float32] = values.astype(np.float32).reshape(len(column), lengths[0])
    if not np.isfinite(vectors).all():
        raise TableError(
            f"{where}: a vector holds values that are not finite numbers", hint="embed the table again"
        )
    return vectors


def _hashes(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """64 bits per vector, equal for equal ones (multiply-shift with fixed odd numbers; 0 and -0 are one)."""
    words = np.asarray(np.ascontiguousarray(vectors + np.float32(0)).view(np.uint32), dtype=np.uint64)
    generator = np.random.default_rng(_FIXED_HASH)
    drawn = generator.integers(0, 2**62, vectors.shape[1])
    factors = np.asarray(2 * drawn + 1, dtype=np.uint64)
    mixed = (words + np.uint64(1)) * factors
    mixed ^= mixed >> np.uint64(32)
    return np.asarray((mixed * np.flip(factors)).sum(axis=1, dtype=np.uint64))
