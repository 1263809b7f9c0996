"""`lakebed-embed`: the encoder of text and multi-channel time series in one space, as prepare, forward, finish.

Joins the text tower, the signal tower and the layout; reads them from an artifact directory. `config.json` names
the text weights with their sha256, so the artifact's digest covers them too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from lakebed.platform.encoder.artifact import Artifact, read_artifact
from lakebed.platform.encoder.layout import Layout, add_and_normalise
from lakebed.platform.encoder.load import Device
from lakebed.platform.encoder.prepared import Prepared, Ragged, VectorArray
from lakebed.platform.encoder.protocol import EncoderInfo, truncate
from lakebed.platform.encoder.signal_tower import SignalTower, SignalWeights, prepare_channels
from lakebed.platform.encoder.text_tower import TextSpec, TextTower
from lakebed.platform.errors import ArtifactError, ConfigError
from lakebed.platform.items import Item

CHANNEL_COST = 8
"""A channel's share of a batch budget, in text tokens: a rough guess at what takes as long on a CPU."""


class MultiModalEncoder:
    """Text, signals, or both, to unit vectors. Satisfies the `Encoder` protocol."""

    def __init__(self, info: EncoderInfo, text: TextTower, signal: SignalTower, layout: Layout) -> None:
        self._info = info
        self.text = text
        self.signal = signal
        self.layout = layout
        self.device = text.device

    @classmethod
    def load(
        cls, folder: Path, *, name: str | None = None, device: Device = "auto", expect_digest: str | None = None
    ) -> Self:
        """Read a model directory; raises ArtifactError when it is not whole or not of this kind."""
        artifact = read_artifact(folder, expect_digest=expect_digest)
        place = choose_device(device)
        spec, layout = _configuration(artifact)
        try:
            weights = SignalWeights.of(artifact.tensors())
        except KeyError as error:
            raise ArtifactError(f"{folder}: tensor {error} is missing") from None
        text = TextTower(spec, place, fast_dtype(place))
        info = EncoderInfo(
            name or str(artifact.config["name"]), artifact.digest, layout.dimensions, spec.max_tokens
        )
        return cls(info, text, SignalTower(weights, place), layout)

    @property
    def info(self) -> EncoderInfo:
        """Name, digest and sizes."""
        return self._info

    def prepare(self, items: Sequence[Item]) -> Prepared:
        """Tokenize texts; normalise and resample channels. Thread-safe."""
        texts = [item.text for item in items]
        rows, cut = self.text.tokenize([text for text in texts if text is not None])
        has_text = np.array([text is not None for text in texts], bool)
        truncated = np.zeros(len(items), np.int64)
        truncated[has_text] = cut
        given = iter(rows)
        tokens = Ragged.of([next(given) if has else np.empty(0, np.int64) for has in has_text], np.int64)
        nothing = np.empty((0, 1))
        series = [nothing if item.series is None else item.series for item in items]
        channels, levels = prepare_channels(series)
        return Prepared(
            {"tokens": tokens, "channels": channels, "levels": levels},
            costs=tokens.lengths + CHANNEL_COST * channels.lengths,
            tokens=tokens.lengths,
            truncated=truncated,
            samples=np.array([item.samples for item in items], np.int64),
        )

    @torch.inference_mode()
    def forward(self, work: Prepared) -> VectorArray:
        """Run both towers on one batch; (n, dimensions) float32, unit length."""
        tokens, channels, levels = (work.columns[name] for name in ("tokens", "channels", "levels"))
        with_text, with_signal = tokens.lengths > 0, channels.lengths > 0
        shared = torch.zeros((len(work), self.layout.shared), device=self.device)
        detail = torch.zeros((len(work), self.layout.detail), device=self.device)
        if with_text.any():
            rows = np.flatnonzero(with_text)
            shared[torch.from_numpy(rows)] = self.text.forward(tokens.take(rows))
        if with_signal.any():
            rows = np.flatnonzero(with_signal)
            places = torch.from_numpy(rows)
            meaning, detail[places] = self.signal.forward(channels.take(rows), levels.take(rows))
            shared[places] = add_and_normalise(shared[places], meaning)
        has_signal = torch.from_numpy(with_signal).to(self.device)
        vectors: VectorArray = self.layout.join(shared, detail, has_signal).cpu().numpy()
        return vectors

    def finish(self, vectors: VectorArray, dimensions: int | None = None) -> VectorArray:
        """Truncate and renormalise."""
        return truncate(vectors, dimensions)


def configuration(spec: TextSpec, layout: Layout, name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of config.json for these parts."""
    return {
        "name": name,
        "text": {
            "source": spec.source,
            "sha256": spec.sha256,
            "max_tokens": spec.max_tokens,
            "pooling": spec.pooling,
        },
        "layout": {"pattern": list(layout.pattern), "detail_share": layout.detail_share},
        "recipe": dict(recipe),
    }


def _configuration(artifact: Artifact) -> tuple[TextSpec, Layout]:
    try:
        layout = artifact.config["layout"]
        return TextSpec(**artifact.config["text"]), Layout(tuple(layout["pattern"]), layout["detail_share"])
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{artifact.path}: config.json is incomplete: {error}") from None


def choose_device(device: Device) -> torch.device:
    """Resolve `auto` to the GPU when there is one; raises ConfigError when a GPU is asked for and none is seen."""
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ConfigError("device cuda: this machine has no usable NVIDIA GPU", hint="use --device cpu")
    return torch.device("cuda" if available and device != "cpu" else "cpu")


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the chip multiplies it in hardware, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities()
    in_hardware = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if in_hardware else torch.float32
