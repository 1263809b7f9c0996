"""Random-convolution features of single channels: proportions of positive values under fixed kernels.

The kernels are MiniRocket's (Dempster, Schmidt and Webb 2021, arXiv 2012.08791): the 84 ways to put three weights
of 2 among six of -1, at several dilations; here on the z-normalised channel, resized to `LENGTH` samples, and on
its first difference, with biases that are fixed once and not fitted to a data set. Two formulations give the same
features: `cpu_features` fuses convolution and counting in compiled loops that need no C++ compiler at run time;
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

from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.items import FloatArray

LENGTH: Final = 512
TAPS: Final = 9
DILATIONS: Final = (1, 2, 4, 8, 16, 32, 60)
KERNELS: Final = np.array(list(combinations(range(TAPS), 3)), np.int64)
VIEWS: Final = 2
"""The channel itself and its first difference."""


def feature_count(quantiles: int) -> int:
    """Number of features of one channel when there are `quantiles` biases per kernel, dilation and view."""
    return VIEWS * len(DILATIONS) * len(KERNELS) * quantiles


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

    Returns (n, features) float32 in 0 ... 1. Rows are shared among `threads` threads; a row's features do not
    depend on the rows around it.
    """
    out = np.empty((len(channels), biases.size), np.float32)
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
    _count_positive(views(channels), KERNELS, np.array(DILATIONS), biases, out)


@_compiled
def _count_positive(series: Any, kernels: Any, dilations: Any, biases: Any, out: Any) -> None:
    """Fill `out` row by row; one row's intermediate results stay in the first-level cache."""
    rows, view_count, length = series.shape
    kernel_count, quantiles = kernels.shape[0], biases.shape[3]
    half = 4
    shifted = np.zeros((9, length), np.float32)
    base = np.zeros(length, np.float32)
    response = np.zeros(length, np.float32)
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
                for k in range(kernel_count):
                    one, two, three = shifted[kernels[k, 0]], shifted[kernels[k, 1]], shifted[kernels[k, 2]]
                    for t in range(length):
                        response[t] = base[t] + np.float32(3) * (one[t] + two[t] + three[t])
                    for q in range(quantiles):
                        bias = biases[view, d, k, q]
                        count = np.int32(0)
                        for t in range(length):
                            count += np.int32(response[t] > bias)
                        out[row, place] = np.float32(count) / np.float32(length)
                        place += 1


def device_responses(channels: torch.Tensor, dilation: int) -> torch.Tensor:
    """Convolve (n, LENGTH) with every kernel at one dilation: (n, kernels, LENGTH), zero-padded, as a product."""
    reach = (TAPS // 2) * dilation
    padded = torch.nn.functional.pad(channels, (reach, reach))
    shifted = torch.stack([padded[:, tap * dilation : tap * dilation + LENGTH] for tap in range(TAPS)], dim=1)
    return torch.einsum("kt,ntl->nkl", _weights(channels.device), shifted)


def device_features(channels: VectorArray, biases: torch.Tensor) -> torch.Tensor:
    """The same features as `cpu_features`, on the device that holds `biases`."""
    both = torch.from_numpy(views(channels)).to(biases.device)
    parts = []
    for view in range(VIEWS):
        for index, dilation in enumerate(DILATIONS):
            responses = device_responses(both[:, view], dilation)
            counted = [
                (responses > biases[view, index, :, q, None]).to(torch.float32).mean(-1)
                for q in range(biases.shape[3])
            ]
            parts.append(torch.stack(counted, dim=-1).flatten(1))
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
