"""An encoder of your own, by import path, wherever a model is named; `docs/library.md` says what each part does.

    PYTHONPATH=. lakebed embed job.yaml --model examples.encoder_of_your_own:LetterCounts
    Encoder.load("examples.encoder_of_your_own:LetterCounts").encode(["a text"])

This one counts letters, which needs no weights; a real one would load its weights in `__init__` and use a device
in `forward`.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from lakebed.platform.encoder.prepared import Prepared, Ragged, VectorArray
from lakebed.platform.encoder.protocol import EncoderInfo, truncate
from lakebed.platform.errors import InvalidItemError
from lakebed.platform.items import Item


class LetterCounts:
    """A text's vector is how often it has each letter, at unit length."""

    def __init__(self) -> None:
        digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()  # other code, other vectors
        self.info = EncoderInfo("letter-counts", digest, dimensions=len(ascii_lowercase), max_tokens=10_000)

    def prepare(self, items: Sequence[Item]) -> Prepared:
        """Texts to letter numbers; a cost per item lets batches be cut to size."""
        if any(item.series is not None for item in items):
            raise InvalidItemError("letter-counts embeds texts only, not series", code="no_series")
        numbers = [np.array([ascii_lowercase.find(sign) for sign in str(item.text).lower()]) for item in items]
        letters = [row[row >= 0] for row in numbers]
        kept = Ragged.of([row[: self.info.max_tokens] for row in letters], np.int64)
        cut = np.array([len(row) for row in letters], np.int64) - kept.lengths
        return Prepared({"letters": kept}, np.maximum(1, kept.lengths), kept.lengths, cut, np.zeros_like(cut))

    def forward(self, work: Prepared) -> VectorArray:
        """One batch, each vector from its own item alone."""
        letters = work.columns["letters"]
        counts = [np.bincount(letters.row(row), minlength=self.info.dimensions) + 1e-3 for row in range(len(work))]
        return np.array([row / np.linalg.norm(row) for row in counts], np.float32)

    def finish(self, vectors: VectorArray, dimensions: int | None = None) -> VectorArray:
        """Cut to length."""
        return truncate(vectors, dimensions)
