"""Random-convolution features of single channels: how fixed kernels' responses compare with biases and each other.

The kernels are MiniRocket's (Dempster, Schmidt and Webb 2021, arXiv 2012.08791): the 84 ways to put three weights
of 2 among six of -1, at several dilations; here on the z-normalised channel, resized to `LENGTH` samples, and on
its first difference, with biases that are fixed once and not fitted to a data set. For every kernel there is the
proportion of positive values at each bias; as in MultiRocket (Tan et al. 2022, arXiv 2102.00457) the mean of
positive values, here at the middle bias and over all samples; and, as in Hydra (Dempster, Schmidt and Webb 2023,
arXiv 2203.13652), how much it wins and how often it loses against the other kernels of its group. Here kernels
that tie all count, and no kernel counts where none responds, so that rounding decides nothing; flat stretches and
straight lines tie everywhere. Two formulations give the same features:
`cpu_features` fuses convolution and pooling in compiled loops that need no C++ compiler at run time;
`device_features` is matrix products, for a GPU. Knows nothing of channels together, text or projections.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.items import FloatArray

LENGTH: Final = 512
TAPS: Final = 9
DILATIONS: Final = (1, 2, 4, 8, 16, 32, 60)
GROUP: Final = 7
"""Kernels that compete with each other."""
_COMBINATIONS: Final = np.array(list(combinations(range(TAPS), 3)), np.int64)
KERNELS: Final = _COMBINATIONS[np.arange(len(_COMBINATIONS)) * 37 % len(_COMBINATIONS)]
"""Places of the weights of 2; neighbours in the list, which compete, are unlike each other."""
VIEWS: Final = 2
"""The channel itself and its first difference."""

_SILENT: Final = 1e-2
"""Responses nearer to 0 than this compete for nothing. Channels have unit spread, kernels weigh up to 6 of it."""
_TIE: Final = 1e-3
"""Responses nearer than this to the best are as good."""


def feature_count(quantiles: int) -> int:
    """Number of features of one channel when there are `quantiles` biases per kernel, dilation and view."""
    return VIEWS * len(DILATIONS) * len(KERNELS) * (quantiles + 3)


def is_proportion(quantiles: int) -> npt.NDArray[np.bool_]:
    """Which features (F,) are proportions of positive values; each kernel has three others after them."""
    return np.tile(np.arange(quantiles + 3) < quantiles, feature_count(quantiles) // (quantiles + 3))


def resample(channel: FloatArray) -> FloatArray:
    """Return one channel at `LENGTH` samples, ends kept.

    A longer one is first averaged over equal blocks, so that no sample is skipped over and fast content does not
    alias; then both are interpolated linearly.
    """
    count = len(channel)
    if count == LENGTH:
        return channel
    if count >= 2 * LENGTH:
        edges = np.linspace(0, count, LENGTH + 1).astype(np.int64)
        return np.asarray(np.add.reduceat(channel, edges[:-1]) / np.diff(edges))
    return np.interp(np.linspace(0, count - 1, LENGTH), np.arange(count), channel)


def normalise(series: FloatArray) -> tuple[VectorArray, FloatArray, FloatArray]:
    """Resample and z-normalise channels: (channels, LENGTH) float32, and each channel's mean and spread.

    Scaled by the largest magnitude first, so that 1e300 or 1e-300 neither overflow nor vanish. A channel whose
    spread is within rounding of zero becomes all zeros: there is no shape to see.
    """
    scale = np.abs(series).max(1, keepdims=True)
    scale[scale == 0] = 1
    scaled = series / scale
    mean, spread = scaled.mean(1, keepdims=True), scaled.std(1, keepdims=True)
    flat = spread < 1e-13
    shape = np.where(flat, 0, (scaled - mean) / np.where(flat, 1, spread))
    resized = np.stack([resample(channel) for channel in shape]).astype(np.float32)
    return resized, (mean * scale)[:, 0], (spread * scale)[:, 0]


def views(channels: VectorArray) -> VectorArray:
    """(n, LENGTH) -> (n, 2, LENGTH): each channel and its first difference, the latter at unit spread."""
    steps = np.diff(channels, axis=1, prepend=channels[:, :1])
    spread = steps.std(1, keepdims=True)
    steps /= np.where(spread > 1e-6, spread, 1)
    return np.stack([channels, steps], axis=1)


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile with numba, which lets go of the interpreter lock; kept on disk where there is a place for it."""
    options = {"nogil": True, "fastmath": True, "boundscheck": False}
    try:
        compiled: Callable[..., None] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written: compile per process
        compiled = numba.njit(**options)(function)
    return compiled


def cpu_features(channels: VectorArray, biases: VectorArray, threads: int) -> VectorArray:
    """Features of z-normalised channels (n, LENGTH) under `biases` (2, dilations, kernels, quantiles), ascending.

    Returns (n, features) float32: for each kernel its proportions, its mean of positive values, how much it won
    and how often it lost. Rows are shared among `threads` threads; a row's features do not depend on the rows
    around it.
    """
    out = np.empty((len(channels), feature_count(biases.shape[3])), np.float32)
    shares = np.array_split(np.arange(len(channels)), max(1, min(threads, len(channels))))
    work = [(channels[share], biases, out[share[0] : share[-1] + 1]) for share in shares if len(share)]
    if len(work) > 1:
        with ThreadPoolExecutor(len(work)) as pool:
            list(pool.map(lambda arguments: _features_of_rows(*arguments), work))
    else:
        for arguments in work:
            _features_of_rows(*arguments)
    return out


def _features_of_rows(channels: VectorArray, biases: VectorArray, out: VectorArray) -> None:
    _pool_responses(views(channels), KERNELS, np.array(DILATIONS), biases, out)


@_compiled
def _pool_responses(series: Any, kernels: Any, dilations: Any, biases: Any, out: Any) -> None:
    """Fill `out` row by row; one row's intermediate results stay in the first-level cache."""
    rows, view_count, length = series.shape
    kernel_count, quantiles = kernels.shape[0], biases.shape[3]
    half, per_kernel = 4, quantiles + 3
    one_sample = np.float32(1) / np.float32(length)
    shifted = np.zeros((9, length), np.float32)
    base = np.zeros(length, np.float32)
    responses = np.zeros((GROUP, length), np.float32)
    highest = np.zeros(length, np.float32)
    lowest = np.zeros(length, np.float32)
    for row in range(rows):
        place = 0
        for view in range(view_count):
            values = series[row, view]
            for d in range(dilations.shape[0]):
                base[:] = 0
                for tap in range(9):
                    shift = (tap - half) * dilations[d]
                    shifted[tap, :] = 0
                    first, last = max(0, -shift), min(length, length - shift)
                    for t in range(first, last):
                        shifted[tap, t] = values[t + shift]
                    for t in range(length):
                        base[t] -= shifted[tap, t]
                for group in range(0, kernel_count, GROUP):
                    highest[:] = _SILENT
                    lowest[:] = -_SILENT
                    for member in range(GROUP):
                        k = group + member
                        response = responses[member]
                        one, two, three = shifted[kernels[k, 0]], shifted[kernels[k, 1]], shifted[kernels[k, 2]]
                        for t in range(length):
                            value = base[t] + np.float32(3) * (one[t] + two[t] + three[t])
                            response[t] = value
                            highest[t] = max(highest[t], value)
                            lowest[t] = min(lowest[t], value)
                        at = place + member * per_kernel
                        for q in range(0, quantiles - 1, 2):  # two in one pass: half the loads
                            low, high = biases[view, d, k, q], biases[view, d, k, q + 1]
                            above_low, above_high = np.int32(0), np.int32(0)
                            for t in range(length):
                                above_low += np.int32(response[t] > low)
                                above_high += np.int32(response[t] > high)
                            out[row, at + q] = np.float32(above_low) * one_sample
                            out[row, at + q + 1] = np.float32(above_high) * one_sample
                        last_bias, middle = biases[view, d, k, quantiles - 1], biases[view, d, k, quantiles // 2]
                        above_last, excess = np.int32(0), np.float32(0)
                        for t in range(length):
                            above_last += np.int32(response[t] > last_bias)
                            excess += max(response[t] - middle, np.float32(0))
                        out[row, at + quantiles - 1] = np.float32(above_last) * one_sample
                        out[row, at + quantiles] = excess * one_sample
                    for member in range(GROUP):
                        response = responses[member]
                        won, lost = np.float32(0), np.int32(0)
                        for t in range(length):
                            won += response[t] if response[t] > highest[t] - np.float32(_TIE) else np.float32(0)
                            lost += np.int32(response[t] < lowest[t] + np.float32(_TIE))
                        at = place + member * per_kernel + quantiles
                        out[row, at + 1] = won * one_sample
                        out[row, at + 2] = np.float32(lost) * one_sample
                    place += GROUP * per_kernel


def device_responses(channels: torch.Tensor, dilation: int) -> torch.Tensor:
    """Convolve (n, LENGTH) with every kernel at one dilation: (n, kernels, LENGTH), zero-padded, as a product."""
    reach = (TAPS // 2) * dilation
    padded = functional.pad(channels, (reach, reach))
    shifted = torch.stack([padded[:, tap * dilation : tap * dilation + LENGTH] for tap in range(TAPS)], dim=1)
    return torch.einsum("kt,ntl->nkl", _weights(channels.device), shifted)


def device_features(channels: VectorArray, biases: torch.Tensor) -> torch.Tensor:
    """The same features as `cpu_features`, on the device that holds `biases`."""
    both = torch.from_numpy(views(channels)).to(biases.device)
    parts = []
    for view in range(VIEWS):
        for index, dilation in enumerate(DILATIONS):
            responses = device_responses(both[:, view], dilation)
            levels = biases[view, index, :, :, None].unbind(1)
            pooled = [(responses > level).to(torch.float32).mean(-1) for level in levels]
            pooled.append(functional.relu(responses - levels[len(levels) // 2]).mean(-1))
            groups = responses.unflatten(1, (-1, GROUP))
            highest = groups.amax(2, keepdim=True).clamp(min=_SILENT)
            lowest = groups.amin(2, keepdim=True).clamp(max=-_SILENT)
            pooled.append(torch.where(groups > highest - _TIE, groups, 0).mean(-1).flatten(1))
            pooled.append((groups < lowest + _TIE).to(torch.float32).mean(-1).flatten(1))
            parts.append(torch.stack(pooled, dim=-1).flatten(1))
    return torch.cat(parts, dim=1)


def fit_biases(channels: VectorArray, quantiles: Sequence[float]) -> VectorArray:
    """Quantiles of the kernels' responses over z-normalised channels: (2, dilations, kernels, quantiles)."""
    both = torch.from_numpy(views(channels))
    levels = torch.tensor(quantiles, dtype=torch.float32)
    biases = np.empty((VIEWS, len(DILATIONS), len(KERNELS), len(quantiles)), np.float32)
    for view in range(VIEWS):
        for index, dilation in enumerate(DILATIONS):
            responses = device_responses(both[:, view], dilation).transpose(0, 1).flatten(1)
            biases[view, index] = torch.quantile(responses, levels, dim=1).T.numpy()
    return biases


def _weights(device: torch.device) -> torch.Tensor:
    weights = np.full((len(KERNELS), TAPS), -1, np.float32)
    np.put_along_axis(weights, KERNELS, 2, axis=1)
    return torch.from_numpy(weights).to(device)


def as_channels(values: npt.ArrayLike) -> VectorArray:
    """Normalise equally long univariate series (n, length) to (n, LENGTH), dropping level and spread."""
    return normalise(np.asarray(values, np.float64))[0]
