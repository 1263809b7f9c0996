"""What a model was trained on, as content keys beside it: enough to tell whether an item was among that.

A key is cut to its first 64 bits and the keys are sorted, 8 bytes an item: a Bloom filter would take about two,
and would accuse one item in a hundred wrongly; here, among a million training items, one in 10^13. What `lakebed
train` generates is described by the recipe in config.json, and is not listed. The record is no part of a model's
digest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from lakebed.platform.encoder.artifact import TRAINING, read_artifact
from lakebed.platform.errors import ArtifactError

KeyArray = npt.NDArray[np.uint64]

_TENSOR: Final = "content_keys"
_DIGITS: Final = 16


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """Sorted, distinct, truncated content keys of the recorded items that a model was trained on."""

    keys: KeyArray

    @classmethod
    def of(cls, content_keys: Iterable[str]) -> "TrainingRecord":
        """Take content keys (`Item.content_key`) in any order."""
        return cls(np.unique(_truncated(list(content_keys))))

    def holds(self, content_keys: Sequence[str]) -> npt.NDArray[np.bool_]:
        """True for each item that was trained on."""
        asked = _truncated(content_keys)
        if not len(self.keys):
            return np.zeros(len(asked), np.bool_)
        places = np.minimum(np.searchsorted(self.keys, asked), len(self.keys) - 1)
        return np.asarray(self.keys[places] == asked)

    def __len__(self) -> int:
        return len(self.keys)


def record_training(folder: Path, record: TrainingRecord) -> None:
    """Keep the record beside a model; the model stays the same."""
    (folder / TRAINING).write_bytes(save({_TENSOR: record.keys}))


def trained_on(folder: Path) -> TrainingRecord | None:
    """The record beside a model; an empty one where a recipe says that all was generated; None where nobody says.

    Raises ArtifactError for a record that cannot be read.
    """
    if (folder / TRAINING).is_file():
        try:
            keys = load_file(folder / TRAINING)[_TENSOR]
        except (SafetensorError, KeyError) as error:
            raise ArtifactError(f"{folder / TRAINING}: not a record of training items: {error}") from None
        return TrainingRecord(np.unique(keys.astype(np.uint64)))
    return TrainingRecord.of(()) if "recipe" in read_artifact(folder).config else None


def _truncated(content_keys: Sequence[str]) -> KeyArray:
    return np.array([int(key[:_DIGITS], 16) for key in content_keys], np.uint64)
