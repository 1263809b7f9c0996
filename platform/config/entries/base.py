"""What every entry of a suite has: one set or many, from a folder or not, measured at further lengths or not."""

from pathlib import Path
from typing import Self

from pydantic import PositiveInt

from lakebed.platform.config.base import Config


class Measured(Config):
    """What every entry has."""

    dimensions: tuple[PositiveInt, ...] = ()
    """Measure vectors cut to these lengths too: figures that end in `_256d`, from the same embedding pass."""

    @property
    def reads_folder(self) -> bool:
        """Whether `--data` has something to say to it."""
        return False

    @property
    def in_halves(self) -> bool:
        """Whether means over the two fixed halves of the data sets are figures too."""
        return False

    @property
    def is_one_set(self) -> bool:
        """Whether it measures one data set, which `known_as` names."""
        return False

    @property
    def known_as(self) -> str | None:
        """What `--only` and `--exclude` call its one data set."""
        return None

    def of_folder(self, folder: Path) -> Self:
        """Return the entry with the folder that `--data` gave."""
        return self.model_copy(update={"path": folder}) if self.reads_folder else self


class OneSet(Measured):
    """An entry that measures one data set."""

    @property
    def is_one_set(self) -> bool:
        """It is."""
        return True


class Sets(Measured):
    """An entry that measures data sets found in a folder."""

    path: Path | None = None
    """The folder; given here or by `--data`."""

    names: tuple[str, ...] = ()
    """Which sets, in this order; empty means every set found."""

    exclude: tuple[str, ...] = ()
    """Sets to leave out."""


def folder_name(path: Path | None) -> str | None:
    """What a set that is a folder is called."""
    return None if path is None else path.resolve().name
