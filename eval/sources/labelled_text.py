"""Texts with classes: train.csv and test.csv with a header, or the two files of the TREC question collection.

Of TREC questions (Li and Roth 2002) the coarse class is read, which stands before the colon; files are Latin-1.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from lakebed.eval.datasets import Dataset, Part
from lakebed.platform.errors import DatasetNotFoundError, InvalidItemError
from lakebed.platform.items import Item

_CSV: Final = {"train": "train.csv", "test": "test.csv"}
_TREC: Final = {"train": "train_5500.label", "test": "TREC_10.label"}
_LABELS: Final = ("category", "label")
_FORM: Final = "a header with `text` and `category` (or `label`), then a text and its class a line"

Row = tuple[int, str, str]
"""Line number, text, label."""


def is_text_set(folder: Path) -> bool:
    """Whether both files of one of the forms lie in the folder."""
    return any(_lies_in(folder, files) for files in (_CSV, _TREC))


def read_text_set(folder: Path, version_of: str) -> Dataset:
    """Parts `train` and `test`; raises DatasetNotFoundError naming the file and line that is not of the form."""
    files, rows_of = (_CSV, _csv_rows) if _lies_in(folder, _CSV) else (_TREC, _trec_rows)
    parts = {part: _part(folder / name, list(rows_of(folder / name))) for part, name in files.items()}
    return Dataset(folder.name, version_of, folder.as_uri(), parts)


def _lies_in(folder: Path, files: Mapping[str, str]) -> bool:
    return all((folder / name).is_file() for name in files.values())


def _part(path: Path, rows: list[Row]) -> Part:
    if not rows:
        raise DatasetNotFoundError(f"{path}: holds no texts", hint=f"expected {_FORM}")
    items = []
    for line, text, label in rows:
        try:
            items.append(Item.of(text=text))
        except InvalidItemError as error:
            raise DatasetNotFoundError(f"{path}, line {line}: {error.message}") from None
        if not label:
            raise DatasetNotFoundError(f"{path}, line {line}: the label is empty", hint=f"expected {_FORM}")
    return Part(items, np.array([label for _, _, label in rows], dtype=np.str_))


def _csv_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            label = next((name for name in _LABELS if name in columns), None)
            if "text" not in columns or label is None:
                raise DatasetNotFoundError(f"{path}: has columns {', '.join(columns)}", hint=f"expected {_FORM}")
            for row in reader:
                yield reader.line_num, row["text"] or "", row[label] or ""
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetNotFoundError(f"{path}: cannot be read: {error}") from None


def _trec_rows(path: Path) -> Iterator[Row]:
    try:
        lines = path.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise DatasetNotFoundError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        classes, _, question = line.partition(" ")
        coarse, colon, _ = classes.partition(":")
        if not colon:
            raise DatasetNotFoundError(f"{path}, line {number}: no class", hint="expected COARSE:fine question")
        yield number, question, coarse
