"""Self-attention within each row of a ragged batch, whose tokens lie one after another in one array.

Rows of nearly equal length form a group; a group is padded for the attention itself and nowhere else. How a batch
is laid out is worked out once and used by every layer. Knows nothing of weights.
`attend` is in the part of Python that `scripted` compiles.
"""

from typing import Final, NamedTuple

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


class Group(NamedTuple):
    """Rows that are padded to one length.

    `places` (3 x rows x heads x length,) is where each padded query, key and value lies, in units of one head.
    Padding repeats its row's first token: it is read, and its weight is exactly zero. `mask` (rows, 1, 1, length)
    is added to the scores; None when nothing is padded. `whole` says whether score matrices are computed whole,
    `wide` whether their softmax gives float32.
    """

    rows: int
    length: int
    places: torch.Tensor
    mask: torch.Tensor | None
    whole: bool
    wide: bool


class Attention(NamedTuple):
    """How one batch attends: its groups, and where each token's heads lie among what all groups give."""

    groups: list[Group]
    origin: torch.Tensor
    heads: int


def attention_over(lengths: IntArray, heads: int, device: torch.device, dtype: torch.dtype) -> Attention:
    """Lay out rows of `lengths` tokens; whatever needs the CPU happens here, so layers never wait for it."""
    starts = offsets_of(lengths)
    padded = padded_lengths(lengths, device)
    origin = np.empty((int(starts[-1]), heads), np.int64)
    whole_up_to = _WHOLE_UP_TO.get(dtype, 0) if device.type == "cpu" else 0
    groups, before = [], 0
    for length in map(int, np.unique(padded[lengths > 0])):
        rows = np.flatnonzero((padded == length) & (lengths > 0))
        real = np.arange(length) < lengths[rows, None]
        tokens = starts[rows, None] + np.where(real, np.arange(length), 0)
        given = before + np.arange(len(rows) * heads * length).reshape(len(rows), heads, length)
        origin[tokens[real]] = given.swapaxes(1, 2)[real]
        before += given.size
        mask = None if real.all() else _mask(real).to(device, dtype)
        places = _sent(_head_places(tokens, heads), device)
        wide = dtype == torch.bfloat16 and length <= _WIDE_SOFTMAX_UP_TO
        groups.append(Group(len(rows), length, places, mask, length <= whole_up_to, wide))
    return Attention(groups, _sent(origin.ravel(), device), heads)


def attend(attention: Attention, projected: torch.Tensor) -> torch.Tensor:
    """Queries, keys and values of every token, (tokens, 3 x hidden), to (tokens, hidden).

    Queries must have been scaled already.
    """
    width = projected.shape[1] // (3 * attention.heads)
    parts = projected.view(-1, width)
    mixed: list[torch.Tensor] = []
    for group in attention.groups:
        mixed.append(_within(group, parts, attention.heads).reshape(-1, width))  # noqa: PERF401 - for `scripted`
    joined = mixed[0] if len(mixed) == 1 else torch.cat(mixed)
    return joined.index_select(0, attention.origin).view(-1, attention.heads * width)


def _within(group: Group, parts: torch.Tensor, heads: int) -> torch.Tensor:
    """Attention of one group, (rows, heads, length, width)."""
    shape = (3, group.rows, heads, group.length, parts.shape[1])
    found = parts.index_select(0, group.places).view(shape)
    query, key, value = found[0], found[1], found[2]
    if group.whole:
        return _whole(query, key, value, group.mask, group.wide)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=group.mask, scale=1.0)


def padded_lengths(lengths: IntArray, device: torch.device) -> IntArray:
    """The length that each row is padded to. A GPU takes all rows in one group: more launches would cost more."""
    if device.type != "cpu":
        return np.full(len(lengths), -(-int(lengths.max(initial=1)) // 8) * 8, np.int64)
    short = _PADDED[np.minimum(np.searchsorted(_PADDED, lengths), len(_PADDED) - 1)]
    return np.where(lengths <= _PADDED[-1], short, -(-lengths // 32) * 32)


def _whole(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, wide: bool
) -> torch.Tensor:
    """Attention by products over whole score matrices: for short rows much faster than in tiles."""
    rows, heads, length = value.shape[0], value.shape[1], value.shape[2]
    scores = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
    if mask is not None:
        scores.view(rows, heads, length, length).add_(mask)
    exact = torch.softmax(scores, -1, dtype=torch.float32) if wide else torch.softmax(scores, -1)
    weights = exact.to(value.dtype)
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
