"""Pairs with a label, 1 for those that belong together: SPLIT.jsonl, SPLIT.tsv, or sentence pairs with a score.

A line of JSON, or of tab-separated values below a header, has `first`, `second` and `label`; `sentence1`,
`sentence2` and `labels` are understood too. In JSON a member may be a text or a series of channels x samples.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.sources.protocol import given_folder
from lakebed.eval.sources.sentence_pairs import SentencePairs
from lakebed.eval.tasks.pair_classification import APART, TOGETHER
from lakebed.platform.config.entries.pair_classification import PairClassification
from lakebed.platform.config.entries.sts import Sts
from lakebed.platform.errors import DatasetNotFoundError, InvalidItemError
from lakebed.platform.items import Item, item_of

_FORM: Final = "lines with `first`, `second` and a `label` of 0 or 1"
_SPELLINGS: Final = (("first", "sentence1"), ("second", "sentence2"), ("label", "labels"))

Row = tuple[Item, Item, str]


@dataclass(frozen=True)
class LabelledPairs:
    """One file: parts `first` and `second`, labelled "0" or "1"."""

    entry: PairClassification

    def names(self) -> list[str]:
        """The folder's name; raises DatasetNotFoundError when no file of pairs is in it."""
        return [self._file().parent.name]

    def missing(self) -> list[str]:
        """It is one file."""
        return []

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Read the file; raises DatasetNotFoundError naming the line that is not of its form."""
        path = self._file()
        if path.name.startswith("sts-"):
            yield from (self._by_threshold(data) for data in self._scored().load(limit))
            return
        read = _json_lines if path.suffix == ".jsonl" else _tab_separated
        rows = [_row(fields, where) for where, fields in read(path)][:limit]
        if not rows:
            raise DatasetNotFoundError(f"{path}: holds no pairs", hint=f"expected {_FORM}")
        labels = np.array([label for _, _, label in rows])
        first, second = Part([row[0] for row in rows], labels), Part([row[1] for row in rows], labels)
        yield Dataset(path.parent.name, self.entry.split, path.as_uri(), {"first": first, "second": second})

    def _file(self) -> Path:
        names = [f"{self.entry.split}.jsonl", f"{self.entry.split}.tsv", f"sts-{self.entry.split}.csv"]
        expected = f"pairs, a folder with {', '.join(names[:2])} ({_FORM}) or {names[2]}"
        folder = given_folder(self.entry.path, expected)
        found = next((folder / name for name in names if (folder / name).is_file()), None)
        if found is None:
            raise DatasetNotFoundError(f"{folder}: no pairs here", hint=f"expected {expected}")
        return found

    def _scored(self) -> SentencePairs:
        return SentencePairs(Sts(task="sts", path=self.entry.path, split=self.entry.split))

    def _by_threshold(self, data: Dataset) -> Dataset:
        """Gold scores as labels: 1 from the threshold on."""
        parts = {}
        for name, part in data.parts.items():
            together = part.labels.astype(np.float64) >= self.entry.threshold
            parts[name] = Part(part.items, np.where(together, TOGETHER, APART))
        return Dataset(data.name, f"{data.version}, from {self.entry.threshold:g}", data.source, parts)


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    for where, line in _lines(path):
        try:
            yield where, json.loads(line)
        except ValueError as error:
            raise DatasetNotFoundError(f"{where}: {error}", hint=f"expected {_FORM}") from None


def _tab_separated(path: Path) -> Iterator[tuple[str, Any]]:
    lines = _lines(path)
    header = next(lines, ("", ""))[1].split("\t")
    for where, line in lines:
        fields = line.split("\t")
        if len(fields) != len(header):
            raise DatasetNotFoundError(f"{where}: {len(fields)} fields, the header has {len(header)}")
        yield where, dict(zip(header, fields, strict=True))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetNotFoundError(f"{path}: cannot be read: {error}") from None
    numbered = ((f"{path}, line {number}", line.rstrip("\r")) for number, line in enumerate(lines, start=1))
    return ((where, line) for where, line in numbered if line.strip())


def _row(fields: Any, where: str) -> Row:
    try:
        first, second, label = (_member(fields, names) for names in _SPELLINGS)
        return item_of(first), item_of(second), _label(label)
    except (KeyError, ValueError, TypeError, InvalidItemError) as error:
        raise DatasetNotFoundError(f"{where}: {_said(error)}", hint=f"expected {_FORM}") from None


def _member(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    if not isinstance(fields, Mapping):
        raise TypeError("no object")
    found = [fields[name] for name in names if name in fields]
    if not found:
        raise KeyError(names[0])
    return found[0]


def _label(value: Any) -> str:
    label = str(int(value) if value in (0, 1) else value).strip()
    if label not in (TOGETHER, APART):
        raise ValueError(f"label {value!r} is neither 0 nor 1")
    return label


def _said(error: Exception) -> str:
    return f"no field {error}" if isinstance(error, KeyError) else str(error)
