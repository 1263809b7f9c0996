"""What happens to signals on their way: noise, lost samples, another rate, swapped channels, gain and offset.

A perturbation has a name, such as `noise_10db`, and changes one series at a time. What is random in it is drawn
from the seed, the name and the content of the series, so a series is perturbed alike in every company.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from lakebed.eval.series_files import without_missing
from lakebed.platform.config.entries.robustness import Robustness
from lakebed.platform.items import FloatArray, Item

Change = Callable[[FloatArray, np.random.Generator], FloatArray]

_LARGEST_FACTOR: Final = 100
"""Sampling rates are changed by a ratio of whole numbers up to this."""


@dataclass(frozen=True, eq=False)
class Perturbation:
    """A named change of a series (channels x samples); `rate` is by how much it changes the sampling rate."""

    name: str
    change: Change
    rate: float = 1.0
    needs_channels: int = 1

    def of(self, item: Item, seed: int) -> Item:
        """Return the item with its series changed; the same seed changes it alike."""
        assert item.series is not None
        drawn_from = hashlib.blake2b(f"{seed} {self.name} {item.content_key()}".encode(), digest_size=8).digest()
        changed = self.change(item.series, np.random.default_rng(int.from_bytes(drawn_from, "little")))
        rate = None if item.sampling_rate is None else item.sampling_rate * self.rate
        return Item.of(item.text, changed, item.channel_names, rate)


def perturbations(entry: Robustness) -> Iterator[Perturbation]:
    """Every perturbation that an entry asks for, the gentle ones of a kind first as they are listed."""
    for ratio in entry.noise_db:
        yield Perturbation(f"noise_{_named(ratio)}db", _noise(ratio))
    for share in entry.missing:
        yield Perturbation(f"missing_{_named(100 * share)}pct", _losing(share))
    for factor in entry.resampled:
        yield Perturbation(f"resampled_{_named(factor)}x", _resampling(factor), rate=factor)
    if entry.permuted:
        yield Perturbation("permuted", lambda series, _: np.roll(series, 1, axis=0), needs_channels=2)
    for factor in entry.gain:
        yield Perturbation(f"gain_{_named(factor)}x", _scaling(factor))
    for shift in entry.offset:
        yield Perturbation(f"offset_{_named(shift)}sd", _shifting(shift))


def _named(value: float) -> str:
    """A number as MLflow lets it stand in a name: 0.5 is 0.5, -5 is m5."""
    return f"{value:g}".replace("-", "m")


def _noise(decibels: float) -> Change:
    """White Gaussian noise; the signal's power is its variance about its mean, channel by channel."""

    def change(series: FloatArray, generator: np.random.Generator) -> FloatArray:
        deviation = series.std(axis=1, keepdims=True) * 10 ** (-decibels / 20)
        return np.asarray(series + deviation * generator.standard_normal(series.shape))

    return change


def _losing(share: float) -> Change:
    """Each sample of each channel is lost with this probability; one of a channel always stays."""

    def change(series: FloatArray, generator: np.random.Generator) -> FloatArray:
        lost = generator.uniform(size=series.shape) < share
        lost[np.arange(len(series)), generator.integers(series.shape[1], size=len(series))] = False
        return without_missing(np.where(lost, np.nan, series), "a perturbed series")[0]

    return change


def _resampling(factor: float) -> Change:
    """Polyphase filtering, which lets nothing alias; ends are carried on by a line."""
    ratio = Fraction(factor).limit_denominator(_LARGEST_FACTOR)

    def change(series: FloatArray, _: np.random.Generator) -> FloatArray:
        from scipy.signal import resample_poly

        return np.asarray(resample_poly(series, ratio.numerator, ratio.denominator, axis=1, padtype="line"))

    return change


def _scaling(factor: float) -> Change:
    return lambda series, _: series * factor


def _shifting(deviations: float) -> Change:
    return lambda series, _: series + deviations * series.std(axis=1, keepdims=True)
