"""What a table that is written to promises, whatever its format: parts are staged, one commit makes them visible.

A sink holds the result of one job (its *owner*), in *slots*: one per model digest. A commit replaces the slot of
its model and leaves the others as they are, so running a job again never doubles a row, and a new model never
overwrites another's vectors. Of two runs of one job that commit at once, one fails and changes nothing.

Parts that were staged and never committed are not part of the table for any reader; they only take room.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa

from lakebed.platform.errors import TableError
from lakebed.platform.lake.parts import Part

SLOT_COLUMN: Final = "lb_model_digest"
SOURCE_VERSION_COLUMN: Final = "lb_source_version"

_ELSEWHERE: Final = "choose another folder for the result"


@dataclass(frozen=True)
class Owner:
    """The job whose result a table holds. `description` says what it is; two jobs differ in some entry of it."""

    key: str
    description: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The description as one line of JSON."""
        return json.dumps(dict(self.description), sort_keys=True)

    def refuse(self, uri: str, other: str | None) -> TableError:
        """Return the error for a table with another owner, whose description as text is `other`."""
        try:
            theirs = json.loads(other or "")
        except ValueError:
            theirs = None
        if not isinstance(theirs, dict):
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
    """A sink as a run found it. `sequence` fences: a commit holds only if nobody else's came in between.

    `slots` tells which source version each slot's rows came from; None when they are of several.
    """

    exists: bool
    sequence: int
    version: str | None
    slots: Mapping[str, str | None]


@dataclass(frozen=True)
class Commit:
    """One commit: `parts` become the rows of `slot`. `metadata` is kept with the commit."""

    parts: Sequence[Part]
    slot: str
    run: str
    source_version: str
    metadata: Mapping[str, str]


class Sink(Protocol):
    """A table that is written to."""

    @property
    def uri(self) -> str:
        """Folder of the table."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table."""
        ...

    @property
    def stored_columns(self) -> pa.Schema:
        """Columns of its data files; what workers stage must have exactly these."""
        ...

    def open(self) -> SinkState:
        """Look at the table; raises TableError when it is another job's, or has other columns."""
        ...

    def folder(self, run: str) -> str:
        """Folder inside the table that a run stages its parts in."""
        ...

    def commit(self, state: SinkState, commit: Commit) -> str:
        """Make parts visible and return the new version; raises CommitError, and then nothing has changed."""
        ...

    def discard(self, run: str) -> None:
        """Remove what a run staged and did not commit."""
        ...


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
