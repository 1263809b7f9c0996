"""Self-attention within each row of a ragged batch, whose tokens lie one after another in one array.

Rows of nearly equal length form a group; a group is padded for the attention itself and nowhere else. How a group
is laid out is worked out once per batch and used by every layer. Knows nothing of weights.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lakebed.platform.encoder.prepared import IntArray

_STEP: Final = 32
"""Groups are padded to multiples of it on a CPU: the kernels for both products and for the softmax fall to half
their speed beside it."""

_SHORT: Final = (8, 16)
"""Padded lengths of rows that are far shorter than a step."""


@dataclass(frozen=True, eq=False)
class Group:
    """Rows of one padded length. `places` (rows x length,) is where in the flat array each padded token lies.

    Padding repeats its row's first token: it is read, and its weight is exactly zero. `mask` (rows, 1, 1, length)
    is added to the scores; None when nothing is padded.
    """

    rows: int
    length: int
    places: torch.Tensor
    mask: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class Attention:
    """How one batch attends: its groups, and where each flat token lies among all groups' padded tokens."""

    groups: tuple[Group, ...]
    origin: torch.Tensor
    heads: int

    @classmethod
    def of(cls, lengths: IntArray, heads: int, device: torch.device, dtype: torch.dtype) -> "Attention":
        """Lay out rows of `lengths` tokens; everything that needs the CPU happens here, once per batch."""
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        padded = padded_lengths(lengths, device)
        origin = np.empty(int(offsets[-1]), np.int64)
        groups, start = [], 0
        for length in np.unique(padded[lengths > 0]):
            rows = np.flatnonzero((padded == length) & (lengths > 0))
            real = np.arange(length) < lengths[rows, None]
            places = offsets[rows, None] + np.where(real, np.arange(length), 0)
            origin[places[real]] = start + np.flatnonzero(real)
            start += places.size
            mask = None if real.all() else _mask(real).to(device, dtype)
            groups.append(Group(len(rows), int(length), _sent(places.ravel(), device), mask))
        return cls(tuple(groups), _sent(origin, device), heads)

    def __call__(self, projected: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values of every token, (tokens, 3 x hidden), to (tokens, hidden).

        Queries must have been scaled already.
        """
        outputs = [self._attend(group, projected.index_select(0, group.places)) for group in self.groups]
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return joined.index_select(0, self.origin)

    def _attend(self, group: Group, projected: torch.Tensor) -> torch.Tensor:
        rows, length, width = group.rows, group.length, projected.shape[1] // (3 * self.heads)
        split = projected.view(rows, length, 3, self.heads, width).permute(2, 0, 3, 1, 4)
        whole = projected.device.type == "cpu" and projected.dtype == torch.bfloat16
        mixed = _whole_scores(split, group.mask) if whole else _in_tiles(split, group.mask)
        return mixed.transpose(1, 2).reshape(rows * length, self.heads * width)


def padded_lengths(lengths: IntArray, device: torch.device) -> IntArray:
    """The length that each row is padded to; a GPU takes all rows in one group, since launches cost more there."""
    if device.type != "cpu":
        longest = int(lengths.max(initial=1))
        return np.full(len(lengths), -(-longest // 8) * 8, np.int64)
    padded = -(-lengths // _STEP) * _STEP
    for short in reversed(_SHORT):
        padded = np.where(lengths <= short, short, padded)
    return padded


def _in_tiles(split: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    query, key, value = split.unbind(0)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)


def _whole_scores(split: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Attention by two products over whole score matrices: on a CPU in bfloat16 twice as fast as in tiles."""
    _, rows, heads, length, width = split.shape
    query, key, value = split.reshape(3, rows * heads, length, width).unbind(0)
    scores = torch.bmm(query, key.transpose(1, 2)).view(rows, heads, length, length)
    if mask is not None:
        scores += mask
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    return torch.bmm(weights.view(rows * heads, length, length), value).view(rows, heads, length, width)


def _mask(real: npt.NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(np.where(real, 0.0, -np.inf))[:, None, None, :]


def _sent(places: IntArray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(places)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
