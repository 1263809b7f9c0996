"""The signal tower: any number of channels of any length to two vectors, one comparable to text, one for detail.

Each channel gives random-convolution features (`convolution.py`) and a code of its level and spread. From these
- the detail vector: features projected to a whitened, randomly rotated basis, each channel multiplied by its own
  fixed signs before the channels are added (binding by channel index: which channel did what is kept), with a few
  dimensions for levels bound the same way;
- the shared vector: features and levels averaged over channels through a small trained head, which puts a signal
  near the text vector of its description.

Knows nothing of text nor of how the two vectors are laid out in one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lakebed.platform.encoder import convolution
from lakebed.platform.encoder.prepared import IntArray, Ragged, VectorArray
from lakebed.platform.items import FloatArray

LEVEL_DIMENSIONS: Final = 16
"""Dimensions of the detail vector that hold levels."""

LEVEL_SHARE: Final = 0.3
"""Length of the level part beside the shape part, whose length is 1."""

_PERIODS: Final = (8.0, 4.0, 2.0, 1.0, 0.5)
"""Decades per turn of the level code's waves: from orders of magnitude to the second digit."""

LEVEL_CODES: Final = 2 * (2 + 2 * len(_PERIODS)) + 1


@dataclass(frozen=True, eq=False)
class SignalWeights:
    """What training fits. Features are F = 2 x dilations x kernels x quantiles, hidden units H.

    biases (2, dilations, kernels, quantiles); mean (F,); projection (F, detail - LEVEL_DIMENSIONS);
    rotation (detail, detail), orthogonal; head_features (F, H); head_levels (LEVEL_CODES, H); head_bias (H,);
    head_scale, head_shift (H,) of the layer norm; head_out (H, shared).
    """

    biases: VectorArray
    mean: VectorArray
    projection: VectorArray
    rotation: VectorArray
    head_features: VectorArray
    head_levels: VectorArray
    head_bias: VectorArray
    head_scale: VectorArray
    head_shift: VectorArray
    head_out: VectorArray

    @classmethod
    def of(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> "SignalWeights":
        """Take the weights named `signal.*` out of a model's tensors, as float32."""
        return cls(**{name: tensors[f"signal.{name}"].astype(np.float32) for name in cls.__dataclass_fields__})

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Named for the model file; large products are kept in half precision, thresholds and rotation are not."""
        exact = ("biases", "rotation", "mean")
        return {
            f"signal.{name}": getattr(self, name).astype(np.float32 if name in exact else np.float16)
            for name in self.__dataclass_fields__
        }


class SignalTower:
    """Turns prepared channels into shared and detail vectors. `forward` belongs to one thread."""

    def __init__(self, weights: SignalWeights, device: torch.device) -> None:
        self.weights = weights
        self.device = device
        self._biases = torch.from_numpy(weights.biases).to(device)
        both = np.concatenate([weights.projection, weights.head_features], axis=1)
        self._both = torch.from_numpy(both).to(device)
        self._mean = torch.from_numpy(weights.mean).to(device)
        self._level_binding = torch.from_numpy(_level_binding()).to(device)
        self._rotation = torch.from_numpy(weights.rotation).to(device)
        self._head = {
            name: torch.from_numpy(getattr(weights, name)).to(device)
            for name in ("head_levels", "head_bias", "head_scale", "head_shift", "head_out")
        }

    @torch.inference_mode()
    def forward(self, channels: Ragged, levels: Ragged) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed n signals: shared (n, s) and detail (n, d) vectors on the device, each of unit length."""
        projected = (self._features(channels.values) - self._mean) @ self._both
        width = self.weights.projection.shape[1]
        codes = torch.from_numpy(level_codes(levels.values)).to(self.device)
        detail = self._detail(projected[:, :width], codes, channels)
        shared = self._shared(projected[:, width:], codes, channels)
        return shared, detail

    def _features(self, channels: VectorArray) -> torch.Tensor:
        if self.device.type == "cpu":
            biases = self.weights.biases
            return torch.from_numpy(convolution.cpu_features(channels, biases, torch.get_num_threads()))
        return convolution.device_features(channels, self._biases)

    def _detail(self, shapes: torch.Tensor, codes: torch.Tensor, channels: Ragged) -> torch.Tensor:
        signs = torch.from_numpy(channel_signs(channels.lengths, shapes.shape[1] + LEVEL_DIMENSIONS))
        levels = torch.tanh(codes @ self._level_binding)
        bound = torch.cat([shapes, levels], dim=1) * signs.to(self.device)
        total = _sums(bound, channels)
        shape = functional.normalize(total[:, : shapes.shape[1]], dim=1)
        scale = LEVEL_SHARE / np.sqrt(LEVEL_DIMENSIONS)
        count = torch.from_numpy(np.sqrt(channels.lengths)).to(total)[:, None]
        level = scale * total[:, shapes.shape[1] :] / count
        return functional.normalize(torch.cat([shape, level], dim=1), dim=1) @ self._rotation

    def _shared(self, hidden: torch.Tensor, codes: torch.Tensor, channels: Ragged) -> torch.Tensor:
        count = torch.from_numpy(channels.lengths).to(hidden)[:, None]
        features, levels = _sums(hidden, channels) / count, _sums(codes, channels) / count
        return functional.normalize(head_forward(features, levels, self._head), dim=1)


def head_forward(features: torch.Tensor, levels: torch.Tensor, head: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The head after its first product: add levels and bias, GELU, layer norm, output; not yet unit length."""
    hidden = functional.gelu(features + levels @ head["head_levels"] + head["head_bias"])
    normed = functional.layer_norm(hidden, hidden.shape[1:], head["head_scale"], head["head_shift"])
    return normed @ head["head_out"]


def prepare_channels(series: Sequence[FloatArray]) -> tuple[Ragged, Ragged]:
    """Normalise and resample every channel: rows of (channels, LENGTH) float32, and of (channels, 2) levels.

    An item of no channels gives rows of length 0.
    """
    shapes, levels = [], []
    for item in series:
        if not len(item):
            shapes.append(np.empty((0, convolution.LENGTH), np.float32))
            levels.append(np.empty((0, 2)))
            continue
        shape, mean, spread = convolution.normalise(item)
        shapes.append(shape)
        levels.append(np.stack([mean, spread], axis=1))
    return (
        Ragged.of(shapes, np.float32, (convolution.LENGTH,)),
        Ragged.of(levels, np.float64, (2,)),
    )


def level_codes(levels: FloatArray) -> VectorArray:
    """Code means and spreads (n, 2) so that both orders of magnitude and leading digits can be told apart.

    Per number: sign, log10 magnitude over +-12 decades, and its sine and cosine at several periods, the
    multi-scale idea of NuTime (Lin et al. 2024, arXiv 2310.07402); and how the mean compares with the spread.
    Returns (n, LEVEL_CODES) float32, each within -1 ... 1.
    """
    decades = np.log10(np.clip(np.abs(levels), 1e-12, 1e12))
    turns = [2 * np.pi * decades / period for period in _PERIODS]
    waves = [wave(turn) for turn in turns for wave in (np.sin, np.cos)]
    ratio = np.tanh(np.clip(levels[:, :1], -1e150, 1e150) / np.maximum(levels[:, 1:], 1e-150) / 4)
    return np.asarray(np.concatenate([np.sign(levels), decades / 12, *waves, ratio], axis=1), np.float32)


def channel_signs(counts: IntArray, width: int) -> VectorArray:
    """Signs (sum(counts), width) of every channel of every item; channel i has the same signs in every item."""
    table = np.stack([_signs(channel, width) for channel in range(int(counts.max(initial=1)))])
    index = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(table[index], np.float32)


def _signs(channel: int, width: int) -> VectorArray:
    """Signs of one channel, from a hash of its index: the same everywhere, for any number of channels."""
    if channel == 0:
        return np.ones(width, np.float32)
    bits = np.unpackbits(np.frombuffer(_hashed(f"channel {channel}", (width + 7) // 8), np.uint8))[:width]
    return np.asarray(2 * bits.astype(np.float32) - 1)


def _level_binding() -> VectorArray:
    """A fixed random matrix (LEVEL_CODES, LEVEL_DIMENSIONS) of signs, scaled to unit columns."""
    size = LEVEL_CODES * LEVEL_DIMENSIONS
    bits = np.unpackbits(np.frombuffer(_hashed("level binding", (size + 7) // 8), np.uint8))[:size]
    signs = 2 * bits.astype(np.float32).reshape(LEVEL_CODES, LEVEL_DIMENSIONS) - 1
    return np.asarray(signs / np.sqrt(LEVEL_CODES), np.float32)


def _hashed(text: str, size: int) -> bytes:
    return hashlib.shake_256(f"lakebed {text}".encode()).digest(size)


def _sums(rows: torch.Tensor, channels: Ragged) -> torch.Tensor:
    """Add the rows of each item."""
    owner = torch.from_numpy(np.repeat(np.arange(len(channels)), channels.lengths)).to(rows.device)
    return torch.zeros((len(channels), rows.shape[1]), device=rows.device).index_add_(0, owner, rows)
