"""Series with captions that people wrote, in the form of TRUCE (Jhamtani, Berg-Kirkpatrick; arXiv 2110.01839).

One JSON file per split, here the one whose name ends in test.json: name -> {"annotations": [texts], "series":
[numbers]}. People repeat each other, so a caption is right for every series that somebody wrote it for.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.relevance import mark, marks
from lakebed.eval.sources.protocol import given_folder
from lakebed.platform.config.entries.cross_modal import CrossModal
from lakebed.platform.errors import DatasetNotFoundError, InvalidItemError
from lakebed.platform.items import Item

_FORM: Final = 'one file *test.json: {"name": {"annotations": ["text", ...], "series": [numbers]}, ...}'


@dataclass(frozen=True)
class HumanCaptions:
    """The test split: part `text` has every caption, repeated ones too, part `signal` every series."""

    entry: CrossModal

    def names(self) -> list[str]:
        """The folder's name; raises DatasetNotFoundError when no such file is in it."""
        return [self._file().parent.name]

    def missing(self) -> list[str]:
        """It is one file."""
        return []

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Read the file, at most `limit` series; raises DatasetNotFoundError naming what is not of its form."""
        path = self._file()
        read = [_captioned(value, f"{path}, {name!r}") for name, value in islice(_entries(path).items(), limit)]
        texts = [text for captions, _ in read for text in captions]
        parts = {
            "text": Part(texts, np.array([mark(str(text.text)) for text in texts])),
            "signal": Part(
                [series for _, series in read],
                np.array([marks(str(text.text) for text in captions) for captions, _ in read]),
            ),
        }
        yield Dataset(path.parent.name, path.name, path.as_uri(), parts)

    def _file(self) -> Path:
        folder = given_folder(self.entry.path, f"captioned series, {_FORM}")
        found = sorted(folder.glob("*test.json"))
        if len(found) != 1:
            have = ", ".join(path.name for path in found) or "none"
            raise DatasetNotFoundError(
                f"{folder}: no captioned series here", hint=f"expected {_FORM}; found {have}"
            )
        return found[0]


def _entries(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetNotFoundError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict) or not content:
        raise DatasetNotFoundError(f"{path}: holds no captioned series", hint=f"expected {_FORM}")
    return content


def _captioned(value: Any, where: str) -> tuple[list[Item], Item]:
    try:
        captions = [Item.of(text=text) for text in value["annotations"]]
        series = Item.of(series=value["series"])
    except (KeyError, TypeError, InvalidItemError) as error:
        raise DatasetNotFoundError(f"{where}: {error}", hint=f"expected {_FORM}") from None
    if not captions:
        raise DatasetNotFoundError(f"{where}: no captions", hint=f"expected {_FORM}")
    return captions, series
