"""Unlabelled generated series for fitting what a signal encoder must fit: many kinds of shape, and gentle changes.

`varied_series` draws shapes; `altered` changes a series the way a second recording of the same thing differs from
the first. Nothing here is, or was fitted to, recorded data. The mixture of kernels follows the idea of KernelSynth
(Ansari et al. 2024, arXiv 2403.07815), drawn here from random Fourier features; the rest are processes of sensors:
walks, resonances, beats, switching loads, steps, chirps, bursts.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from lakebed.platform.items import FloatArray

Generator = np.random.Generator


def varied_series(count: int, length: int, generator: Generator) -> FloatArray:
    """Draw (count, length) univariate series: one process, or two added, multiplied or joined in time."""
    return np.stack([_mixture(length, generator) for _ in range(count)])


def altered(series: FloatArray, generator: Generator) -> FloatArray:
    """Return (n, length) series as if recorded again: warped, cropped, with other gain, drift and noise."""
    return np.stack([_alter(row, generator) for row in series])


def _mixture(length: int, generator: Generator) -> FloatArray:
    first = _unit(_draw(length, generator))
    how = generator.uniform()
    if how < 0.4:
        mixed = first
    elif how < 0.7:
        mixed = first + generator.uniform(0.2, 1) * _unit(_draw(length, generator))
    elif how < 0.85:
        mixed = first * (1 + generator.uniform(0.2, 1) * _unit(_draw(length, generator)))
    else:
        cut = generator.integers(length // 5, 4 * length // 5)
        mixed = np.concatenate([first[:cut], _unit(_draw(length, generator))[cut:]])
    noise = 10 ** generator.uniform(-3, -0.3)
    return np.asarray(_unit(mixed) + noise * generator.standard_normal(length))


def _draw(length: int, generator: Generator) -> FloatArray:
    return _PROCESSES[generator.integers(len(_PROCESSES))](length, generator)


def _unit(series: FloatArray) -> FloatArray:
    spread = series.std()
    return np.asarray((series - series.mean()) / (spread if spread > 1e-9 else 1))


def _walk(length: int, generator: Generator) -> FloatArray:
    steps = generator.standard_t(generator.choice((2.5, 5, 50)), length)
    walk = np.cumsum(steps)
    return np.cumsum(_unit(walk)) if generator.uniform() < 0.3 else walk


def _coloured_noise(length: int, generator: Generator) -> FloatArray:
    spectrum = np.fft.rfft(generator.standard_normal(length))
    frequency = np.arange(len(spectrum)) + 1.0
    return np.fft.irfft(spectrum * frequency ** -generator.uniform(0.2, 2), length)


def _kernel(length: int, generator: Generator) -> FloatArray:
    """A smooth, periodic or rough Gaussian process from random Fourier features."""
    time = np.linspace(0, 1, length)
    count = 32
    scale = 10 ** generator.uniform(0, 1.8)
    heavy = generator.uniform() < 0.5
    frequency = scale * (generator.standard_cauchy(count) if heavy else generator.standard_normal(count))
    frequency = np.clip(frequency, -length / 4, length / 4)
    if generator.uniform() < 0.4:  # a periodic kernel: harmonics of one frequency
        frequency = scale * np.arange(1, count + 1).clip(max=length / (4 * scale))
    weight = generator.standard_normal(count) / (np.arange(count) + 1) ** generator.uniform(0, 1.5)
    phase = generator.uniform(0, 2 * np.pi, count)
    return np.asarray(weight @ np.cos(2 * np.pi * frequency[:, None] * time + phase[:, None]))


def _chirp(length: int, generator: Generator) -> FloatArray:
    time = np.linspace(0, 1, length)
    start, stop = 10 ** generator.uniform(0, 1.8, 2)
    phase = start * time + (stop - start) * time**2 / 2
    return np.asarray(np.sin(2 * np.pi * (phase + generator.uniform())))


def _beats(length: int, generator: Generator) -> FloatArray:
    """A template repeated at a slightly irregular pace, as hearts, steps and machines do."""
    period = length / generator.uniform(2, 25)
    width = max(4, int(period * generator.uniform(0.5, 1)))
    place = np.linspace(-1, 1, width)
    centres, widths = generator.uniform(-0.8, 0.8, 4), 10 ** generator.uniform(-1.5, -0.3, 4)
    template = generator.standard_normal(4) @ np.exp(-0.5 * ((place - centres[:, None]) / widths[:, None]) ** 2)
    series = np.zeros(length + width)
    at = -generator.uniform() * period
    while at < length:
        begin = max(0, int(at))
        series[begin : begin + width] += template * generator.normal(1, 0.08)
        at += period * generator.normal(1, 0.05)
    return series[:length]


def _switching(length: int, generator: Generator) -> FloatArray:
    """Levels held between random switches, as of an appliance or a valve."""
    levels = generator.choice(generator.standard_normal(generator.integers(2, 6)), generator.integers(3, 24))
    edges = np.sort(generator.integers(0, length, len(levels) - 1))
    held = levels[np.searchsorted(edges, np.arange(length), side="right")]
    lag = generator.uniform(0, length / 40)
    smoothing = np.exp(-np.arange(int(5 * lag) + 1) / max(lag, 1e-3))
    return np.convolve(held - held[0], smoothing / smoothing.sum())[:length]


def _ramps(length: int, generator: Generator) -> FloatArray:
    knots = np.sort(np.concatenate([[0, length - 1], generator.uniform(0, length - 1, generator.integers(1, 12))]))
    return np.asarray(np.interp(np.arange(length), knots, generator.standard_normal(len(knots))))


def _bumps(length: int, generator: Generator) -> FloatArray:
    """A few shapes at random places: an outline, a spectrum, a gesture."""
    time = np.linspace(0, 1, length)
    count = generator.integers(1, 9)
    centres, widths = generator.uniform(0, 1, count), 10 ** generator.uniform(-2.3, -0.7, count)
    return np.asarray(
        generator.standard_normal(count) @ np.exp(-0.5 * ((time - centres[:, None]) / widths[:, None]) ** 2)
    )


def _bursts(length: int, generator: Generator) -> FloatArray:
    """Decaying oscillations that start at random times."""
    time = np.linspace(0, 1, length)
    series = 0.05 * generator.standard_normal(length)
    for start in generator.uniform(0, 0.9, generator.integers(1, 6)):
        after = np.clip(time - start, 0, None)
        decay = np.exp(-after * 10 ** generator.uniform(0.5, 1.8))
        series += (after > 0) * decay * np.sin(2 * np.pi * 10 ** generator.uniform(0.5, 2) * after)
    return series


def _resonance(length: int, generator: Generator) -> FloatArray:
    """Noise through a second-order resonance (an AR(2) process), filtered in the frequency domain."""
    frequency = np.fft.rfftfreq(length)
    centre, width = 10 ** generator.uniform(-2.2, -0.5), 10 ** generator.uniform(-2.5, -1)
    gain = 1 / np.sqrt((frequency**2 - centre**2) ** 2 + (width * frequency) ** 2 + 1e-9)
    return np.fft.irfft(np.fft.rfft(generator.standard_normal(length)) * gain, length)


_PROCESSES: Final[tuple[Callable[[int, Generator], FloatArray], ...]] = (
    _walk,
    _coloured_noise,
    _kernel,
    _kernel,
    _chirp,
    _beats,
    _switching,
    _ramps,
    _bumps,
    _bumps,
    _bursts,
    _resonance,
)


def _smooth(length: int, knots: int, generator: Generator) -> FloatArray:
    """A slow random curve of unit-normal knots."""
    places = np.linspace(0, length - 1, knots)
    return np.asarray(np.interp(np.arange(length), places, generator.standard_normal(knots)))


def _alter(row: FloatArray, generator: Generator) -> FloatArray:
    length = len(row)
    left, right = generator.uniform(0, 0.12, 2) * length
    pace = np.exp(0.25 * _smooth(length, 6, generator))
    place = np.cumsum(pace) - pace[0]
    place = left + place / place[-1] * (length - 1 - left - right)
    spread = row.std()
    changed = np.interp(place, np.arange(length), row)
    changed *= 1 + 0.12 * _smooth(length, 4, generator)
    changed += 0.15 * spread * _smooth(length, 4, generator)
    return np.asarray(changed + 0.06 * spread * generator.standard_normal(length))
