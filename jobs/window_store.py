"""Where windows are kept between runs: data files, and a manifest that is written last. Whole, or not there.

Layout, under `<sink>/_lakebed/windows/<digest>/`:

    windows.json                            which files, how many windows, of which table and version
    <attempt>/part-00007-….parquet          what one attempt wrote

The digest names the source at its version, the filter and how windows are cut: what is there is right for ever.
Of two attempts at once one gets the manifest, and both use what it names. Knows nothing of how windows are made.
"""

import base64
import hashlib
import json
import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.config.windows import WINDOW_SERIES
from lakebed.platform.errors import LakebedError, TableError
from lakebed.platform.lake.fragments import DataFile, Snapshot, fragments_of
from lakebed.platform.lake.storage import (
    StoredFile,
    create_file,
    exists,
    files_below,
    filesystem,
    inner_path,
    join,
    read_bytes,
    remove_folder,
    store_errors,
)
from lakebed.platform.lake.tables import table_folder

FORMAT: Final = "lakebed-windows-1"
_log = logging.getLogger(__name__)

_MANIFEST: Final = "windows.json"
_FOLDER: Final = ("_lakebed", "windows")


@dataclass(frozen=True)
class WindowPart:
    """A data file of windows. `path` is relative to the store."""

    path: str
    rows: int
    size: int


@dataclass(frozen=True)
class WindowStore:
    """A place for the windows of one source version, cut one way; `identity` says of what."""

    uri: str
    identity: dict[str, Any]

    @classmethod
    def of(cls, job: EmbedJob, snapshot: Snapshot) -> Self:
        """Find the place for a job's windows of a source."""
        identity = {
            "format": FORMAT,
            "source": job.source.uri,
            "version": snapshot.version,
            "sampling_rate": job.sampling_rate,
            "filter": job.source.filter,
            "windows": job.windows and job.windows.model_dump(mode="json", exclude={"folder"}),
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
        folder = (job.windows and job.windows.folder) or windows_folder(table_folder(job.sink))
        return cls(join(folder, digest), identity)

    def opened(self, version: str) -> Snapshot | None:
        """Return the windows as a table at the source's version, or None when they are not there whole."""
        place = join(self.uri, _MANIFEST)
        with store_errors(self.uri):
            if not exists(place):
                return None
            manifest = json.loads(read_bytes(place))
            if manifest.get("identity") != self.identity:
                raise TableError(f"{place}: not the windows of this job", hint="remove the folder")
            files = [DataFile(part["path"], part["size"], part["rows"]) for part in manifest["parts"]]
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(manifest["schema"])))
            return Snapshot(self.uri, "parquet", version, schema, fragments_of(self.uri, files))

    @contextmanager
    def attempt(self) -> Iterator[str]:
        """Name a folder for one attempt's parts; what it wrote is removed when it fails."""
        folder = uuid.uuid4().hex
        try:
            yield folder
        except BaseException:
            self._remove(folder)
            raise

    def _remove(self, folder: str) -> None:
        """Remove what an attempt wrote; a failure must not stand in for what ended the attempt."""
        try:
            with store_errors(self.uri):
                remove_folder(join(self.uri, folder))
        except LakebedError as error:
            _log.warning("%s; `lakebed jobs clean` removes what is left of the windows", error)

    def publish(self, folder: str, parts: Sequence[WindowPart], schema: pa.Schema) -> None:
        """Make an attempt's parts the windows; of an attempt that comes second the parts are removed."""
        manifest = {
            "identity": self.identity,
            "windows": sum(part.rows for part in parts),
            "schema": base64.b64encode(schema.serialize().to_pybytes()).decode(),
            "parts": [asdict(part) for part in sorted(parts, key=lambda part: part.path)],
        }
        with store_errors(self.uri):
            try:
                create_file(join(self.uri, _MANIFEST), json.dumps(manifest, indent=1).encode())
            except FileExistsError:
                remove_folder(join(self.uri, folder))


@dataclass(frozen=True)
class KeptWindows:
    """What lies in the folder of one digest; paths are relative to the folder of all.

    `parts` are the windows, of the source at `version`, `manifest` the file that names them; without it there are
    none. `others` are what attempts wrote that came second or did not come to their end, or are still at it.
    """

    manifest: StoredFile | None
    version: str | None
    parts: tuple[StoredFile, ...]
    others: tuple[StoredFile, ...]

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """All of it, the manifest first: once that is gone, nobody takes the rest for whole."""
        return (*((self.manifest,) if self.manifest else ()), *self.parts, *self.others)

    def attempts(self) -> list[tuple[StoredFile, ...]]:
        """`others`, by attempt."""
        return [tuple(files) for _, files in groupby(self.others, lambda file: file.path.split("/")[1])]

    @property
    def made(self) -> datetime | None:
        """When the windows were whole."""
        return self.manifest.modified if self.manifest else None


def windows_folder(table: str) -> str:
    """Where the windows of a job are kept by default, given the folder of the table it writes to."""
    return join(table, *_FOLDER)


def kept_windows(folder: str) -> list[KeptWindows]:
    """Look at all windows that are kept in a folder; raises UnreachableError or TableError."""
    with store_errors(folder):
        below = [file for file in files_below(folder, "") if "/" in file.path]
        digests = groupby(below, lambda file: file.path.split("/")[0])
        return [_kept(folder, digest, tuple(files)) for digest, files in digests]


def _kept(folder: str, digest: str, files: Sequence[StoredFile]) -> KeptWindows:
    place = f"{digest}/{_MANIFEST}"
    manifest = next((file for file in files if file.path == place), None)
    if manifest is None:
        return KeptWindows(None, None, (), tuple(files))
    stands = json.loads(read_bytes(join(folder, place)))
    named = {f"{digest}/{part['path']}" for part in stands["parts"]}
    parts = tuple(file for file in files if file.path in named)
    others = tuple(file for file in files if file.path not in named and file is not manifest)
    return KeptWindows(manifest, stands["identity"]["version"], parts, others)


class PartWriter:
    """Writes windows to one data file, in row groups of about `group_values` numbers, which bound its memory."""

    def __init__(self, store_uri: str, path: str, schema: pa.Schema, group_values: int) -> None:
        self._uri = join(store_uri, path)
        self._path = path
        self._schema = schema
        self._group_values = group_values
        self._waiting: list[pa.Table] = []
        self._values = self._rows = 0
        self._file: Any = None
        self._writer: pq.ParquetWriter | None = None

    def add(self, windows: pa.Table, values: int) -> None:
        """Take windows that hold so many numbers."""
        self._waiting.append(windows)
        self._values += values
        if self._values >= self._group_values:
            self._flush()

    def close(self) -> WindowPart | None:
        """Finish the file; None when there was nothing to write."""
        self._flush()
        if self._writer is None:
            return None
        self._writer.close()
        size = self._file.tell()
        self._file.close()
        return WindowPart(self._path, self._rows, size)

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        with store_errors(self._uri):
            if self._writer is None:
                self._file = filesystem(self._uri).open(inner_path(self._uri), "wb")
                coded = [name for name in self._schema.names if name != WINDOW_SERIES]
                self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd", use_dictionary=coded)
            self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._rows += len(table)
        self._waiting, self._values = [], 0
