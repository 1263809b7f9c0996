"""What happens to signals on their way: noise, lost samples, another rate, swapped channels, gain and offset.

And to texts: typing errors and capitals. A perturbation has a name, such as `noise_10db`, and changes one item at
a time. What is random in it is drawn from the seed, the name and the content of the item, so an item is perturbed
alike in every company.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

import numpy as np

from lakebed.eval.series_files import without_missing
from lakebed.platform.config.entries.robustness import Robustness
from lakebed.platform.items import FloatArray, Item

Change = Callable[[FloatArray, np.random.Generator], FloatArray]
Rewriting = Callable[[str, np.random.Generator], str]

_LARGEST_FACTOR: Final = 100
"""Sampling rates are changed by a ratio of whole numbers up to this."""


class Perturbation(Protocol):
    """A named change of one item."""

    @property
    def name(self) -> str:
        """What figures call it."""
        ...

    def applies_to(self, item: Item) -> bool:
        """Whether there is something to change."""
        ...

    def of(self, item: Item, seed: int) -> Item:
        """Return the item changed; the same seed changes it alike."""
        ...


@dataclass(frozen=True, eq=False)
class OfText:
    """A named change of a text."""

    name: str
    rewrite: Rewriting

    def applies_to(self, item: Item) -> bool:
        """To texts without a series, which would outweigh what is done to the text."""
        return item.text is not None and item.series is None

    def of(self, item: Item, seed: int) -> Item:
        """Return the item with its text rewritten."""
        assert item.text is not None
        return Item.of(self.rewrite(item.text, _generator(self.name, item, seed)))


@dataclass(frozen=True, eq=False)
class OfSeries:
    """A named change of a series (channels x samples); `rate` is by how much it changes the sampling rate."""

    name: str
    change: Change
    rate: float = 1.0
    needs_channels: int = 1

    def applies_to(self, item: Item) -> bool:
        """To series with enough channels."""
        return item.series is not None and len(item.series) >= self.needs_channels

    def of(self, item: Item, seed: int) -> Item:
        """Return the item with its series changed."""
        assert item.series is not None
        changed = self.change(item.series, _generator(self.name, item, seed))
        rate = None if item.sampling_rate is None else item.sampling_rate * self.rate
        return Item.of(item.text, changed, item.channel_names, rate)


def _generator(name: str, item: Item, seed: int) -> np.random.Generator:
    drawn_from = hashlib.blake2b(f"{seed} {name} {item.content_key()}".encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(drawn_from, "little"))


def perturbations(entry: Robustness) -> Iterator[Perturbation]:
    """Every perturbation that an entry asks for, the gentle ones of a kind first as they are listed."""
    for ratio in entry.noise_db:
        yield OfSeries(f"noise_{_named(ratio)}db", _noise(ratio))
    for share in entry.missing:
        yield OfSeries(f"missing_{_named(100 * share)}pct", _losing(share))
    for factor in entry.resampled:
        yield OfSeries(f"resampled_{_named(factor)}x", _resampling(factor), rate=factor)
    if entry.permuted:
        yield OfSeries("permuted", lambda series, _: np.roll(series, 1, axis=0), needs_channels=2)
    for factor in entry.gain:
        yield OfSeries(f"gain_{_named(factor)}x", _scaling(factor))
    for shift in entry.offset:
        yield OfSeries(f"offset_{_named(shift)}sd", _shifting(shift))
    for share in entry.typos:
        yield OfText(f"typos_{_named(100 * share)}pct", _mistyping(share))
    if entry.upper_case:
        yield OfText("upper_case", lambda text, _: text.upper())


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


def _mistyping(share: float) -> Rewriting:
    """Letters that change places with the next, within words; each with this probability."""

    def rewrite(text: str, generator: np.random.Generator) -> str:
        letters = list(text)
        for place in np.flatnonzero(generator.uniform(size=len(letters) - 1) < share):
            if letters[place].isalpha() and letters[place + 1].isalpha():
                letters[place], letters[place + 1] = letters[place + 1], letters[place]
        return "".join(letters)

    return rewrite
