"""Generated series with exact captions: attributes are drawn first, the series is made to have them, then said.

The attribute-first order follows ChatTS (arXiv 2412.03104): a caption can then never be wrong. Attribute
combinations are divided between the splits by a hash, and each split has phrases of its own, so a test pair shares
neither its sentence nor its combination with any training pair. Knows no encoder and no data set.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from lakebed.platform.captions import brief_caption, caption
from lakebed.platform.items import FloatArray
from lakebed.platform.phrases import Split

__all__ = ["Captioned", "Eventful", "Split", "captioned_series", "eventful_series", "level_pairs"]

_TRENDS: Final = ("none", "rising", "falling")
_CYCLES: Final = ("none", "slow", "medium", "fast")
_WAVES: Final = ("sine", "square", "sawtooth")
_NOISES: Final[Mapping[str, float]] = {"clean": 0.03, "some": 0.25, "heavy": 0.8}
_EVENTS: Final = ("none", "spike", "dip", "step up", "step down", "burst")
_PLACES: Final[Mapping[str, tuple[float, float]]] = {
    "early": (0.1, 0.28),
    "middle": (0.42, 0.58),
    "late": (0.72, 0.9),
}
_TURNS: Final[Mapping[str, tuple[float, float]]] = {"slow": (1.5, 3.5), "medium": (6, 10), "fast": (18, 30)}
EVENT_SAMPLES: Final = 200
"""How long an event put into a steady series takes with its margins."""

_HELD_OUT: Final = 5
"""One combination in so many is kept for the test split."""

Attributes = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Captioned:
    """A series (channels x samples), words that describe it, the attributes both came from, and which are said."""

    series: FloatArray
    caption: str
    attributes: Attributes
    stated: frozenset[str]


@dataclass(frozen=True, eq=False)
class Eventful:
    """A steady series (1 x samples) with events at `stretches` of samples, start to before stop."""

    series: FloatArray
    stretches: tuple[tuple[int, int], ...]


def captioned_series(count: int, *, seed: int, split: Split, brief: float = 0.0) -> list[Captioned]:
    """Draw `count` pairs; the same arguments give the same pairs on every machine.

    A share `brief` of the captions states only a few attributes, as a search query would; the others
    state all of them.
    """
    generator = np.random.default_rng([seed, 0 if split == "train" else 1])
    return [_captioned(generator, split, brief) for _ in range(count)]


def level_pairs(count: int, *, seed: int) -> list[tuple[Captioned, Captioned]]:
    """Draw pairs of the test split whose levels differ by a factor of 10, and nothing else does, nor do the words.

    A mean of about 40 against one of about 400: what z-normalisation alone cannot tell apart.
    """
    generator = np.random.default_rng([seed, 2])
    return [_level_pair(generator) for _ in range(count)]


def eventful_series(count: int, *, seed: int, length: int, head: float, events: int = 3) -> list[Eventful]:
    """Draw steady series of the test split's cycles, noises and levels, with `events` events after the `head`.

    An event lasts `EVENT_SAMPLES` at most and changes the series by several of its amplitudes.
    """
    generator = np.random.default_rng([seed, 3])
    return [_eventful(generator, length, head, events) for _ in range(count)]


def _eventful(generator: np.random.Generator, length: int, head: float, events: int) -> Eventful:
    steady = {**_attributes(generator, "test"), "trend": "none", "event": "none", "cycle": "fast"}
    shape = _channel(steady, length, generator)
    places = np.linspace(head * length, length, events + 1)[:-1]
    room = (1 - head) * length / events - EVENT_SAMPLES
    stretches = []
    for place in places:
        first = int(place + generator.uniform(0, max(room, 0)))
        kind = _EVENTS[1 + generator.integers(len(_EVENTS) - 1)]
        change = _event({"event": kind, "where": "middle"}, np.linspace(0, 1, EVENT_SAMPLES), generator)
        change = change[: length - first]
        felt = np.flatnonzero(np.abs(change) > 0.1 * np.abs(change).max())
        shape[first : first + len(change)] += change
        stretches.append((first + int(felt[0]), first + int(felt[-1]) + 1))
    series = float(steady["level"]) + float(steady["spread"]) * (shape - shape.mean()) / shape.std()
    return Eventful(series[np.newaxis], tuple(stretches))


def _level_pair(generator: np.random.Generator) -> tuple[Captioned, Captioned]:
    low = _attributes(generator, "test")
    high = {**low, "level": _in_words(10 * float(low["level"]))}
    state = int(generator.integers(2**32))
    first, second = (_paired(attributes, np.random.default_rng(state), "test", 0.0) for attributes in (low, high))
    return first, second


def _captioned(generator: np.random.Generator, split: Split, brief: float) -> Captioned:
    return _paired(_attributes(generator, split), generator, split, brief)


def _paired(attributes: Attributes, generator: np.random.Generator, split: Split, brief: float) -> Captioned:
    length = int(np.exp(generator.uniform(np.log(96), np.log(1024))))
    channels = [_channel(attributes, length, generator) for _ in range(int(attributes["channels"]))]
    shape = np.stack(channels)
    shape = (shape - shape.mean(1, keepdims=True)) / shape.std(1, keepdims=True)
    series = float(attributes["level"]) + float(attributes["spread"]) * shape
    if generator.uniform() < brief:
        words, stated = brief_caption(attributes, generator, split)
        return Captioned(series, words, attributes, stated)
    return Captioned(series, caption(attributes, generator, split), attributes, frozenset(attributes))


def _attributes(generator: np.random.Generator, split: Split) -> dict[str, str]:
    while True:
        drawn = {
            "trend": _TRENDS[generator.choice(3, p=(0.5, 0.25, 0.25))],
            "cycle": _CYCLES[generator.integers(4)],
            "wave": _WAVES[generator.integers(3)],
            "noise": list(_NOISES)[generator.integers(3)],
            "event": _EVENTS[generator.integers(6)],
            "where": list(_PLACES)[generator.integers(3)],
        }
        if _split_of(drawn) == split:
            break
    spread = 10 ** generator.uniform(-1, 3)
    level = generator.choice((-1, 1), p=(0.25, 0.75)) * spread * 10 ** generator.uniform(-1, 2)
    channels = int(generator.choice(3, p=(0.7, 0.15, 0.15))) + 1
    return {**drawn, "level": _in_words(level), "spread": _in_words(spread), "channels": str(channels)}


def _in_words(value: float) -> str:
    """A number as a person writes it: two significant digits, no exponent."""
    return np.format_float_positional(float(f"{value:.2g}"), trim="-")


def _split_of(attributes: Attributes) -> Split:
    """Which split owns this combination of trend, cycle, wave, event, place and noise."""
    cycle = f"{attributes['cycle']} {attributes['wave']}" if attributes["cycle"] != "none" else "none"
    event = f"{attributes['event']} {attributes['where']}" if attributes["event"] != "none" else "none"
    combination = f"{attributes['trend']}|{cycle}|{event}|{attributes['noise']}"
    share = hashlib.blake2b(combination.encode(), digest_size=4).digest()
    return "test" if int.from_bytes(share, "little") % _HELD_OUT == 0 else "train"


def _channel(attributes: Attributes, length: int, generator: np.random.Generator) -> FloatArray:
    """One channel with the attributes, in units of its cycle's amplitude."""
    time = np.linspace(0, 1, length)
    slope = {"none": 0.0, "rising": 1.0, "falling": -1.0}[attributes["trend"]]
    series = slope * generator.uniform(3, 5) * time
    series += _cycle(attributes, time, generator)
    series += _event(attributes, time, generator)
    roughness: FloatArray = generator.standard_normal(length)
    return np.asarray(series + _NOISES[attributes["noise"]] * generator.uniform(0.8, 1.2) * roughness)


def _cycle(attributes: Attributes, time: FloatArray, generator: np.random.Generator) -> FloatArray:
    if attributes["cycle"] == "none":
        return np.zeros_like(time)
    turns = generator.uniform(*_TURNS[attributes["cycle"]])
    phase = (turns * time + generator.uniform()) % 1
    if attributes["wave"] == "sine":
        return np.sin(2 * np.pi * phase)
    if attributes["wave"] == "square":
        return np.where(phase < 0.5, 1.0, -1.0)
    return 2 * phase - 1


def _event(attributes: Attributes, time: FloatArray, generator: np.random.Generator) -> FloatArray:
    event = attributes["event"]
    if event == "none":
        return np.zeros_like(time)
    centre = generator.uniform(*_PLACES[attributes["where"]])
    size = generator.uniform(4, 7)
    bump = np.exp(-0.5 * ((time - centre) / generator.uniform(0.008, 0.02)) ** 2)
    if event in ("spike", "dip"):
        return np.asarray((size if event == "spike" else -size) * bump)
    if event in ("step up", "step down"):
        return np.where(time > centre, size if event == "step up" else -size, 0.0) * 0.7
    window = np.exp(-0.5 * ((time - centre) / generator.uniform(0.03, 0.05)) ** 2)
    turns = min(generator.uniform(60, 90), len(time) / 4)  # no aliasing in a short series
    return np.asarray(0.6 * size * window * np.sin(2 * np.pi * turns * time))
