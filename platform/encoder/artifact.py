"""A model as a directory: config.json, model.safetensors, MODEL_CARD.md; its digest is over the first two.

Beside them may lie canaries.safetensors: vectors of a few items, as they were where the model was made; and
training.safetensors: content keys of what it was trained on (`training_record.py`).

What a model is decides its digest, a sha256; what is said of it does not, so that measured figures can be added
to a card. No pickle, ever. Does not know what configuration or tensors mean. `config.json` is written last,
by rename, so a directory that has one is complete.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.errors import ArtifactError

CONFIG: Final = "config.json"
TENSORS: Final = "model.safetensors"
CARD: Final = "MODEL_CARD.md"
CANARIES: Final = "canaries.safetensors"
TRAINING: Final = "training.safetensors"
FORMAT: Final = "lakebed-encoder-1"

Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Artifact:
    """A model directory that was read and found whole."""

    path: Path
    config: Mapping[str, Any]
    digest: str

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Load every tensor."""
        try:
            loaded: dict[str, npt.NDArray[Any]] = load_file(self.path / TENSORS)
        except SafetensorError as error:
            raise ArtifactError(f"{self.path / TENSORS}: not a safetensors file: {error}") from None
        return loaded


def read_artifact(path: Path, *, expect_digest: str | None = None) -> Artifact:
    """Check that a directory holds a whole model; raises ArtifactError when not, or when its digest differs."""
    missing = [name for name in (CONFIG, TENSORS, CARD) if not (path / name).is_file()]
    if missing:
        raise ArtifactError(
            f"{path}: no model here: {', '.join(missing)} missing", hint="make one with `lakebed train`"
        )
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path / CONFIG}: not valid JSON: {error}") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ArtifactError(
            f"{path / CONFIG}: not a model of format {FORMAT}",
            hint="was it made by another version of lakebed?",
        )
    digest = digest_of(path)
    if expect_digest is not None and digest != expect_digest:
        raise ArtifactError(
            f"{path}: digest is {digest[:12]}, expected {expect_digest[:12]}: the files were changed"
        )
    return Artifact(path, config, digest)


def write_artifact(path: Path, config: Mapping[str, Any], tensors: Tensors, card: str) -> Artifact:
    """Write a model directory; until the last step it does not load. Raises ArtifactError if one is there."""
    if (path / CONFIG).exists():
        raise ArtifactError(f"{path}: a model is there already", hint="choose another folder, or remove it first")
    path.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in sorted(tensors.items())}
    (path / TENSORS).write_bytes(save(contiguous))
    (path / CARD).write_text(card, encoding="utf-8")
    text = json.dumps({"format": FORMAT, **config}, indent=2, sort_keys=True) + "\n"
    partial = path / f"{CONFIG}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.rename(path / CONFIG)
    return read_artifact(path)


def record_vectors(path: Path, vectors: Mapping[str, VectorArray]) -> None:
    """Keep vectors of full length, by content key, beside a model; the model stays the same."""
    (path / CANARIES).write_bytes(save({key: np.ascontiguousarray(vector) for key, vector in vectors.items()}))


def recorded_vectors(path: Path) -> dict[str, VectorArray]:
    """Return the vectors that were kept beside a model, by content key; none for a model without."""
    if not (path / CANARIES).is_file():
        return {}
    try:
        loaded: dict[str, VectorArray] = load_file(path / CANARIES)
    except SafetensorError as error:
        raise ArtifactError(f"{path / CANARIES}: not a safetensors file: {error}") from None
    return loaded


def files_of(path: Path) -> list[str]:
    """Names of the files that make up a model that was found whole; the one that completes it is the last."""
    return [name for name in (CARD, CANARIES, TRAINING, TENSORS, CONFIG) if (path / name).is_file()]


def digest_of(path: Path) -> str:
    """Sha256 over name, size and bytes of what makes the vectors, as 64 hex digits; the card is not of it."""
    digest = hashlib.sha256()
    for name in (CONFIG, TENSORS):
        data = (path / name).read_bytes()
        digest.update(f"{name} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()
