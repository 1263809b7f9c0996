"""The signal tower: any number of channels of any length to the two parts of a vector.

Each channel gives random-convolution features (`convolution.py`), a coarse outline, and codes of its level and
spread. From these come
- shape: features projected to a whitened, randomly rotated basis, each channel multiplied by its own fixed signs
  before the channels are added (binding by channel index: which channel did what is kept);
- level: magnitudes of mean and spread on several scales, spread over the dimensions of shape by fixed signs,
  bound the same way, and laid over shape: no dimension is only level's, so a probe that standardises every
  dimension cannot blow up levels that hardly differ;
- description: everything averaged over channels through a small trained head, which puts a signal near what is
  said of it (`description.py`); and, by a linear map, near the plain text vector of that.

The first part shares its dimensions with text: the plain text vectors of descriptions span few of them, and shape
fills the rest. Knows nothing of text nor of how the parts are laid out.
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

_PERIODS: Final = (8.0, 4.0, 2.0, 1.0, 0.5)
"""Decades per turn of the level code's waves: from orders of magnitude to the second digit."""

LEVEL_CODES: Final = 2 * (2 + 2 * len(_PERIODS)) + 1

_NO_LEVEL: Final = 0.05
_SCALES: Final = 10.0 ** np.arange(-3, 5)
_SOFTENINGS: Final = (1e-3, 1e-1, 1.0, 10.0, 100.0)

MAGNITUDES: Final = 2 * len(_SOFTENINGS) + 2 * len(_SCALES) + 2

OUTLINE_BLOCKS: Final = 32
OUTLINE: Final = 4 * OUTLINE_BLOCKS


@dataclass(frozen=True)
class Shares:
    """Squared lengths of a signal vector's parts; the rest, to 1, is shape.

    `meaning` is what lies where plain text vectors of descriptions lie.
    """

    description: float
    meaning: float
    level: float

    @property
    def shape(self) -> float:
        """The share of shape."""
        return 1 - self.description - self.meaning - self.level


@dataclass(frozen=True, eq=False)
class SignalWeights:
    """What training fits. F features, H hidden units, s dimensions shared with text, d of a description.

    biases (2, dilations, kernels, quantiles); mean (F,); projection (F, shapes); fill (s - r, s), orthonormal
    rows: where shape goes in the shared part; meaning (d, s), of rank r, maps descriptions to plain text vectors.
    head_features (F, H); head_outline (OUTLINE, H); head_levels (LEVEL_CODES, H); head_bias (H,); two layer norms,
    head_scale, head_shift and head_scale2, head_shift2 (H,); head_hidden (H, H); head_hidden_bias (H,);
    head_out (H, d).
    """

    biases: VectorArray
    mean: VectorArray
    projection: VectorArray
    fill: VectorArray
    meaning: VectorArray
    head_features: VectorArray
    head_outline: VectorArray
    head_levels: VectorArray
    head_bias: VectorArray
    head_scale: VectorArray
    head_shift: VectorArray
    head_hidden: VectorArray
    head_hidden_bias: VectorArray
    head_scale2: VectorArray
    head_shift2: VectorArray
    head_out: VectorArray

    @classmethod
    def of(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> "SignalWeights":
        """Take the weights named `signal.*` out of a model's tensors, as float32."""
        given = {name: tensors[f"signal.{name}"].astype(np.float32) for name in cls.__dataclass_fields__}
        given["head_features"] *= tensors["signal.head_features_scale"][:, None]
        return cls(**given)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Named for the model file; thresholds are kept exactly, products in half precision.

        The head's first product, with all features, is kept in bytes with a scale per feature.
        """
        exact = ("biases", "mean", "fill")
        stored = {
            f"signal.{name}": getattr(self, name) if name in exact else _halved(getattr(self, name))
            for name in self.__dataclass_fields__
            if name != "head_features"
        }
        scale = np.maximum(np.abs(self.head_features).max(1), np.finfo(np.float32).tiny) / 127
        stored["signal.head_features"] = np.round(self.head_features / scale[:, None]).astype(np.int8)
        stored["signal.head_features_scale"] = scale.astype(np.float32)
        return stored

    @property
    def head(self) -> dict[str, torch.Tensor]:
        """The tensors of the trained head."""
        return {name: torch.from_numpy(getattr(self, name)) for name in HEAD}


HEAD: Final = tuple(name for name in SignalWeights.__dataclass_fields__ if name.startswith("head_"))


class SignalTower:
    """Turns prepared channels into the parts of vectors. `forward` belongs to one thread."""

    def __init__(self, weights: SignalWeights, shares: Shares, device: torch.device) -> None:
        self.weights, self.shares, self.device = weights, shares, device
        self.filled = len(weights.fill)
        self._biases = torch.from_numpy(weights.biases).to(device)
        both = np.concatenate([weights.projection, weights.head_features], axis=1)
        self._both = torch.from_numpy(both).to(device)
        # The mean is taken off after the product: one pass over the features less.
        self._offset = torch.from_numpy((weights.mean.astype(np.float64) @ both).astype(np.float32)).to(device)
        self._level_binding = torch.from_numpy(_level_binding(weights.projection.shape[1])).to(device)
        self._fill = torch.from_numpy(weights.fill).to(device)
        self._meaning = torch.from_numpy(weights.meaning).to(device)
        self._head = {name: tensor.to(device) for name, tensor in weights.head.items()}

    @torch.inference_mode()
    def forward(self, channels: Ragged, levels: Ragged) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed n signals: parts (n, shared) and (n, own) on the device; together of unit length."""
        values = torch.from_numpy(channels.values).to(self.device)
        width = self.weights.projection.shape[1]
        projected = self._features(channels.values) @ self._both - self._offset
        described = self._described(projected[:, width:], values, levels.values, channels)
        meaning = functional.normalize(described @ self._meaning, dim=1)
        shares = self.shares
        shape = functional.normalize(self._bound(projected[:, :width], channels), dim=1)
        # Shape and level come to one length in every signal: else those of large levels would be described less.
        body = shares.shape**0.5 * shape + self._level(levels.values, channels)
        body = (shares.shape + shares.level) ** 0.5 * functional.normalize(body, dim=1)
        shared = body[:, : self.filled] @ self._fill + shares.meaning**0.5 * meaning
        own = [shares.description**0.5 * described, body[:, self.filled :]]
        together = functional.normalize(torch.cat([shared, *own], dim=1), dim=1)
        return together[:, : shared.shape[1]], together[:, shared.shape[1] :]

    def _features(self, channels: VectorArray) -> torch.Tensor:
        if self.device.type == "cpu":
            biases = self.weights.biases
            return torch.from_numpy(convolution.cpu_features(channels, biases, torch.get_num_threads()))
        return convolution.device_features(channels, self._biases)

    def _bound(self, rows: torch.Tensor, channels: Ragged) -> torch.Tensor:
        """Add the channels of each item, each with its own signs."""
        signs = torch.from_numpy(channel_signs(channels.lengths, rows.shape[1])).to(self.device)
        count = torch.from_numpy(np.sqrt(channels.lengths)).to(rows)[:, None]
        return _sums(rows * signs, channels) / count

    def _level(self, levels: FloatArray, channels: Ragged) -> torch.Tensor:
        codes = torch.from_numpy(magnitudes(levels)).to(self.device) @ self._level_binding
        scale: float = (self.shares.level / codes.shape[1]) ** 0.5
        return self._bound(codes, channels) * scale

    def _described(
        self, features: torch.Tensor, values: torch.Tensor, levels: FloatArray, channels: Ragged
    ) -> torch.Tensor:
        count = torch.from_numpy(channels.lengths).to(features)[:, None]
        codes = torch.from_numpy(level_codes(levels)).to(self.device)
        mean_features, outlines, mean_codes = (
            _sums(rows, channels) / count for rows in (features, outline(values), codes)
        )
        return functional.normalize(head_forward(mean_features, outlines, mean_codes, self._head), dim=1)


def _halved(weights: VectorArray) -> npt.NDArray[np.float16]:
    """In half precision; what is too large for it is cut, as weights of features that hardly ever vary may be."""
    most = np.finfo(np.float16).max
    return np.clip(weights, -most, most).astype(np.float16)


def head_forward(
    features: torch.Tensor, outlines: torch.Tensor, levels: torch.Tensor, head: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """The head after its first product with the features; not yet unit length."""
    rows = features + outlines @ head["head_outline"] + levels @ head["head_levels"] + head["head_bias"]
    rows = _normed(functional.gelu(rows), head["head_scale"], head["head_shift"])
    rows = functional.gelu(rows @ head["head_hidden"] + head["head_hidden_bias"])
    return _normed(rows, head["head_scale2"], head["head_shift2"]) @ head["head_out"]


def _normed(rows: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(rows, rows.shape[1:], scale, shift)


def outline(channels: torch.Tensor) -> torch.Tensor:
    """Where things happen: mean, spread, maximum and minimum of equal blocks; (n, LENGTH) to (n, OUTLINE)."""
    blocks = channels.unflatten(1, (OUTLINE_BLOCKS, -1))
    parts = (blocks.mean(2), blocks.std(2, correction=0), blocks.amax(2), blocks.amin(2))
    return torch.cat(parts, dim=1)


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


def magnitudes(levels: FloatArray) -> VectorArray:
    """Code means and spreads (n, 2) smoothly on several scales, so that a linear probe can use them.

    Signed logarithms with several softenings, saturating tangents at every decade, the spread's own logarithm and
    how the mean compares with it. Returns (n, MAGNITUDES) float32. A mean within a few hundredths of the spread
    is none, and codes are rounded: what differs only by rounding, as series normalised beforehand do, is equal.
    """
    mean, spread = np.clip(levels[:, :1], -1e150, 1e150), np.clip(levels[:, 1:], 0, 1e150)
    mean = np.sign(mean) * np.maximum(np.abs(mean) - _NO_LEVEL * spread, 0)
    codes = [
        np.sign(value) * np.log1p(np.abs(value) / soft) / np.log1p(1 / soft) / 2
        for value in (mean, spread)
        for soft in _SOFTENINGS
    ]
    codes += [np.tanh(value / _SCALES) for value in (mean, spread)]
    codes += [np.tanh(mean / np.maximum(spread, 1e-150) / 4), np.log10(np.clip(spread, 1e-6, 1e6)) / 6]
    return np.asarray(np.round(np.clip(np.concatenate(codes, axis=1), -4, 4), 4), np.float32)


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


def _level_binding(width: int) -> VectorArray:
    """A fixed random matrix (MAGNITUDES, width) of signs, scaled to unit columns."""
    size = MAGNITUDES * width
    bits = np.unpackbits(np.frombuffer(_hashed("level binding", (size + 7) // 8), np.uint8))[:size]
    signs = 2 * bits.astype(np.float32).reshape(MAGNITUDES, width) - 1
    return np.asarray(signs / np.sqrt(MAGNITUDES), np.float32)


def _hashed(text: str, size: int) -> bytes:
    return hashlib.shake_256(f"lakebed {text}".encode()).digest(size)


def _sums(rows: torch.Tensor, channels: Ragged) -> torch.Tensor:
    """Add the rows of each item."""
    owner = torch.from_numpy(np.repeat(np.arange(len(channels)), channels.lengths)).to(rows.device)
    return torch.zeros((len(channels), rows.shape[1]), device=rows.device).index_add_(0, owner, rows)
