"""The one mapping from errors to exit codes."""

from typing import Final

from lakebed.platform import errors

_CODES: Final[tuple[tuple[type[errors.LakebedError], int], ...]] = (
    (errors.ConfigError, 2),
    (errors.NotFoundError, 3),
    (errors.NotLoggedError, 9),
    (errors.UnreachableError, 4),
    (errors.PortInUseError, 5),
    (errors.TooManyBadRowsError, 6),
    (errors.CommitError, 7),
    (errors.JobFailedError, 8),
)


def exit_code(error: errors.LakebedError) -> int:
    """2 configuration, 3 not found, 4 unreachable, 5 port, 6 bad rows, 7 commit, 8 job, 9 not logged, else 1."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)
