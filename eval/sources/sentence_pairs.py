"""Sentence pairs with a similarity that people gave, in the form of the STS benchmark.

Its files are named .csv but are tab-separated without quoting: genre, file, year, number, score from 0 to 5, two
sentences, and in some rows two more fields that name where the sentences come from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.sources.protocol import given_folder
from lakebed.platform.config.entries.sts import Sts
from lakebed.platform.errors import DatasetNotFoundError, InvalidItemError
from lakebed.platform.items import Item

_SCORE: Final = 4
_FIELDS: Final = 7
_FORM: Final = "tab-separated: genre, file, year, number, score, sentence, sentence"

Row = tuple[str, Item, Item]
"""Gold score as written, and the two sentences."""


@dataclass(frozen=True)
class SentencePairs:
    """One split of the benchmark: parts `first` and `second`, labelled with the gold score."""

    entry: Sts

    def names(self) -> list[str]:
        """The folder's name; raises DatasetNotFoundError when the file is not in it."""
        return [self._file().parent.name]

    def missing(self) -> list[str]:
        """It is one file."""
        return []

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Read the file; raises DatasetNotFoundError naming the line that is not of its form."""
        path = self._file()
        rows = _rows(path)[:limit]
        gold = np.array([score for score, _, _ in rows])
        parts = {
            "first": Part([first for _, first, _ in rows], gold),
            "second": Part([second for _, _, second in rows], gold),
        }
        yield Dataset(path.parent.name, self.entry.split, path.as_uri(), parts)

    def _file(self) -> Path:
        name = f"sts-{self.entry.split}.csv"
        path = given_folder(self.entry.path, f"the STS benchmark, a folder with {name}") / name
        if not path.is_file():
            raise DatasetNotFoundError(
                f"{path.parent}: no {name} here", hint=f"expected the STS benchmark; the file is {_FORM}"
            )
        return path


def _rows(path: Path) -> list[Row]:
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetNotFoundError(f"{path}: cannot be read: {error}") from None
    return [_row(line.removesuffix("\r"), f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def _row(line: str, where: str) -> Row:
    fields = line.split("\t")
    if len(fields) < _FIELDS:
        raise DatasetNotFoundError(f"{where}: {len(fields)} fields", hint=f"expected {_FORM}")
    score, first, second = fields[_SCORE:_FIELDS]
    try:
        if not np.isfinite(float(score)):
            raise ValueError(f"score {score!r} is not finite")
        return score, Item.of(text=first), Item.of(text=second)
    except (ValueError, InvalidItemError) as error:
        raise DatasetNotFoundError(f"{where}: {error}", hint=f"expected {_FORM}") from None
