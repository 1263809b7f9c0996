"""Lance datasets, through pylance: fragments of a pinned version, and how they are read.

Positions count the rows that are there, in their order; Lance keeps deleted rows in the data files and says in a
deletion file which they are. So a fragment's name carries a stamp of all its files: a row deleted, or a column
written anew, makes another name. Needs the extra `lance`; nothing imports this module for tables of other formats.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import lance
import pyarrow as pa
from lance.fragment import FragmentMetadata

from lakebed.platform import errors
from lakebed.platform.lake import fragments
from lakebed.platform.lake.fragments import Fragment, Snapshot, decoded
from lakebed.platform.lake.storage import lance_options, store_errors

_FOLDER: Final = "fragment/"
_MISSING: Final = "was not found"
_PLACE_IN_RUST: Final = re.compile(r", \S+\.rs:\d+:\d+")


def open_lance(uri: str, version: int | None = None) -> Snapshot:
    """Open a dataset, at a version or at its newest."""
    with lance_errors(uri):
        dataset = _load_version(uri, version)
        schema = pa.schema([field.with_type(decoded(field.type)) for field in dataset.schema])
        found = tuple(part for each in dataset.get_fragments() for part in _cut(fragment_of(each.metadata)))
        return Snapshot(uri, "lance", str(dataset.version), schema, found, LanceReader(dataset.version))


def _load_version(uri: str, version: int | None) -> lance.LanceDataset:
    newest = load(uri)
    if newest is None:
        raise errors.TableNotFoundError(f"{uri}: there is no Lance dataset", hint="check the path")
    if version is None or version == newest.version:
        return newest
    if version > newest.version:
        raise errors.TableNotFoundError(
            f"{uri}: there is no version {version}", hint=f"the newest is {newest.version}"
        )
    pinned = load(uri, version)
    if pinned is None:
        raise errors.TableNotFoundError(f"{uri}: version {version} is gone", hint="it was cleaned up")
    return pinned


def load(uri: str, version: int | None = None) -> lance.LanceDataset | None:
    """Load a version of a dataset, the newest by default; None when it is not there."""
    try:
        return lance.dataset(uri, version=version, storage_options=lance_options(uri))
    except ValueError as error:  # pylance has no class of its own for it
        if _MISSING in str(error):
            return None
        raise


def fragment_of(found: FragmentMetadata) -> Fragment:
    """One fragment of a dataset, whole."""
    size = sum(file.file_size_bytes or 0 for file in found.files)
    return Fragment(f"{_FOLDER}{found.id}", 0, found.num_rows, size, stamp=_stamp(found))


def fragment_id(path: str) -> int:
    """Lance's own number of a fragment."""
    return int(path.removeprefix(_FOLDER))


def _stamp(found: FragmentMetadata) -> str:
    """16 hex digits of the files that the fragment's contents come from."""
    known = found.to_json()
    contents = [known[name] for name in ("files", "deletion_file", "overlays")]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]


def _cut(whole: Fragment) -> Iterator[Fragment]:
    """Cut a fragment of Lance, which may hold a million rows, into runs of about FRAGMENT_BYTES."""
    pieces = max(1, min(whole.rows, round(whole.size / fragments.FRAGMENT_BYTES)))
    bounds = [whole.rows * piece // pieces for piece in range(pieces + 1)]
    for start, stop in pairwise(bounds):
        if stop > start:
            yield Fragment(whole.path, start, stop - start, whole.size // pieces, stamp=whole.stamp)


@dataclass(frozen=True)
class LanceReader:
    """Reads fragments of one version; of their rows, those that `where`, a predicate of SQL, is true for."""

    version: int
    where: str | None = None

    def __call__(self, uri: str, fragment: Fragment, schema: pa.Schema, batch_rows: int) -> Iterator[pa.Table]:
        """Read the columns of `schema` of one fragment in order, at most `batch_rows` rows at a time."""
        with lance_errors(uri):
            found = _load_version(uri, self.version).get_fragment(fragment_id(fragment.path))
            if found is None:
                raise errors.TableError(f"{uri}: version {self.version} has no {fragment.path}")
            batches = found.to_batches(
                columns=schema.names,
                batch_size=batch_rows,
                filter=self.where,
                offset=fragment.start,
                limit=fragment.rows,
            )
            for batch in batches:
                yield pa.Table.from_batches([batch]).cast(schema)


@contextmanager
def lance_errors(uri: str) -> Iterator[None]:
    """Turn what pylance raises, which are Python's own classes, into errors that name the table and what to do."""
    with store_errors(uri):
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            raise OSError(_PLACE_IN_RUST.sub("", str(error))) from error
