"""A table at one version as fragments: runs of whole row groups of Parquet files, read as Arrow batches.

What every format comes down to here; one with files of its own brings its reader. Does not know how a format lists
its files.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from lakebed.platform.errors import ColumnNotFoundError, LakebedError, TableError, TableNotFoundError
from lakebed.platform.lake.storage import filesystem, inner_path, join, stamp_of_file, store_errors
from lakebed.platform.lake.tensors import has_fixed_lists, plain_column

FRAGMENT_BYTES: Final = 128 * 1024**2
_FOOTERS_AT_ONCE: Final = 16
_BUFFER_BYTES: Final = 8 * 1024**2
"""Of a column that is read, what is in memory before it is decoded: a row group of texts may be far larger."""


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a table. `path` is relative to the table, or whole.

    `rows` is None until the footer is read. `constants` are the values of columns that the path or the log holds,
    not the file. `stamp` changes with the file's contents; empty where files never change under their names.
    `names` are the columns that have another name in the file; None for those it does not have, though it has
    another column of that name.
    """

    path: str
    size: int
    rows: int | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)
    stamp: str = ""
    names: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Fragment:
    """Rows `start` to `start + rows` of one file: its row groups `row_groups`, or all of them when None.

    `size` is its share of the file, in bytes.
    """

    path: str
    start: int
    rows: int
    size: int
    row_groups: tuple[int, ...] | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)
    stamp: str = ""
    names: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """A name of the file that other contents never have."""
        return f"{self.path}#{self.stamp}" if self.stamp else self.path


class FragmentReader(Protocol):
    """Reads fragments of a format's own files. Goes to workers inside a snapshot, so it can be pickled."""

    def __call__(self, uri: str, fragment: Fragment, schema: pa.Schema, batch_rows: int) -> Iterator[pa.Table]:
        """Read the columns of `schema`, in these types, of a fragment of the table at `uri`, in order."""
        ...


@dataclass(frozen=True)
class Snapshot:
    """A table at one version. `version` is the format's own name of it, as text.

    `reader` reads its fragments; None where they are of Parquet files.
    """

    uri: str
    format: str
    version: str
    schema: pa.Schema
    fragments: tuple[Fragment, ...]
    reader: FragmentReader | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(fragment.rows for fragment in self.fragments)

    def field(self, name: str) -> pa.Field:
        """Return a column's field; raises ColumnNotFoundError that lists the columns there are."""
        if name not in self.schema.names:
            known = ", ".join(self.schema.names)
            raise ColumnNotFoundError(f"{self.uri}: no column {name!r}", hint=f"columns are {known}")
        return self.schema.field(name)

    def read(self, fragment: Fragment, columns: Sequence[str], batch_rows: int) -> Iterator[pa.Table]:
        """Read columns of one fragment in order, `batch_rows` rows at a time.

        Raises TableError when the file is not the one that the snapshot is of, before a row of another is given,
        and TableNotFoundError when it is gone.
        """
        schema = pa.schema([self.field(name) for name in columns])
        reader = self.reader or _read_parquet
        return reader(self.uri, fragment, schema, batch_rows)


def _read_parquet(table: str, fragment: Fragment, schema: pa.Schema, batch_rows: int) -> Iterator[pa.Table]:
    uri = join(table, fragment.path)
    with _reading(uri, fragment.stamp), filesystem(uri).open(inner_path(uri), "rb") as file:
        parquet = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES)
        written = parquet.schema_arrow
        names = {name: fragment.names.get(name, name) for name in schema.names}
        stored = [name for name in names.values() if name in written.names]
        if any(has_fixed_lists(written.field(name).type) for name in stored):
            bare = without_arrow_types(parquet.metadata)
            parquet = pq.ParquetFile(file, metadata=bare, buffer_size=_BUFFER_BYTES)
        groups = fragment.row_groups or tuple(range(parquet.num_row_groups))
        batches = parquet.iter_batches(batch_rows, row_groups=list(groups), columns=stored, use_threads=False)
        for batch in batches:
            rows = _conform(batch, written, schema, names, fragment.constants)
            _require_unchanged(uri, fragment.stamp)
            yield rows


def read_all(snapshot: Snapshot, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a whole table into memory."""
    names = list(columns or snapshot.schema.names)
    schema = pa.schema([snapshot.field(name) for name in names])
    batches = [batch for fragment in snapshot.fragments for batch in snapshot.read(fragment, names, 65_536)]
    return pa.concat_tables(batches) if batches else schema.empty_table()


def decoded(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, for types that are ways to store them."""
    if pa.types.is_dictionary(kind):
        return decoded(kind.value_type)
    return pa.string() if pa.types.is_string_view(kind) else kind


def fragments_of(uri: str, files: Sequence[DataFile]) -> tuple[Fragment, ...]:
    """Cut files into fragments of about FRAGMENT_BYTES, reading footers only where they are needed."""
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        cut = pool.map(lambda file: _cut(uri, file), sorted(files, key=lambda file: file.path))
        return tuple(fragment for fragments in cut for fragment in fragments if fragment.rows)


def whole_files(uri: str, files: Sequence[DataFile]) -> tuple[Fragment, ...]:
    """One fragment for each file, whatever its size."""

    def whole(file: DataFile) -> Fragment:
        rows = read_footer(join(uri, file.path)).num_rows if file.rows is None else file.rows
        return Fragment(file.path, 0, rows, file.size, None, file.constants, file.stamp, file.names)

    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        return tuple(pool.map(whole, sorted(files, key=lambda file: file.path)))


def _cut(uri: str, file: DataFile) -> list[Fragment]:
    if file.rows is not None and file.size <= FRAGMENT_BYTES:
        return [Fragment(file.path, 0, file.rows, file.size, None, file.constants, file.stamp, file.names)]
    footer = read_footer(join(uri, file.path))
    if file.rows is not None and file.rows != footer.num_rows:
        raise TableError(f"{join(uri, file.path)}: holds {footer.num_rows} rows, the table says {file.rows}")
    return list(_cut_row_groups(file, footer))


def read_footer(uri: str) -> pq.FileMetaData:
    """Read the footer of a Parquet file."""
    with _reading(uri, ""), filesystem(uri).open(inner_path(uri), "rb") as file:
        return pq.read_metadata(file)


@contextmanager
def _reading(uri: str, stamp: str) -> Iterator[None]:
    """Say of a file that cannot be read what has become of it, when it is no longer what it was."""
    try:
        with store_errors(uri):
            yield
    except TableNotFoundError as error:
        raise TableNotFoundError(
            f"{uri}: the file is gone, which this version of the table has",
            hint="was the table vacuumed or written anew? Run again, upon its newest version",
        ) from error
    except (LakebedError, pa.ArrowInvalid) as error:
        _require_unchanged(uri, stamp)
        if isinstance(error, LakebedError):
            raise
        raise TableError(f"{uri}: not a readable Parquet file: {' '.join(str(error).split())}") from None


def _require_unchanged(uri: str, stamp: str) -> None:
    """Raise TableError unless a file has the stamp that it was planned with; none is needed where it is empty."""
    if stamp and stamp_of_file(uri) != stamp:
        raise TableError(
            f"{uri}: was replaced while it was read", hint="run again: what is new or changed is embedded"
        )


def _cut_row_groups(file: DataFile, footer: pq.FileMetaData) -> Iterator[Fragment]:
    """Join neighbouring row groups until a fragment is about FRAGMENT_BYTES of the file."""
    groups: list[int] = []
    start = rows = 0
    for group in range(footer.num_row_groups):
        groups.append(group)
        rows += footer.row_group(group).num_rows
        size = file.size * len(groups) // footer.num_row_groups
        if size >= FRAGMENT_BYTES or group == footer.num_row_groups - 1:
            yield Fragment(file.path, start, rows, size, tuple(groups), file.constants, file.stamp, file.names)
            start, rows, groups = start + rows, 0, []


def without_arrow_types(footer: pq.FileMetaData) -> pq.FileMetaData:
    """Return a footer that does not say which Arrow types the columns had: fixed-size lists are lists then.

    Arrow's reader fails on a fixed-size list that is null ("Expected all lists to be of size"), and with it on the
    whole file; as a list it reads it well. There is no option for this, so the remark's name is changed.
    """
    written = io.BytesIO()
    footer.write_metadata_file(written)
    return pq.read_metadata(io.BytesIO(written.getvalue().replace(b"ARROW:schema", b"arrow_schema")))


def _conform(
    batch: pa.RecordBatch,
    written: pa.Schema,
    schema: pa.Schema,
    names: Mapping[str, str | None],
    constants: Mapping[str, Any],
) -> pa.Table:
    """Give a batch the table's columns and types: constants of its file, nulls where the file is older."""
    columns = []
    for wanted in schema:
        name = names[wanted.name]
        if name in batch.schema.names:
            columns.append(plain_column(batch.column(name), written.field(name), wanted.type))
        else:
            value = pa.scalar(constants.get(wanted.name)).cast(wanted.type)
            columns.append(pa.repeat(value, len(batch)))
    return pa.table(columns, schema=schema)
