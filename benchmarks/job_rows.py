"""What the job benchmarks embed: real texts and recordings of any number, and tables of them on disk.

Texts are real questions to a bank where that data set lies in ../shared/data, else paragraphs of Python's own
documentation; signals are real motion recordings that come with aeon.
"""

import csv
from collections.abc import Sequence
from functools import cache
from itertools import cycle, islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake

BANK = Path(__file__).parents[2] / "shared" / "data" / "text_banking77" / "train.csv"
FILE_ROWS = 250_000


def texts(rows: int, start: int = 0) -> list[str]:
    """Return real texts, repeated with a number, from `start`, so that no two are equal."""
    found = _real_texts()
    chosen = islice(cycle(found), start % len(found), start % len(found) + rows)
    return [f"{text} {number}" for number, text in enumerate(chosen, start)]


@cache
def _real_texts() -> Sequence[str]:
    if BANK.is_file():
        print(f"texts: {BANK}")
        with BANK.open(encoding="utf-8") as file:
            return [row["text"].strip() for row in csv.DictReader(file)]
    from pydoc_data.topics import topics

    print(f"texts: Python's documentation, as there is no {BANK}")
    return [part.strip() for topic in topics.values() for part in topic.split("\n\n") if part.strip()]


def signals(rows: int) -> list[list[list[float]]]:
    """Return real recordings of 6 channels, shifted in time so that no two are equal."""
    from aeon.datasets import load_basic_motions

    recordings, _ = load_basic_motions(split=None)
    return [
        np.roll(recordings[row % len(recordings)], row // len(recordings), axis=1).tolist() for row in range(rows)
    ]


def write_texts(table: Path, rows: int, file_rows: int = FILE_ROWS) -> None:
    """Write a Delta table of texts in files of `file_rows` rows, with one of them in memory at a time."""
    for start in range(0, rows, file_rows):
        write_deltalake(table, _text_table(start, min(file_rows, rows - start)), mode="append")


def write_text_files(folder: Path, rows: int, files: int) -> None:
    """Write a folder of Parquet files of texts, of equal size."""
    folder.mkdir()
    bounds = [rows * file // files for file in range(files + 1)]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        pq.write_table(_text_table(start, stop - start), folder / f"{number:04}.parquet")


def _text_table(start: int, rows: int) -> pa.Table:
    return pa.table({"id": np.arange(start, start + rows), "value": texts(rows, start)})
