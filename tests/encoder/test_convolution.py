"""Convolution features: both formulations and a plain definition agree; resampling keeps what it should."""

import numpy as np
import pytest
import torch

from lakebed.platform.corpus import varied_series
from lakebed.platform.encoder import convolution
from lakebed.platform.encoder.signal_tower import channel_signs, level_codes

SERIES = convolution.as_channels(varied_series(6, 300, np.random.default_rng(0)))
BIASES = convolution.fit_biases(SERIES, (0.2, 0.5, 0.9))


def _plain_response(channel, kernel, dilation):
    """Convolution, straight from the definition."""
    weights = np.full(convolution.TAPS, -1.0)
    weights[list(kernel)] = 2
    padded = np.pad(channel.astype(np.float64), 4 * dilation)
    return sum(
        weight * padded[tap * dilation : tap * dilation + len(channel)] for tap, weight in enumerate(weights)
    )


@pytest.mark.parametrize(("row", "view", "dilation", "kernel"), [(0, 0, 0, 0), (3, 1, 6, 83), (5, 0, 4, 40)])
def test_features_follow_the_definition(row, view, dilation, kernel):
    pooled = convolution.cpu_features(SERIES, BIASES, threads=1)
    pooled = pooled.reshape(len(SERIES), *BIASES.shape[:3], BIASES.shape[3] + 3)[row, view, dilation, kernel]
    channel = convolution.views(SERIES)[row, view]
    first = kernel - kernel % convolution.GROUP
    group = np.stack([
        _plain_response(channel, convolution.KERNELS[first + member], convolution.DILATIONS[dilation])
        for member in range(convolution.GROUP)
    ])  # fmt: skip
    response = group[kernel - first]
    biases = BIASES[view, dilation, kernel]
    assert pooled[:-3] == pytest.approx((response[:, None] > biases).mean(0), abs=1 / convolution.LENGTH)
    assert pooled[-3] == pytest.approx(np.maximum(response - biases[1], 0).mean(), rel=1e-3)
    won = (response > 0.01) & (response > group.max(0) - 1e-3)
    lost = (response < -0.01) & (response < group.min(0) + 1e-3)
    assert pooled[-2] == pytest.approx(np.where(won, response, 0).mean(), rel=1e-2, abs=1e-3)
    assert pooled[-1] == pytest.approx(lost.mean(), abs=2 / convolution.LENGTH)


def test_kernels_that_tie_all_win_and_lose_and_silence_is_neither():
    ramp = np.linspace(-1, 1, convolution.LENGTH, dtype=np.float32)[None]
    flat = np.zeros((1, convolution.LENGTH), np.float32)
    features = [convolution.cpu_features(channel, BIASES, threads=1) for channel in (ramp, flat)]
    shape = (*BIASES.shape[:3], BIASES.shape[3] + 3)
    slope, nothing = (pooled.reshape(shape)[..., -2:] for pooled in features)
    assert (nothing == 0).all()
    # Where a ramp's window lies inside, kernels with the same sum of places respond alike.
    sums = convolution.KERNELS.sum(1).reshape(-1, convolution.GROUP)
    for group, total in enumerate(sums):
        best = np.flatnonzero(total == total.max()) + group * convolution.GROUP
        if total.max() > 12:
            lengths = slope[0, 3, best, 0]
            assert (lengths > 0).all()
            assert np.ptp(lengths) < 0.2 * lengths.max()


def test_the_device_formulation_gives_the_same_features():
    cpu = convolution.cpu_features(SERIES, BIASES, threads=1)
    device = convolution.device_features(SERIES, torch.from_numpy(BIASES)).numpy()
    assert cpu.shape == device.shape == (len(SERIES), convolution.feature_count(BIASES.shape[3]))
    assert np.abs(cpu - device).max() <= 4 / convolution.LENGTH
    assert (np.abs(cpu - device) > 1e-5).mean() < 0.01


def test_kernels_are_the_84_and_groups_are_whole():
    assert len({tuple(kernel) for kernel in convolution.KERNELS}) == len(convolution.KERNELS) == 84
    assert len(convolution.KERNELS) % convolution.GROUP == 0


def test_features_do_not_depend_on_threads_or_neighbours():
    together = convolution.cpu_features(SERIES, BIASES, threads=2)
    alone = np.concatenate([convolution.cpu_features(row[None], BIASES, threads=1) for row in SERIES])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("count", [1, 2, 511, 512, 513, 1023, 1024, 5000])
def test_resampling_keeps_a_ramp_a_ramp(count):
    resampled = convolution.resample(np.linspace(0.0, 1.0, count))
    assert len(resampled) == convolution.LENGTH
    assert np.allclose(np.diff(resampled, 2), 0, atol=2e-3)


def test_fast_content_of_a_long_series_does_not_alias():
    fast = np.sin(np.pi * 0.97 * np.arange(100_000))
    assert np.abs(convolution.resample(fast)).max() < 0.1


def test_a_channel_keeps_its_signs_whatever_surrounds_it():
    signs = channel_signs(np.array([2, 0, 3]), 40)
    assert np.array_equal(signs[[0, 1]], signs[[2, 3]])
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs((signs[1] * signs[4]).mean()) < 0.6


def test_level_codes_tell_sizes_apart():
    codes = level_codes(np.array([[40.0, 1], [400, 1], [-40, 1], [41, 1], [0, 0], [1e300, 1e-300]]))
    assert np.isfinite(codes).all()
    assert np.abs(codes).max() <= 1
    distance = np.linalg.norm(codes[:, None] - codes[None], axis=2)
    assert distance[0, 1] > 5 * distance[0, 3] > 0
