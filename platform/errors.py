"""The error tree: everything lakebed raises on purpose.

    LakebedError
    |-- ConfigError            a file, an option or an environment variable is wrong
    |-- InvalidItemError       an item cannot be embedded (carries its position)
    |-- NotFoundError
    |   |-- ModelNotFoundError
    |   |-- TableNotFoundError
    |   |-- ColumnNotFoundError
    |   |-- DatasetNotFoundError
    |   `-- JobNotFoundError
    |-- ArtifactError          a model directory is incomplete or does not match its digest
    |-- TableError             a table cannot be read or written as asked
    |   |-- EmptyTableError
    |   `-- CommitError
    |-- TooManyBadRowsError    more rows were quarantined than the job allows
    |-- UnreachableError       a server, a store or a cluster does not answer
    |   `-- NotLoggedError     an evaluation is done, and kept on this machine until a server answers
    |-- PortInUseError
    |-- GateError              a model version is not better than the champion; nothing was changed
    |-- DriftError             vectors of two versions of a table differ more than was allowed
    `-- JobFailedError         a submitted job ended badly

Every error is one line that says what, where and, as `hint`, what to do. All are picklable: they cross Ray.
What each becomes as an HTTP status is in `serve/error_responses.py`, as an exit code in `lakebed.cli.exit_codes`.
"""

from typing import Any, Self


class LakebedError(Exception):
    """The root of the tree; `message` says what and where, `hint` what to do about it."""

    def __init__(self, message: str, *, hint: str | None = None, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.context))

    def at(self, **context: Any) -> Self:
        """Return the same error with more context, such as the position of a row."""
        return type(self)(self.message, hint=self.hint, **{**self.context, **context})


def _rebuild(kind: type[LakebedError], message: str, hint: str | None, context: dict[str, Any]) -> LakebedError:
    return kind(message, hint=hint, **context)


class ConfigError(LakebedError):
    """A configuration file, an option or an environment variable is wrong."""


class InvalidItemError(LakebedError):
    """An item that cannot be embedded; `position` is its index in what was handed in, `code` a short name."""

    @property
    def position(self) -> int | None:
        """Index of the item in the batch it came in, from 0."""
        position: int | None = self.context.get("position")
        return position

    @property
    def code(self) -> str:
        """A stable short name of the reason, such as `empty_text`, for quarantine tables and clients."""
        code: str = self.context.get("code", "invalid_item")
        return code


class NotFoundError(LakebedError):
    """Something that was named does not exist."""


class ModelNotFoundError(NotFoundError):
    """No such model, version or alias."""


class TableNotFoundError(NotFoundError):
    """No table at that place, or not at that version."""


class ColumnNotFoundError(NotFoundError):
    """The table has no such column."""


class DatasetNotFoundError(NotFoundError):
    """No such evaluation data set or suite."""


class JobNotFoundError(NotFoundError):
    """No such job or run: the cluster, or the ledger, knows none."""


class ArtifactError(LakebedError):
    """A model directory is incomplete, of an unknown format, or does not match its digest."""


class TableError(LakebedError):
    """A table cannot be read or written as asked."""


class EmptyTableError(TableError):
    """The source has no rows."""


class CommitError(TableError):
    """The result could not be made visible; the table is as it was before."""


class TooManyBadRowsError(LakebedError):
    """More rows could not be embedded than the job allows; nothing more was committed."""


class UnreachableError(LakebedError):
    """A server, a store or a cluster does not answer."""


class NotLoggedError(UnreachableError):
    """An evaluation is done, but no MLflow server answers: its results are kept on this machine."""


class PortInUseError(LakebedError):
    """Another process listens on the port."""


class GateError(LakebedError):
    """A model version did not pass the gate to be promoted; nothing was changed."""


class DriftError(LakebedError):
    """The vectors of two versions of a table differ, and the caller asked to be told by an error."""


class JobFailedError(LakebedError):
    """A job that was submitted to a cluster ended without success."""
