"""Labelled sets, each a folder: UCR and UEA problems (NAME_TRAIN.ts and NAME_TEST.ts), aeon's or a user's; and
texts.

A set with classes and one with numbers to be predicted look the same but for a line in the header, `@classLabel`
or `@targetLabel`, so an entry reads those of its kind only. Texts always have classes.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.series_files import SplitName, predicts_numbers, read_split
from lakebed.eval.sources.labelled_text import is_text_set, read_text_set
from lakebed.eval.sources.protocol import given_folder
from lakebed.platform.config.entries.labelled import Labelled
from lakebed.platform.errors import DatasetNotFoundError
from lakebed.platform.items import Item

_SPLITS: Final[Mapping[str, SplitName]] = {"train": "TRAIN", "test": "TEST"}
_EXPECTED: Final = "data sets such as GunPoint/GunPoint_TRAIN.ts, or of texts: NAME/train.csv and NAME/test.csv"


@dataclass(frozen=True)
class Archive:
    """The sets of an entry, train and test part."""

    entry: Labelled

    def names(self) -> list[str]:
        """Sets to read; one that is asked for or excluded by name must exist, so a typing error is not silent."""
        folder, _ = self._place()
        have = sorted(self._sets(folder))
        for name in (*self.entry.names, *self.entry.exclude):
            if name not in have:
                here = ", ".join(have) or "none"
                raise DatasetNotFoundError(
                    f"{folder}: no data set {name!r} for {self.entry.task}",
                    hint=f"a set is a folder with NAME_TRAIN.ts and NAME_TEST.ts; here: {here}",
                )
        chosen = [name for name in self.entry.names or have if name not in self.entry.exclude]
        if not chosen:
            raise DatasetNotFoundError(
                f"{folder}: no data sets here for {self.entry.task}", hint=f"expected {_EXPECTED}"
            )
        return chosen

    def missing(self) -> list[str]:
        """A folder is taken as it is."""
        return []

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Read the sets; raises DatasetNotFoundError for one that cannot be read."""
        folder, version_of = self._place()
        sets = self._sets(folder)
        for name in self.names():
            read = read_text_set if is_text_set(sets[name]) else _labelled
            data = read(sets[name], version_of)
            yield data.limited(limit) if limit else data

    def _sets(self, folder: Path) -> dict[str, Path]:
        """Folders of sets of the entry's kind by name: the given one, or those in it."""
        numbers = self.entry.task == "regression"
        found = [path for path in (folder, *folder.iterdir()) if _is_set(path, numbers)]
        return {path.name: path for path in found}

    def _place(self) -> tuple[Path, str]:
        if self.entry.source == "bundled":
            spec = importlib.util.find_spec("aeon")
            assert spec is not None  # a dependency of lakebed
            assert spec.submodule_search_locations
            return Path(spec.submodule_search_locations[0]) / "datasets" / "data", f"aeon-{version('aeon')}"
        folder = given_folder(self.entry.path, _EXPECTED)
        return folder, folder.name


def _is_set(folder: Path, numbers: bool) -> bool:
    train = folder / f"{folder.name}_TRAIN.ts"
    if train.is_file():
        return predicts_numbers(train) == numbers
    return not numbers and is_text_set(folder)


def _labelled(folder: Path, version_of: str) -> Dataset:
    parts, filled = {}, 0
    for part, split in _SPLITS.items():
        series, labels, missing = read_split(folder, split)
        parts[part] = Part([Item.of(series=values) for values in series], np.asarray(labels, dtype=np.str_))
        filled += missing
    return Dataset(folder.name, version_of, folder.as_uri(), parts, filled)
