"""Vectors on disk, one immutable file per model and chunk, so that nothing is encoded twice.

A file is written beside its place and renamed into it: another process sees all of it or nothing, and so does one
that comes after a kill. It carries a checksum, so that a file which lost its end to a full disk or a power cut
counts as absent. Vectors have their full length; whoever wants short ones cuts them.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lakebed.eval.durable import mark_as_used, write_durably
from lakebed.platform.encoder.prepared import VectorArray

_VECTORS: Final = "vectors"
_CHECKSUM: Final = "crc32"


@dataclass(frozen=True)
class VectorFiles:
    """Vectors under a folder, in one folder per model."""

    folder: Path

    def find(self, model: str, chunk: str) -> VectorArray | None:
        """Vectors (n, dimensions) float32 of a chunk by a model, both named by their keys; None without them."""
        try:
            with safe_open(self._path(model, chunk), framework="np") as file:
                vectors: VectorArray = file.get_tensor(_VECTORS)
                checksum = (file.metadata() or {}).get(_CHECKSUM)
        except (OSError, SafetensorError):
            return None
        if checksum != _checksum(vectors):
            return None
        mark_as_used(self._path(model, chunk))
        return vectors

    def store(self, model: str, chunk: str, vectors: VectorArray) -> None:
        """Keep vectors; raises ConfigError when the folder cannot be written to."""
        data = save({_VECTORS: vectors}, {_CHECKSUM: _checksum(vectors)})
        write_durably(self._path(model, chunk), data)

    def _path(self, model: str, chunk: str) -> Path:
        return self.folder / model / f"{chunk}.safetensors"


def _checksum(vectors: VectorArray) -> str:
    return f"{zlib.crc32(vectors.data):08x}"
