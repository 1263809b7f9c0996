"""Parquet tables: a folder that someone else wrote, and our own with a manifest that makes commits whole.

Layout of our own, under the table's folder:

    _lakebed/manifest-000001.json        the table at sequence 1: its columns, its parts, its owner
    _lakebed/runs/<run>/part-….parquet   what each run staged

A manifest is created under a name that must be free, after every part is in place: it appears whole or not at
all, and of two writers one gets it. Readers go through the newest manifest. Parts lie below a name that begins
with an underscore, which readers of plain folders (Arrow, Spark, Ray) skip: they never meet half a result. To
read without lakebed, list the manifest's `parts`, or the folder of its run.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as pads

from lakebed.platform.errors import CommitError, LakebedError, TableError, TableNotFoundError
from lakebed.platform.lake.fragments import DataFile, Snapshot, decoded, fragments_of, whole_files
from lakebed.platform.lake.parts import ParquetWriter
from lakebed.platform.lake.sink import (
    Commit,
    Orphan,
    Owner,
    SinkState,
    answers_lost,
    check_columns,
    mark_of,
    overtaken,
)
from lakebed.platform.lake.storage import (
    create_file,
    files_below,
    filesystem,
    inner_path,
    join,
    names_in,
    read_bytes,
    remove_files,
    remove_folder,
    stamp_of,
    store_errors,
)

_FOLDER: Final = "_lakebed"
_FORMAT: Final = "lakebed-manifest-2"
_RUNS: Final = f"{_FOLDER}/runs"
_MANIFEST: Final = re.compile(r"manifest-(\d{6,})\.json")

Manifest = dict[str, Any]


def open_parquet(uri: str, version: int | None = None) -> Snapshot:
    """Open a table: by its manifest when it has one, else every Parquet file in the folder, or the one file."""
    with store_errors(uri):
        sequences = _sequences(uri)
        if sequences:
            return _open_manifest(uri, sequences, version)
        if version is not None:
            raise TableError(f"{uri}: a plain Parquet folder has no versions", hint="leave `version` out")
        return _open_folder(uri)


def has_manifest(uri: str) -> bool:
    """Whether a table of our own lies there."""
    return bool(_sequences(uri))


def _open_manifest(uri: str, sequences: list[int], version: int | None) -> Snapshot:
    sequence = sequences[-1] if version is None else version
    if sequence not in sequences:
        raise TableNotFoundError(f"{uri}: there is no version {version}", hint=f"the newest is {sequences[-1]}")
    manifest = _read_manifest(uri, sequence)
    files = [DataFile(part["path"], part["size"], part["rows"]) for part in manifest["parts"]]
    return Snapshot(uri, "parquet", str(sequence), _schema_of(manifest), fragments_of(uri, files))


def _open_folder(uri: str) -> Snapshot:
    """Open files that someone else wrote; their names, sizes and times stand for a version."""
    store = filesystem(uri)
    root = inner_path(uri)
    info = store.info(root)
    if info["type"] == "file":
        uri, _, name = uri.rpartition("/")
        found = [(name, info)]
    else:
        listed = store.find(root, detail=True)
        found = [(path.removeprefix(f"{root}/"), entry) for path, entry in listed.items()]
    found = sorted((path, entry) for path, entry in found if path.endswith(".parquet") and not _hidden(path))
    if not found:
        raise TableNotFoundError(f"{uri}: there are no Parquet files", hint="check the path")
    schema, constants = _schema_and_constants(uri, [path for path, _ in found])
    files = [DataFile(path, entry["size"], None, constants[path], stamp_of(entry)) for path, entry in found]
    return Snapshot(uri, "parquet", _fingerprint(found), schema, fragments_of(uri, files))


def _hidden(path: str) -> bool:
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def _schema_and_constants(uri: str, paths: list[str]) -> tuple[pa.Schema, dict[str, dict[str, Any]]]:
    """Return the common schema of files, and the columns that `key=value` folders give each of them."""
    root = inner_path(uri)
    try:
        dataset = pads.dataset(
            [join(root, path) for path in paths],
            filesystem=filesystem(uri),
            format="parquet",
            partitioning=pads.partitioning(flavor="hive"),
            partition_base_dir=root,
        )
        schema = pa.unify_schemas(
            [dataset.schema, *(fragment.physical_schema for fragment in dataset.get_fragments())],
            promote_options="permissive",
        )
    except pa.ArrowInvalid as error:
        raise TableError(f"{uri}: {error}") from None
    except pa.ArrowTypeError as error:
        raise TableError(f"{uri}: files disagree on a column: {error}") from None
    constants = {
        fragment.path.removeprefix(f"{root}/"): pads.get_partition_keys(fragment.partition_expression)
        for fragment in dataset.get_fragments()
    }
    return pa.schema([field.with_type(decoded(field.type)) for field in schema]), constants


def _fingerprint(found: list[tuple[str, dict[str, Any]]]) -> str:
    """Stand in for a version: 16 hex digits that change when a file is added, removed or rewritten."""
    listing = [(path, stamp_of(entry)) for path, entry in found]
    return f"files-{hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16]}"


def parquet_sink_at(uri: str) -> "ParquetSink | None":
    """The sink of a table that is there, whichever job made it."""
    with store_errors(uri):
        sequences = _sequences(uri)
        if not sequences:
            return None
        manifest = _read_manifest(uri, sequences[-1])
        return ParquetSink(uri, _schema_of(manifest), Owner(manifest["owner"], manifest["description"]))


class ParquetSink:
    """A folder of Parquet parts of one owner, with a manifest per commit."""

    def __init__(self, uri: str, schema: pa.Schema, owner: Owner) -> None:
        self.uri = self.folder = uri
        self.schema = schema
        self.owner = owner

    def open(self) -> SinkState:
        """Look at the table; raises TableError when it is another job's, or has other columns."""
        with store_errors(self.uri):
            sequences = _sequences(self.uri)
            if not sequences:
                self._check_free()
                return SinkState(False, 0, None, {})
            manifest = _read_manifest(self.uri, sequences[-1])
            if manifest["owner"] != self.owner.key:
                raise self.owner.refuse(self.uri, json.dumps(manifest["description"]))
            check_columns(self.uri, _schema_of(manifest), self.schema)
            return SinkState(True, sequences[-1], str(sequences[-1]), manifest["slots"])

    def slot(self, state: SinkState, slot: str) -> Snapshot:
        """Rows of one slot, one fragment for each part."""
        parts = []
        if state.exists:
            with store_errors(self.uri):
                parts = _read_manifest(self.uri, state.sequence)["parts"]
        files = [DataFile(part["path"], part["size"], part["rows"]) for part in parts if part["slot"] == slot]
        return Snapshot(self.uri, "parquet", str(state.sequence), self.schema, whole_files(self.uri, files))

    def writer(self, run: str, slot: str) -> ParquetWriter:
        """What stages parts of a run."""
        return ParquetWriter(self.uri, f"{_RUNS}/{run}", self.schema)

    def commit(self, state: SinkState, commit: Commit) -> SinkState:
        """Write the next manifest and return its state; raises CommitError, and then nothing has changed."""
        sequence = state.sequence + 1
        manifest = self._next_manifest(state, commit)
        try:
            with store_errors(self.uri):
                create_file(_manifest_uri(self.uri, sequence), json.dumps(manifest, indent=1).encode())
        except (FileExistsError, LakebedError) as error:
            landed = self._landed(sequence)  # the store's answer may be what was lost
            if landed is None:
                message, hint = (
                    (error.message, error.hint) if isinstance(error, LakebedError) else (str(error), None)
                )
                raise CommitError(f"{self.uri}: the commit failed: {message}", hint=hint) from error
            if landed["run"] != commit.run:
                raise overtaken(self.uri) from None
        return SinkState(True, sequence, str(sequence), manifest["slots"])

    def discard(self, run: str) -> None:
        """Remove what a run staged; only for a run that has committed nothing."""
        with store_errors(self.uri):
            remove_folder(join(self.uri, f"{_RUNS}/{run}"))

    def orphans(self) -> list[Orphan]:
        """Data files that runs staged and no manifest names."""
        with store_errors(self.uri):
            staged = files_below(self.uri, _RUNS)
            manifests = [
                _read_manifest(self.uri, sequence) for sequence in (_sequences(self.uri) if staged else [])
            ]
            known = {part["path"] for manifest in manifests for part in manifest["parts"]}
            return [Orphan(file.path, file.size, file.modified) for file in staged if file.path not in known]

    def remove(self, paths: Sequence[str]) -> None:
        """Remove data files that no version of the table holds."""
        with store_errors(self.uri):
            remove_files(self.uri, paths)

    def _landed(self, sequence: int) -> Manifest | None:
        """The manifest of this number, if there is one."""
        with answers_lost(self.uri):
            return _read_manifest(self.uri, sequence) if sequence in _sequences(self.uri) else None

    def _check_free(self) -> None:
        """Refuse a folder that holds something else; what killed runs left under `_lakebed` does not count."""
        others = [name for name in names_in(self.uri) if name != _FOLDER]
        if others:
            raise TableError(
                f"{self.uri}: the folder holds other files, such as {others[0]}",
                hint="choose another folder for the result",
            )

    def _next_manifest(self, state: SinkState, commit: Commit) -> Manifest:
        old = _read_manifest(self.uri, state.sequence)["parts"] if state.exists else []
        new = [
            {"path": part.path, "rows": part.rows, "size": part.size, "slot": commit.slot, "run": commit.run}
            for part in commit.parts
        ]
        mark = None if commit.complete_for is None else mark_of(commit.complete_for)
        return {
            "format": _FORMAT,
            "owner": self.owner.key,
            "description": dict(self.owner.description),
            "run": commit.run,
            "metadata": dict(commit.metadata),
            "schema": base64.b64encode(self.schema.serialize().to_pybytes()).decode(),
            "slots": {**state.slots, commit.slot: mark},
            "parts": [*(part for part in old if part["path"] not in set(commit.removed)), *new],
        }


def _sequences(uri: str) -> list[int]:
    matches = (_MANIFEST.fullmatch(name) for name in names_in(join(uri, _FOLDER)))
    return sorted(int(match[1]) for match in matches if match)


def _manifest_uri(uri: str, sequence: int) -> str:
    return join(uri, _FOLDER, f"manifest-{sequence:06d}.json")


def _read_manifest(uri: str, sequence: int) -> Manifest:
    place = _manifest_uri(uri, sequence)
    manifest = json.loads(read_bytes(place))
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise TableError(f"{place}: not a manifest of format {_FORMAT}", hint="was it made by another version?")
    return manifest


def _schema_of(manifest: Manifest) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(manifest["schema"])))
