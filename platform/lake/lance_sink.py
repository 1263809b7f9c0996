"""A Lance dataset as a sink: commits that add fragments and take others out, whole or nothing.

Who owns the dataset stands in its schema's metadata, from its first version on. What changes with every commit,
the marks of the slots, stands in the properties of the commit's own transaction, which Lance writes in one step
with the rows. They count while nothing but an index was made since: all else may change rows.

Lance rebases a transaction upon others that came in between when they touch other fragments; additions it always
would. So each commit also names the first fragment that was there as updated, as it is: two commits upon one
version both touch it, and Lance refuses the second.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
from lance import LanceDataset, LanceOperation, Transaction
from lance.file import LanceFileReader
from lance.fragment import FragmentMetadata, LanceFragment, write_fragments
from lance.schema import LanceSchema

from lakebed.platform import errors
from lakebed.platform.lake.fragments import Fragment, Snapshot
from lakebed.platform.lake.lance import LanceReader, fragment_id, fragment_of, lance_errors, load
from lakebed.platform.lake.parts import Part
from lakebed.platform.lake.sink import (
    DESCRIPTION,
    OWNER,
    RUN,
    SEQUENCE,
    SLOT_COLUMN,
    Commit,
    Orphan,
    Owner,
    SinkState,
    answers_lost,
    check_columns,
    described,
    mark_of,
)
from lakebed.platform.lake.storage import StoredFile, files_below, join, lance_options, remove_files

_SLOTS: Final = "lakebed.slots"
_DATA: Final = "data"
_SUFFIX: Final = ".lance"
_ROWS_STAY: Final = (LanceOperation.CreateIndex, LanceOperation.UpdateConfig)
_AT_ONCE: Final = 16
_COMMIT_ATTEMPTS: Final = 2
_AGAIN: Final = "run it again: it goes on from what is there"


@dataclass(frozen=True)
class LanceWriter:
    """Writes Lance fragments of a run into the dataset's folder; no version has them before a commit names them.

    `file_version` is Lance's version of the data files, one for a whole dataset; None for the newest.
    """

    uri: str
    run: str
    columns: pa.Schema
    file_version: str | None

    def __call__(self, table: pa.Table, plain: Sequence[str] = ()) -> Part:
        """Write one fragment; the part's `statistics` hold its description, which the commit needs.

        The file says which run wrote it. Lance chooses encodings by itself and leaves vectors as they are.
        """
        with lance_errors(self.uri):
            [fragment] = write_fragments(
                table.replace_schema_metadata({RUN: self.run}),
                self.uri,
                mode="overwrite",  # numbers the columns from 0, whatever is there; see LanceSink._check_numbers
                max_rows_per_file=max(1, len(table)),
                data_storage_version=self.file_version,
                storage_options=lance_options(self.uri),
            )
        [file] = fragment.files
        path = join(_DATA, str(file.path))
        return Part(path, len(table), file.file_size_bytes or 0, {"fragment": fragment.to_json()})


def lance_sink_at(uri: str) -> "LanceSink | None":
    """The sink of a dataset that is there, whichever job made it; raises TableError when none did."""
    with lance_errors(uri):
        dataset = load(uri)
        if dataset is None:
            return None
        owner = Owner.of(described(dataset.schema_metadata.get(DESCRIPTION)) or {})
        sink = LanceSink(uri, dataset.schema.remove_metadata(), owner)
        sink.open()
        return sink


class LanceSink:
    """A Lance dataset of one owner. `sequence` is the newest version at which its rows may have changed."""

    def __init__(self, uri: str, schema: pa.Schema, owner: Owner) -> None:
        self.uri = self.folder = uri
        self.schema = storable(uri, schema)
        self.owner = owner

    def open(self) -> SinkState:
        """Look at the dataset; raises TableError when it is another job's, or has other columns."""
        with lance_errors(self.uri):
            dataset = load(self.uri)
            if dataset is None:
                return SinkState(False, 0, None, {})
            self._check_owner(dataset)
            check_columns(self.uri, dataset.schema, self.schema)
            self._check_numbers(dataset)
            return _state(dataset)

    def slot(self, state: SinkState, slot: str) -> Snapshot:
        """Rows of one slot: one fragment for each of Lance's that has some; compaction may have joined slots."""
        if state.version is None:
            return Snapshot(self.uri, "lance", "", self.schema, ())
        with lance_errors(self.uri):
            dataset, where = self._at(int(state.version)), _rows_of(slot)

            def counted(found: LanceFragment) -> Fragment:
                return replace(fragment_of(found.metadata), rows=found.count_rows(filter=where))

            with ThreadPoolExecutor(_AT_ONCE) as pool:
                held = tuple(pool.map(counted, dataset.get_fragments()))
        parts = tuple(fragment for fragment in held if fragment.rows)
        return Snapshot(self.uri, "lance", state.version, self.schema, parts, LanceReader(dataset.version, where))

    def writer(self, run: str, slot: str) -> LanceWriter:
        """What stages fragments of a run; it travels to workers."""
        with lance_errors(self.uri):
            dataset = load(self.uri)
        return LanceWriter(self.uri, run, self.schema, None if dataset is None else dataset.data_storage_version)

    def commit(self, state: SinkState, commit: Commit) -> SinkState:
        """Commit upon `state` and return what the dataset is now; raises CommitError, and nothing has changed."""
        try:
            with lance_errors(self.uri):
                dataset = self._still(state)
                transaction = self._transaction(dataset, commit)
        except errors.UnreachableError as error:
            raise self._failed(error) from error
        return self._committed(state, self.uri if dataset is None else dataset, transaction, _COMMIT_ATTEMPTS)

    def _committed(
        self, state: SinkState, place: str | LanceDataset, transaction: Transaction, attempts: int
    ) -> SinkState:
        """Commit, or find that the commit is there; again when the store did not answer, as Lance does not.

        A request without an answer may still be carried out: then Lance refuses the next, and the first is found.
        """
        try:
            with lance_errors(self.uri):
                options = lance_options(self.uri)
                return _state(LanceDataset.commit(place, transaction, storage_options=options, max_retries=0))
        except errors.LakebedError as error:
            with answers_lost(self.uri), lance_errors(self.uri):
                landed = self._landed(state, transaction)
                if landed is not None:
                    return _state(landed)
                self._still(state)
            if isinstance(error, errors.UnreachableError) and attempts > 1:
                return self._committed(state, place, transaction, attempts - 1)
            raise self._failed(error) from error

    def discard(self, run: str) -> None:
        """Remove what a run staged; only for a run that has committed nothing."""
        self.remove([orphan.path for orphan in self.orphans() if orphan.run == run])

    def orphans(self) -> list[Orphan]:
        """Data files that no version names; `cleanup_old_versions` removes them as well, later.

        Branches of Lance may name files that no version does; where there are some, nothing is an orphan.
        """
        with lance_errors(self.uri):
            staged = [file for file in files_below(self.uri, _DATA) if file.path.endswith(_SUFFIX)]
            dataset = load(self.uri) if staged else None
            if dataset is not None and dataset.branches.list():
                return []
            known = frozenset() if dataset is None else _named(dataset)
            left = [file for file in staged if file.path not in known]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                return list(pool.map(self._orphan, left))

    def remove(self, paths: Sequence[str]) -> None:
        """Remove data files that no version of the dataset holds."""
        with lance_errors(self.uri):
            remove_files(self.uri, paths)

    def _at(self, version: int) -> LanceDataset:
        dataset = load(self.uri, version)
        if dataset is None:
            raise errors.TableNotFoundError(f"{self.uri}: version {version} is gone", hint="it was cleaned up")
        return dataset

    def _check_owner(self, dataset: LanceDataset) -> None:
        known = dataset.schema_metadata
        if known.get(OWNER) != self.owner.key:
            raise self.owner.refuse(self.uri, known.get(DESCRIPTION))

    def _check_numbers(self, dataset: LanceDataset) -> None:
        """Columns have the numbers that workers write into their files, unless someone dropped and remade one."""
        if _numbers(dataset.lance_schema.fields()) != _numbers(LanceSchema.from_pyarrow(self.schema).fields()):
            raise errors.TableError(
                f"{self.uri}: its columns were made anew by something else",
                hint="choose another folder for the result",
            )

    def _still(self, state: SinkState) -> LanceDataset | None:
        """The newest version, if its rows are those of `state`; raises CommitError when they are not."""
        dataset = load(self.uri)
        if dataset is None:
            if state.exists:
                raise errors.TableNotFoundError(f"{self.uri}: the dataset is gone")
            return None
        self._check_owner(dataset)
        sequence, properties = _last_change(dataset)
        if sequence != state.sequence:
            who = "another run of this job committed" if RUN in properties else "something else changed it"
            raise errors.CommitError(f"{self.uri}: {who} first; nothing of this run was written now", hint=_AGAIN)
        return dataset

    def _transaction(self, dataset: LanceDataset | None, commit: Commit) -> Transaction:
        new = [FragmentMetadata.from_json(json.dumps(part.statistics["fragment"])) for part in commit.parts]
        if dataset is None:
            return Transaction(0, self._whole(new), transaction_properties=_properties(commit, 1, {}))
        properties = _properties(commit, dataset.version + 1, _state(dataset).slots)
        held = {fragment.fragment_id: fragment for fragment in dataset.get_fragments()}
        operation = self._change(held, commit, new) if held else self._whole(new)
        return Transaction(dataset.version, operation, transaction_properties=properties)

    def _whole(self, new: list[FragmentMetadata]) -> LanceOperation.Overwrite:
        """Make the dataset, or fill an empty one. Lance refuses the second of two of these upon one version."""
        mine = {OWNER: self.owner.key, DESCRIPTION: self.owner.text}
        return LanceOperation.Overwrite(self.schema.with_metadata(mine), new)

    def _change(
        self, held: Mapping[int, LanceFragment], commit: Commit, new: list[FragmentMetadata]
    ) -> LanceOperation.Update:
        gone, changed = self._taken_out(held, commit)
        first = min(held)
        if first not in {*gone, *(fragment.id for fragment in changed)}:
            changed.append(held[first].metadata)
        return LanceOperation.Update(removed_fragment_ids=gone, updated_fragments=changed, new_fragments=new)

    def _taken_out(
        self, held: Mapping[int, LanceFragment], commit: Commit
    ) -> tuple[list[int], list[FragmentMetadata]]:
        """Fragments that go, and those that compaction gave rows of other slots, which stay."""
        gone, changed = [], []
        for number in map(fragment_id, commit.removed):
            if number not in held:
                raise errors.CommitError(f"{self.uri}: there is no fragment {number}; nothing was committed")
            rest = held[number].delete(_rows_of(commit.slot))
            if rest is None:
                gone.append(number)
            else:
                changed.append(rest)
        return gone, changed

    def _failed(self, error: errors.LakebedError) -> errors.CommitError:
        return errors.CommitError(f"{self.uri}: the commit failed: {error.message}", hint=error.hint)

    def _landed(self, state: SinkState, transaction: Transaction) -> LanceDataset | None:
        """The dataset right after a transaction, if that one landed."""
        dataset = load(self.uri)
        if dataset is None:
            return None
        for version in _versions(dataset):
            found = _read_transaction(dataset, version) if version > state.sequence else None
            if found is not None and found.uuid == transaction.uuid:
                return self._at(version)
        return None

    def _orphan(self, file: StoredFile) -> Orphan:
        return Orphan(file.path, file.size, file.modified, _run_of(join(self.uri, file.path)))


def storable(uri: str, schema: pa.Schema) -> pa.Schema:
    """Return a schema with every type one that Lance holds; raises TableError when there is none."""
    try:
        return LanceSchema.from_pyarrow(schema.remove_metadata()).to_pyarrow()
    except ValueError as error:
        fault = str(error).partition("Unsupported data type: ")[2].partition(", /")[0] or str(error)
        raise errors.TableError(
            f"{uri}: Lance cannot hold a column of the result: {fault}", hint="leave it out, or write Parquet"
        ) from None


def _rows_of(slot: str) -> str:
    quoted = slot.replace("'", "''")
    return f"{SLOT_COLUMN} = '{quoted}'"


def _properties(commit: Commit, sequence: int, slots: Mapping[str, int | None]) -> dict[str, str]:
    """What a transaction says of itself: the version it should make, and the marks of all slots in it."""
    mark = None if commit.complete_for is None else mark_of(commit.complete_for)
    marks = json.dumps({**slots, commit.slot: mark})
    return {**commit.metadata, RUN: commit.run, SEQUENCE: str(sequence), _SLOTS: marks}


def _numbers(columns: Sequence[Any]) -> list[Any]:
    """Names and numbers of columns, and of what they are made of."""
    return [(column.name(), column.id(), _numbers(column.children())) for column in columns]


def _state(dataset: LanceDataset) -> SinkState:
    """What the dataset says of itself. A commit that Lance rebased has marks that were true of another version."""
    sequence, properties = _last_change(dataset)
    slots = json.loads(properties[_SLOTS]) if properties.get(SEQUENCE) == str(sequence) else {}
    return SinkState(True, sequence, str(dataset.version), slots)


def _last_change(dataset: LanceDataset) -> tuple[int, Mapping[str, str]]:
    """The newest version that may have other rows than the one before, and what its transaction says of itself."""
    versions = _versions(dataset)
    for version in versions:
        transaction = _read_transaction(dataset, version)
        if transaction is None:
            return version, {}
        if not isinstance(transaction.operation, _ROWS_STAY):
            return version, transaction.transaction_properties or {}
    return versions[-1], {}


def _versions(dataset: LanceDataset) -> list[int]:
    """Versions up to this one that were not cleaned up, newest first."""
    found = (reference["version"] for reference in dataset.version_refs())
    return sorted((version for version in found if version <= dataset.version), reverse=True)


def _named(dataset: LanceDataset) -> frozenset[str]:
    """Data files that any version names."""
    rows = (row for batch in dataset.tracked_files() for row in batch.select(["path", "type"]).to_pylist())
    return frozenset(row["path"] for row in rows if row["type"] == "data file")


def _read_transaction(dataset: LanceDataset, version: int) -> Transaction | None:
    try:
        return dataset.read_transaction(version)
    except TypeError:  # pylance 14 cannot give back a compaction that rewrote an index
        return None


def _run_of(uri: str) -> str | None:
    """The run that wrote a data file; None for a file of someone else, or one that is not whole."""
    try:
        written = LanceFileReader(uri, storage_options=lance_options(uri)).metadata().schema.metadata or {}
    except (OSError, ValueError):
        return None
    run = written.get(RUN.encode())
    return run.decode() if run else None
