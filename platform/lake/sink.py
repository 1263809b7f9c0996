"""What a table that is written to promises, whatever its format: parts are staged, one commit makes them visible.

A sink holds the result of one job (its *owner*), in *slots*: one per model digest. A commit adds parts to a slot
and takes others out of it, in one step; other slots stay as they are, so a new model never overwrites another's
vectors. Of two runs of one job that commit at once, one fails and changes nothing.

Parts that were staged and never committed are not part of the table for any reader; they only take room.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol, Self

import pyarrow as pa

from lakebed.platform.errors import CommitError, TableError, UnreachableError
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.parts import Part, PartWriter
from lakebed.platform.lake.storage import store_errors

SLOT_COLUMN: Final = "lb_model_digest"

OWNER: Final = "lakebed.owner"
DESCRIPTION: Final = "lakebed.description"
RUN: Final = "lakebed.run"
SEQUENCE: Final = "lakebed.sequence"
"""Under these names formats keep beside the rows who owns the table, which run made a commit, and its number."""


_ELSEWHERE: Final = "choose another folder for the result"


@dataclass(frozen=True)
class Owner:
    """The job whose result a table holds. `description` says what it is; two jobs differ in some entry of it."""

    key: str
    description: Mapping[str, Any]

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Self:
        """The owner with this description; its key is told from it alone."""
        text = cls("", description).text
        return cls(hashlib.sha256(text.encode()).hexdigest()[:32], description)

    @property
    def text(self) -> str:
        """The description as one line of JSON."""
        return json.dumps(dict(self.description), sort_keys=True)

    def refuse(self, uri: str, other: str | None) -> TableError:
        """Return the error for a table with another owner, whose description as text is `other`."""
        theirs = described(other)
        if theirs is None:
            return TableError(f"{uri}: a table is there that no embedding job made", hint=_ELSEWHERE)
        for name, value in json.loads(self.text).items():
            if theirs.get(name) != value:
                other_value = theirs.get(name)
                return TableError(
                    f"{uri}: holds the result of another job: its {name} is {other_value!r}, this job's {value!r}",
                    hint=_ELSEWHERE,
                )
        return TableError(f"{uri}: holds the result of another job", hint=_ELSEWHERE)


@dataclass(frozen=True)
class SinkState:
    """A sink as a run found or left it. `sequence` fences: a commit holds only if nobody else's came in between.

    `slots` has the mark of each slot, see `mark_of`; None while a slot is not complete for any source version.
    """

    exists: bool
    sequence: int
    version: str | None
    slots: Mapping[str, int | None]

    def is_complete(self, slot: str, source_version: str) -> bool:
        """Whether a slot holds the whole result of a version of the source."""
        return self.slots.get(slot) == mark_of(source_version)


@dataclass(frozen=True)
class Commit:
    """One commit to `slot`: `parts` become part of the table, and those with the paths `removed` do not stay.

    `complete_for` is the source version that the slot holds whole from then on; None when it does not yet.
    `metadata` is kept with the commit.
    """

    slot: str
    run: str
    parts: Sequence[Part]
    removed: Sequence[str] = ()
    complete_for: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Orphan:
    """A data file that no version of a table holds. `path` is relative to the table, or whole; `size` in bytes.

    `run` staged it; None where only a folder in the path is named for the run, or nothing says it.
    """

    path: str
    size: int
    modified: datetime
    run: str | None = None


class Sink(Protocol):
    """A table that is written to."""

    @property
    def uri(self) -> str:
        """Folder of the table, or its name in a catalog."""
        ...

    @property
    def owner(self) -> Owner:
        """The job whose result it holds."""
        ...

    @property
    def folder(self) -> str:
        """Where the table lies, as a local path or s3://; what is kept beside its rows lies below."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table, of types that the format holds without loss."""
        ...

    def open(self) -> SinkState:
        """Look at the table; raises TableError when it is another job's, or has other columns."""
        ...

    def slot(self, state: SinkState, slot: str) -> Snapshot:
        """Rows of one slot, one fragment for each part, by whose path a commit can remove it; maybe none."""
        ...

    def writer(self, run: str, slot: str) -> PartWriter:
        """What stages parts of a run; it travels to workers."""
        ...

    def commit(self, state: SinkState, commit: Commit) -> SinkState:
        """Commit upon `state` and return what the table is now; raises CommitError, and then nothing has changed.

        A commit whose answer was lost and that has landed is a commit that succeeded. UnreachableError: whether it
        has landed could not be found out.
        """
        ...

    def discard(self, run: str) -> None:
        """Remove what a run staged; only for a run that has committed nothing."""
        ...

    def orphans(self) -> Sequence[Orphan]:
        """Data files that runs staged and no version of the table holds; a run at work has some, too."""
        ...

    def remove(self, paths: Sequence[str]) -> None:
        """Remove data files that no version of the table holds."""
        ...


def mark_of(source_version: str) -> int:
    """Name a version of a source by a positive number of 62 bits, which every format can keep beside a slot."""
    return int.from_bytes(hashlib.sha256(source_version.encode()).digest()[:8], "big") % (2**62 - 1) + 1


def overtaken(uri: str) -> CommitError:
    """Return the error of a run that finds another one's commit upon the state that it knew."""
    return CommitError(
        f"{uri}: another run of this job committed first; nothing of this run was written now",
        hint="run it again: it goes on from what is there",
    )


def rewritten(uri: str, path: str) -> CommitError:
    """Return the error of a run whose part to be removed is not in the table any more."""
    return CommitError(
        f"{uri}: {path} was rewritten while this run was at work; nothing of it was committed now",
        hint="run it again",
    )


def described(text: str | None) -> dict[str, Any] | None:
    """Read an owner's description, as a table keeps it; None when it is not one."""
    try:
        description = json.loads(text or "")
    except ValueError:
        return None
    return description if isinstance(description, dict) else None


@contextmanager
def answers_lost(uri: str) -> Iterator[None]:
    """Look whether a commit is there that failed for its writer; raises UnreachableError when that fails, too."""
    try:
        with store_errors(uri):
            yield
    except UnreachableError as error:
        raise UnreachableError(
            f"{error.message}; whether the last commit is there is not known",
            hint="run it again: it goes on from what is there",
        ) from error


def check_columns(uri: str, existing: pa.Schema, wanted: pa.Schema) -> None:
    """Raise TableError unless a table has the columns a job writes."""
    have = {field.name: _plain(field.type) for field in existing}
    want = {field.name: _plain(field.type) for field in wanted}
    for name in [*want, *have]:
        if have.get(name) != want.get(name):
            there, here = have.get(name, "missing"), want.get(name, "missing")
            raise TableError(
                f"{uri}: column {name!r} is {there} in the table, {here} in this job's result", hint=_ELSEWHERE
            )


def _plain(kind: pa.DataType) -> str:
    """Name a type as formats keep it: a fixed-size list comes back from Delta as a list."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        return f"list of {_plain(kind.value_type)}"
    if pa.types.is_large_string(kind) or pa.types.is_string(kind):
        return "text"
    return str(kind)
