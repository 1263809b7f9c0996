"""An encoder as a model of mteb: `mteb.evaluate(MtebEncoder("lakebed-embed"), tasks)`.

Satisfies mteb's `EncoderProtocol`. mteb knows no time series; a task that labels them `audio` reaches the signal
tower. Needs the extra `lakebed[mteb]`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction

from lakebed.platform.encoder.library import Encoder
from lakebed.platform.encoder.load import DEFAULT_MODEL, Device
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.errors import ConfigError


class MtebEncoder(AbsEncoder):
    """A loaded model for `mteb.evaluate`; its results are kept under its name and digest."""

    def __init__(
        self,
        model_name: str | Encoder = DEFAULT_MODEL,
        revision: str | None = None,
        *,
        device: Device | None = None,
        dimensions: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.model = (
            Encoder.load(_reference(model_name, revision), device=device or "auto")
            if isinstance(model_name, str)
            else model_name
        )
        self.dimensions = dimensions
        self.mteb_model_meta = _meta(self.model, dimensions)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        prompt_type: Any = None,
        show_progress_bar: bool = False,
        **kwargs: Any,
    ) -> VectorArray:
        """Embed batches of mteb's columns `text` and `audio`: (n, dimensions) float32.

        A blank text, as some of mteb's corpora hold, gives a zero vector: it is similar to nothing.
        """
        blank: list[bool] = []
        encoded = self.model.encode_with_counts(
            _items(inputs, blank), dimensions=self.dimensions, progress=show_progress_bar
        )
        vectors = np.zeros((len(blank), encoded.vectors.shape[1]), np.float32)
        vectors[~np.array(blank, bool)] = encoded.vectors
        return vectors


def _reference(name: str, revision: str | None) -> str:
    return f"{name}@{revision}" if revision and "@" not in name else name


def _items(batches: Iterable[Mapping[str, Any]], blank: list[bool]) -> Iterator[dict[str, Any]]:
    """Yield an item per row that holds something; `blank` gets an entry for every row."""
    for batch in batches:
        columns = {name: batch[name] for name in ("text", "audio") if name in batch}
        if not columns:
            raise ConfigError(f"mteb gives {', '.join(batch)}; lakebed embeds text, and series under `audio`")
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            item = {"text": row["text"]} if str(row.get("text") or "").strip() else {}
            item |= _series(row["audio"]) if row.get("audio") is not None else {}
            blank.append(not item)
            if item:
                yield item


def _series(audio: Any) -> dict[str, Any]:
    """Return the fields of a recording: mteb's audio is an array, or that with its rate."""
    if isinstance(audio, Mapping):
        return {"time_series": audio["array"], "sampling_rate": audio.get("sampling_rate")}
    return {"time_series": audio}


def _meta(encoder: Encoder, dimensions: int | None) -> ModelMeta:
    info = encoder.info
    name = info.name.rpartition("/")[2].replace(":", "-")
    known: dict[str, Any] = {
        "name": f"lakebed/{name}",
        "revision": info.digest[:12],
        "max_tokens": info.max_tokens,
        "embed_dim": dimensions or info.dimensions,
        "modalities": ["text", "audio"],
        "framework": ["PyTorch"],
        "similarity_fn_name": ScoringFunction.COSINE,
        "use_instructions": False,
        "experiment_kwargs": {"dimensions": dimensions} if dimensions else None,
    }
    return ModelMeta.create_empty(overwrites=known)
