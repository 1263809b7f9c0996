"""Convolution features: both formulations and a plain definition agree; resampling keeps what it should."""

import numpy as np
import pytest
import torch

from lakebed.platform.corpus import varied_series
from lakebed.platform.encoder import convolution
from lakebed.platform.encoder.signal_tower import channel_signs, level_codes

SERIES = convolution.as_channels(varied_series(6, 300, np.random.default_rng(0)))
BIASES = convolution.fit_biases(SERIES, (0.2, 0.5, 0.9))


def _plain_feature(channel, kernel, dilation, bias):
    """Proportion of positive values, straight from the definition."""
    weights = np.full(convolution.TAPS, -1.0)
    weights[list(kernel)] = 2
    padded = np.pad(channel.astype(np.float64), 4 * dilation)
    response = sum(
        weight * padded[tap * dilation : tap * dilation + len(channel)] for tap, weight in enumerate(weights)
    )
    return (response > bias).mean()


def test_features_follow_the_definition():
    features = convolution.cpu_features(SERIES, BIASES, threads=1).reshape(len(SERIES), *BIASES.shape)
    both = convolution.views(SERIES)
    for row, view, dilation, kernel, quantile in ((0, 0, 0, 0, 0), (3, 1, 6, 83, 2), (5, 0, 4, 40, 1)):
        expected = _plain_feature(
            both[row, view],
            convolution.KERNELS[kernel],
            convolution.DILATIONS[dilation],
            BIASES[view, dilation, kernel, quantile],
        )
        assert features[row, view, dilation, kernel, quantile] == pytest.approx(
            expected, abs=1 / convolution.LENGTH
        )


def test_the_device_formulation_gives_the_same_features():
    cpu = convolution.cpu_features(SERIES, BIASES, threads=1)
    device = convolution.device_features(SERIES, torch.from_numpy(BIASES)).numpy()
    assert np.abs(cpu - device).max() <= 2 / convolution.LENGTH
    assert (cpu != device).mean() < 0.01


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
