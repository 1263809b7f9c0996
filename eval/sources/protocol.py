"""Where data sets come from: a source names what it has, says what it lacks, and reads one set after the other.

Nothing is downloaded. What a user asked for and is not there is an error, before anything is embedded.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from lakebed.eval.datasets import Dataset
from lakebed.platform.errors import ConfigError, DatasetNotFoundError


class Source(Protocol):
    """The data sets of one entry of a suite."""

    def names(self) -> list[str]:
        """The sets it has; raises DatasetNotFoundError or ConfigError when they cannot be had."""
        ...

    def missing(self) -> list[str]:
        """Sets that it could read but that are not there, and are skipped."""
        ...

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Read the sets; `limit` is the most examples of a part (pairs, series), always the same ones."""
        ...


def given_folder(path: Path | None, holds: str) -> Path:
    """Return the folder as an absolute path; raises ConfigError without one, DatasetNotFoundError without it."""
    if path is None:
        raise ConfigError(f"this suite reads {holds} from a folder", hint="give it with --data DIR")
    if not path.is_dir():
        raise DatasetNotFoundError(f"{path}: no such folder", hint=f"expected {holds}")
    return path.resolve()
