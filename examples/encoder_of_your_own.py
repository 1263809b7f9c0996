"""An encoder of your own, by import path.

    PYTHONPATH=. lakebed embed job.yaml --model examples.encoder_of_your_own:LetterCounts

Three calls make an encoder. This one counts letters, which needs no weights; a real one would load its weights in
`__init__` and use a device in `forward`.
"""

import hashlib
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lakebed.platform.encoder.prepared import Prepared, Ragged, VectorArray
from lakebed.platform.encoder.protocol import EncoderInfo, truncate
from lakebed.platform.items import Item


class LetterCounts:
    """A text's vector is how often it has each letter, at unit length."""

    def __init__(self) -> None:
        digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()  # other code, other vectors
        self.info = EncoderInfo("letter-counts", digest, dimensions=len(string.ascii_lowercase), max_tokens=10_000)

    def prepare(self, items: Sequence[Item]) -> Prepared:
        """Texts to letter numbers; a cost per item lets batches be cut to size."""
        texts = [(item.text or "").lower() for item in items]
        rows = [np.array([string.ascii_lowercase.find(letter) for letter in text], np.int64) for text in texts]
        letters = Ragged.of([row[row >= 0] for row in rows], np.int64)
        nothing = np.zeros(len(items), np.int64)
        return Prepared({"letters": letters}, np.maximum(1, letters.lengths), letters.lengths, nothing, nothing)

    def forward(self, work: Prepared) -> VectorArray:
        """One batch, each vector from its own item alone."""
        letters = work.columns["letters"]
        counts = [np.bincount(letters.row(row), minlength=self.info.dimensions) + 1e-3 for row in range(len(work))]
        vectors = np.array(counts, np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def finish(self, vectors: VectorArray, dimensions: int | None = None) -> VectorArray:
        """Cut to length."""
        return truncate(vectors, dimensions)
