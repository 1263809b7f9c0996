"""Self-attention within each row of a ragged batch, whose tokens lie one after another in one array.

Rows of nearly equal length form a group; a group is padded for the attention itself and nowhere else. How a batch
is laid out is worked out once and used by every layer. Knows nothing of weights.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lakebed.platform.encoder.prepared import IntArray, offsets_of

_PADDED: Final = np.array([16, 24, 32, 48, 64, 80, 96])
"""Padded lengths of short rows on a CPU, longer ones have multiples of 32: between them, the kernels of products
and softmax do worse than with more padding."""

_WHOLE_UP_TO: Final = {torch.bfloat16: 1 << 20, torch.float32: 48}
"""Longest padded rows whose score matrices are computed whole on a CPU; in tiles beyond it, and elsewhere."""

_WIDE_SOFTMAX_UP_TO: Final = 80
"""Longest padded rows for which a softmax that gives float32, then rounded, beats one that gives bfloat16."""


@dataclass(frozen=True, eq=False)
class Group:
    """Rows that are padded to one length.

    `places` (3 x rows x heads x length,) is where each padded query, key and value lies, in units of one head.
    Padding repeats its row's first token: it is read, and its weight is exactly zero. `mask` (rows, 1, 1, length)
    is added to the scores; None when nothing is padded.
    """

    rows: int
    length: int
    places: torch.Tensor
    mask: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class Attention:
    """How one batch attends: its groups, and where each token's heads lie among what all groups give."""

    groups: tuple[Group, ...]
    origin: torch.Tensor
    heads: int

    @classmethod
    def of(cls, lengths: IntArray, heads: int, device: torch.device, dtype: torch.dtype) -> "Attention":
        """Lay out rows of `lengths` tokens; whatever needs the CPU happens here, so layers never wait for it."""
        starts = offsets_of(lengths)
        padded = padded_lengths(lengths, device)
        origin = np.empty((int(starts[-1]), heads), np.int64)
        groups, before = [], 0
        for length in np.unique(padded[lengths > 0]):
            rows = np.flatnonzero((padded == length) & (lengths > 0))
            real = np.arange(length) < lengths[rows, None]
            tokens = starts[rows, None] + np.where(real, np.arange(length), 0)
            given = before + np.arange(len(rows) * heads * length).reshape(len(rows), heads, length)
            origin[tokens[real]] = given.swapaxes(1, 2)[real]
            before += given.size
            mask = None if real.all() else _mask(real).to(device, dtype)
            groups.append(Group(len(rows), int(length), _sent(_head_places(tokens, heads), device), mask))
        return cls(tuple(groups), _sent(origin.ravel(), device), heads)

    def __call__(self, projected: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values of every token, (tokens, 3 x hidden), to (tokens, hidden).

        Queries must have been scaled already.
        """
        width = projected.shape[1] // (3 * self.heads)
        parts = projected.view(-1, width)
        mixed = [self._attend(group, parts).reshape(-1, width) for group in self.groups]
        joined = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
        return joined.index_select(0, self.origin).view(-1, self.heads * width)

    def _attend(self, group: Group, parts: torch.Tensor) -> torch.Tensor:
        """Attention of one group, (rows, heads, length, width)."""
        shape = (3, group.rows, self.heads, group.length, parts.shape[1])
        query, key, value = parts.index_select(0, group.places).view(shape).unbind(0)
        if parts.device.type == "cpu" and group.length <= _WHOLE_UP_TO.get(parts.dtype, 0):
            return _whole(query, key, value, group.mask)
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=group.mask, scale=1.0)


def padded_lengths(lengths: IntArray, device: torch.device) -> IntArray:
    """The length that each row is padded to. A GPU takes all rows in one group: more launches would cost more."""
    if device.type != "cpu":
        return np.full(len(lengths), -(-int(lengths.max(initial=1)) // 8) * 8, np.int64)
    short = _PADDED[np.minimum(np.searchsorted(_PADDED, lengths), len(_PADDED) - 1)]
    return np.where(lengths <= _PADDED[-1], short, -(-lengths // 32) * 32)


def _whole(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Attention by products over whole score matrices: for short rows much faster than in tiles."""
    rows, heads, length, _ = value.shape
    scores = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
    if mask is not None:
        scores.view(rows, heads, length, length).add_(mask)
    if value.dtype == torch.bfloat16 and length <= _WIDE_SOFTMAX_UP_TO:
        weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    else:
        weights = torch.softmax(scores, -1)
    return torch.bmm(weights, value.flatten(0, 1)).view(value.shape)


def _head_places(tokens: IntArray, heads: int) -> IntArray:
    """Where the heads of queries, keys and values of `tokens` (rows, length) lie in an array of heads."""
    heads_of_part = np.arange(3 * heads).reshape(3, 1, heads, 1)
    return (tokens[None, :, None, :] * (3 * heads) + heads_of_part).ravel()


def _mask(real: npt.NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(np.where(real, 0.0, -np.inf))[:, None, None, :]


def _sent(places: IntArray, device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(places)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
