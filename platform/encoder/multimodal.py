"""`lakebed-embed`: the encoder of text and multi-channel time series in one space, as prepare, forward, finish.

Joins the text tower, the signal tower and the layout; reads them from an artifact directory. `config.json` names
the text weights with their sha256, so the artifact's digest covers them too.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch

from lakebed.platform.encoder.artifact import Artifact, read_artifact
from lakebed.platform.encoder.description import DescriptionHead, DescriptionSpec
from lakebed.platform.encoder.layout import Layout
from lakebed.platform.encoder.load import Device
from lakebed.platform.encoder.prepared import IntArray, Prepared, Ragged, VectorArray
from lakebed.platform.encoder.protocol import EncoderInfo, truncate
from lakebed.platform.encoder.signal_tower import Shares, SignalTower, SignalWeights, prepare_channels
from lakebed.platform.encoder.text_tower import TextSpec, TextTower
from lakebed.platform.errors import ArtifactError, ConfigError
from lakebed.platform.items import FloatArray, Item

CHANNEL_COST = 8
"""A channel's share of a batch budget, in text tokens: a rough guess at what takes as long on a CPU."""


class MultiModalEncoder:
    """Text, signals, or both, to unit vectors. Satisfies the `Encoder` protocol."""

    def __init__(
        self,
        info: EncoderInfo,
        text: TextTower,
        description: DescriptionHead,
        signal: SignalTower,
        layout: Layout,
    ) -> None:
        self._info = info
        self.text = text
        self.description = description
        self.signal = signal
        self.layout = layout
        self.device = text.device
        self._lanes = torch.get_num_threads() if self.device.type == "cpu" else 1
        self._loading = threading.Lock()

    @classmethod
    def load(
        cls, folder: Path, *, name: str | None = None, device: Device = "auto", expect_digest: str | None = None
    ) -> Self:
        """Read a model directory; raises ArtifactError when it is not whole or not of this kind."""
        artifact = read_artifact(folder, expect_digest=expect_digest)
        place = choose_device(device)
        parts = _configuration(artifact)
        text = TextTower(parts.text, place, fast_dtype(place))
        try:
            tensors = artifact.tensors()
            description = DescriptionHead(parts.description, tensors, place)
            signal = SignalTower(SignalWeights.of(tensors), parts.shares, place)
        except KeyError as error:
            raise ArtifactError(f"{folder}: tensor {error} is missing") from None
        info = EncoderInfo(
            name or str(artifact.config["name"]),
            artifact.digest,
            parts.layout.dimensions,
            parts.text.max_tokens,
        )
        return cls(info, text, description, signal, parts.layout)

    @property
    def info(self) -> EncoderInfo:
        """Name, digest and sizes."""
        return self._info

    @property
    def lanes(self) -> int:
        """One forward for each core of a CPU; a GPU takes one at a time."""
        return self._lanes

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""
        return self.text.vocabulary

    @property
    def special_tokens(self) -> int:
        """How many of them go around every text."""
        return self.text.special_tokens

    def prepare(self, items: Sequence[Item]) -> Prepared:
        """Tokenize texts; normalise and resample channels. Thread-safe."""
        return self.prepare_within(items, self._info.max_tokens)

    def prepare_within(self, items: Sequence[Item], window: int) -> Prepared:
        """Prepare with texts cut to `window` tokens."""
        texts = [item.text for item in items]
        rows, cut = self.text.tokenize([text for text in texts if text is not None], window)
        has_text = np.array([text is not None for text in texts], bool)
        truncated = np.zeros(len(items), np.int64)
        truncated[has_text] = cut
        given = iter(rows)
        tokens = Ragged.of([next(given) if has else np.empty(0, np.int64) for has in has_text], np.int64)
        return _prepared(tokens, truncated, [_NO_SERIES if item.series is None else item.series for item in items])

    def prepare_tokens(self, rows: Sequence[IntArray], window: int) -> Prepared:
        """Take token ids as they are, special ones included; cut to `window`."""
        kept, truncated = self.text.fit(rows, window)
        return _prepared(Ragged.of(kept, np.int64), truncated, [_NO_SERIES] * len(rows))

    @torch.inference_mode()
    def forward(self, work: Prepared) -> VectorArray:
        """Run both towers on one batch; (n, dimensions) float32, unit length. Thread-safe on a CPU."""
        tokens, channels, levels = (work.columns[name] for name in ("tokens", "channels", "levels"))
        shared = torch.zeros((len(work), self.layout.shared), device=self.device)
        own = torch.zeros((len(work), self.layout.own), device=self.device)
        rows = np.flatnonzero(tokens.lengths)
        if len(rows):
            places = torch.from_numpy(rows).to(self.device)
            shared[places], own[places] = self._text_parts(tokens.take(rows))
        rows = np.flatnonzero(channels.lengths)
        if len(rows):
            places = torch.from_numpy(rows).to(self.device)
            here = self.signal.forward(channels.take(rows), levels.take(rows))
            shared[places] += here[0]
            own[places] += here[1]
        joined = torch.nn.functional.normalize(self.layout.join(shared, own), dim=1)
        vectors: VectorArray = joined.cpu().numpy()
        return vectors

    def _text_parts(self, tokens: Ragged) -> tuple[torch.Tensor, torch.Tensor]:
        """The plain text vector, turned towards what the text says of a signal as far as it does."""
        plain, said, angle, possible = self._read(self.text, tokens)
        rows = torch.nonzero(possible)[:, 0]
        if len(rows) and self.text.dtype != torch.float32:
            # The turn magnifies what half precision loses; few texts are descriptions, so these are read again.
            with self._loading:
                exact = self._exact_text
            plain[rows], said[rows], angle[rows], _ = self._read(exact, tokens.take(rows.cpu().numpy()))
        own = torch.zeros((len(tokens), self.layout.own), device=self.device)
        own[:, : self.description.width] = torch.sin(angle)[:, None] * said
        return torch.cos(angle)[:, None] * plain, own

    def _read(self, tower: TextTower, tokens: Ragged) -> tuple[torch.Tensor, ...]:
        plain, states, owner = tower.forward_with_states(tokens, self.description.spec.layer)
        return plain, *self.description(states, owner, plain)

    @cached_property
    def _exact_text(self) -> TextTower:
        return TextTower(self.text.spec, self.device, torch.float32)

    def finish(self, vectors: VectorArray, dimensions: int | None = None) -> VectorArray:
        """Truncate and renormalise."""
        return truncate(vectors, dimensions)


_NO_SERIES: Final = np.empty((0, 1))


def _prepared(tokens: Ragged, truncated: IntArray, series: Sequence[FloatArray]) -> Prepared:
    channels, levels = prepare_channels(series)
    return Prepared(
        {"tokens": tokens, "channels": channels, "levels": levels},
        costs=tokens.lengths + CHANNEL_COST * channels.lengths,
        tokens=tokens.lengths,
        truncated=truncated,
        samples=np.array([values.size for values in series], np.int64),
    )


@dataclass(frozen=True)
class Parts:
    """What config.json says of a model's parts."""

    text: TextSpec
    description: DescriptionSpec
    shares: Shares
    layout: Layout


def configuration(parts: Parts, name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of config.json for these parts."""
    return {"name": name, **{part: asdict(getattr(parts, part)) for part in _PARTS}, "recipe": dict(recipe)}


_PARTS: Final = ("text", "description", "shares", "layout")


def _configuration(artifact: Artifact) -> Parts:
    config = artifact.config
    try:
        return Parts(
            TextSpec(**config["text"]),
            DescriptionSpec(**config["description"]),
            Shares(**config["shares"]),
            Layout(tuple(config["layout"]["pattern"])),
        )
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
