"""A lakehouse table to try things on: real sensor recordings that the installed `aeon` bundles, with words.

The words for the classes are those of the data sets' own headers. Two rows are damaged on purpose, as rows of real
tables are, so that a quarantine has something to show.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from lakebed.eval.datasets import Dataset
from lakebed.eval.sources.archive import Archive
from lakebed.platform.config.entries.classification import Classification
from lakebed.platform.lake.storage import delta_options, store_errors

ROWS_PER_SET: Final = 60

SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("recording", pa.string()),
        pa.field("label", pa.string()),
        pa.field("note", pa.string()),
        pa.field("series", pa.list_(pa.list_(pa.float64()))),
    ]
)
"""`note` is what a person might write beside a recording; `series` is channels x samples."""


@dataclass(frozen=True)
class Words:
    """What a data set records, and what its class labels mean."""

    setting: str
    classes: Mapping[str, str]


WORDS: Final[Mapping[str, Words]] = {
    "BasicMotions": Words(
        "smart watch, accelerometer and gyroscope",
        {
            "standing": "standing still",
            "running": "running",
            "walking": "walking",
            "badminton": "playing badminton",
        },
    ),
    "GunPoint": Words("position of a hand", {"1": "drawing a gun and aiming it", "2": "pointing a finger"}),
    "PickupGestureWiimoteZ": Words(
        "game controller in the hand, acceleration",
        {
            "1": "picking up",
            "2": "shaking",
            "3": "moving to the right",
            "4": "moving to the left",
            "5": "moving up",
            "6": "moving down",
            "7": "circling left",
            "8": "circling right",
            "9": "moving towards the screen",
            "10": "moving away from the screen",
        },
    ),
    "ACSF1": Words(
        "power meter of a home appliance",
        {
            str(number): name
            for number, name in enumerate(
                (
                    "mobile phone charger",
                    "coffee machine",
                    "desktop computer",
                    "fridge or freezer",
                    "CD player",
                    "energy-saving lamp",
                    "laptop charger",
                    "microwave oven",
                    "printer",
                    "television",
                )
            )
        },
    ),
    "JapaneseVowels": Words(
        "microphone, cepstrum of a Japanese vowel",
        {str(number): f"spoken by male speaker {number}" for number in range(1, 10)},
    ),
}


def sample_table() -> pa.Table:
    """The recordings as a table of `SCHEMA`, in a fixed order."""
    rows: list[dict[str, Any]] = []
    for data in _bundled(*WORDS):
        rows += _rows(data.limited(ROWS_PER_SET))
    return pa.Table.from_pylist([*rows, *_damaged(rows[0])], schema=SCHEMA)


def write_sample_table(uri: str) -> int:
    """Write the table as a new version of a Delta table, replacing what it held; returns its number of rows.

    Raises UnreachableError or TableError when the place cannot be written.
    """
    table = sample_table()
    with store_errors(uri):
        write_deltalake(uri, table, mode="overwrite", storage_options=delta_options(uri))
    return len(table)


def unseen_recording() -> tuple[str, list[list[float]]]:
    """A recording that the table does not hold, of its first data set: what it shows, and channels x samples."""
    name, words = next(iter(WORDS.items()))
    data = next(_bundled(name))
    item, label = data.parts["test"].items[-1], str(data.parts["test"].labels[-1])
    assert item.series is not None
    return words.classes[label], item.series.tolist()


def _bundled(*names: str) -> Iterator[Dataset]:
    return Archive(Classification(task="classification", source="bundled", names=names)).load()


def _rows(data: Dataset) -> list[dict[str, Any]]:
    words, part = WORDS[data.name], data.parts["train"]
    return [
        {
            "id": f"{data.name}-{position:03d}",
            "recording": data.name,
            "label": words.classes[label],
            "note": f"{words.setting}: {words.classes[label]}",
            "series": list(item.series if item.series is not None else ()),
        }
        for position, (item, label) in enumerate(zip(part.items, map(str, part.labels), strict=True))
    ]


def _damaged(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One recording that lost samples, and one whose channels differ in length."""
    gap = [np.array(channel) for channel in row["series"]]
    gap[0][10:20] = np.nan
    torn = [gap[1], gap[2][:50]]
    return [{**row, "id": "damaged-gap", "series": gap}, {**row, "id": "damaged-torn", "series": torn}]
