"""Words for the attributes of a generated series: phrase banks and sentence templates, two disjoint sets of each.

The `train` banks teach the alignment head; the `test` banks hold other words and other sentences for the same
attributes, so that a retrieval score cannot come from remembered templates. Knows nothing of how series are made.
"""

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np

Split = Literal["train", "test"]
Bank = Mapping[str, Mapping[str, tuple[str, ...]]]

_TREND: Final[Mapping[Split, Mapping[str, tuple[str, ...]]]] = {
    "train": {
        "none": (
            "no trend",
            "a flat baseline",
            "a stable level",
            "no drift",
            "staying level overall",
            "a constant mean",
        ),
        "rising": (
            "an upward trend",
            "rising over time",
            "a steady increase",
            "climbing from start to end",
            "going up",
            "values that increase",
            "a positive slope",
            "gradually getting higher",
            "an uphill course",
        ),
        "falling": (
            "a downward trend",
            "falling over time",
            "a steady decrease",
            "dropping from start to end",
            "going down",
            "values that decrease",
            "a negative slope",
            "gradually getting lower",
            "a downhill course",
        ),
    },
    "test": {
        "none": ("no long-term change", "an even overall course"),
        "rising": ("growing throughout", "a gradual ascent"),
        "falling": ("declining throughout", "a gradual descent"),
    },
}

_CYCLE: Final[Mapping[Split, Mapping[str, tuple[str, ...]]]] = {
    "train": {
        "none": (
            "no periodicity",
            "no repeating cycle",
            "not periodic",
            "no oscillation",
            "aperiodic",
            "nothing regular",
        ),
        "slow": (
            "a slow {wave}",
            "a long-period {wave}",
            "a {wave} with few cycles",
            "a low-frequency {wave}",
            "a {wave} of two or three periods",
            "an unhurried {wave}",
        ),
        "medium": (
            "a {wave} of medium period",
            "a moderately fast {wave}",
            "a {wave} with several cycles",
            "a medium-frequency {wave}",
            "a {wave} of some eight periods",
        ),
        "fast": (
            "a fast {wave}",
            "a short-period {wave}",
            "a {wave} with many cycles",
            "a high-frequency {wave}",
            "a rapid {wave}",
            "a {wave} of dozens of periods",
        ),
    },
    "test": {
        "none": ("without any recurring pattern", "lacking cycles"),
        "slow": ("a slowly repeating {wave}", "a {wave} that takes long to repeat"),
        "medium": ("a {wave} repeating at an intermediate pace", "a {wave} of middling frequency"),
        "fast": ("a quickly repeating {wave}", "a {wave} that repeats rapidly"),
    },
}

_WAVE: Final[Mapping[Split, Mapping[str, tuple[str, ...]]]] = {
    "train": {
        "sine": (
            "sine wave",
            "smooth oscillation",
            "sinusoid",
            "harmonic wave",
            "sine",
            "gentle up-and-down swing",
        ),
        "square": (
            "square wave",
            "switching pattern",
            "rectangular wave",
            "on/off cycle",
            "two-level wave",
        ),
        "sawtooth": (
            "sawtooth wave",
            "ramp-and-reset pattern",
            "sawtooth",
            "repeated ramp",
            "series of linear ramps",
        ),
    },
    "test": {
        "sine": ("sinusoidal wave", "smooth wave"),
        "square": ("square-shaped wave", "rectangular on-off wave"),
        "sawtooth": ("sawtooth-shaped wave", "ramp wave that resets"),
    },
}

_NOISE: Final[Mapping[Split, Mapping[str, tuple[str, ...]]]] = {
    "train": {
        "clean": (
            "almost no noise",
            "a clean signal",
            "very little noise",
            "a smooth curve",
            "no noise",
            "low noise",
        ),
        "some": (
            "some noise",
            "moderate noise",
            "a moderately noisy signal",
            "a bit of noise",
            "slight randomness",
        ),
        "heavy": (
            "heavy noise",
            "strong noise",
            "a very noisy signal",
            "large random fluctuations",
            "high noise",
            "erratic scatter",
            "rough, random readings",
        ),
    },
    "test": {
        "clean": ("hardly any noise", "a noise-free look"),
        "some": ("a fair amount of noise", "medium noise"),
        "heavy": ("a lot of noise", "intense noise"),
    },
}

_EVENT: Final[Mapping[Split, Mapping[str, tuple[str, ...]]]] = {
    "train": {
        "none": (
            "no events",
            "nothing unusual",
            "no anomalies",
            "no sudden changes",
            "no outliers",
            "nothing eventful",
        ),
        "spike": (
            "a sharp spike {where}",
            "an upward spike {where}",
            "a sudden peak {where}",
            "a spike {where}",
            "a momentary surge {where}",
            "a narrow positive pulse {where}",
            "a high outlier {where}",
        ),
        "dip": (
            "a sharp dip {where}",
            "a downward spike {where}",
            "a sudden drop and recovery {where}",
            "a dip {where}",
            "a momentary drop {where}",
            "a narrow negative pulse {where}",
            "a low outlier {where}",
        ),
        "step up": (
            "a step up {where}",
            "a jump to a higher level {where}",
            "an upward level shift {where}",
            "a sudden lasting increase {where}",
            "switching on {where}",
        ),
        "step down": (
            "a step down {where}",
            "a fall to a lower level {where}",
            "a downward level shift {where}",
            "a sudden lasting decrease {where}",
            "switching off {where}",
        ),
        "burst": (
            "a burst of vibration {where}",
            "a burst of rapid activity {where}",
            "a vibration burst {where}",
            "a burst of oscillation {where}",
            "a short episode of shaking {where}",
            "brief high-frequency ringing {where}",
        ),
    },
    "test": {
        "none": ("no incident", "no abrupt event"),
        "spike": ("a brief spike upward {where}", "a pointed peak {where}"),
        "dip": ("a brief dip {where}", "a short plunge that recovers {where}"),
        "step up": ("a lasting shift upward {where}", "a step to a higher level {where}"),
        "step down": ("a lasting shift downward {where}", "a step to a lower level {where}"),
        "burst": ("a short burst of fast vibration {where}", "a flurry of rapid vibration {where}"),
    },
}

_WHERE: Final[Mapping[Split, Mapping[str, tuple[str, ...]]]] = {
    "train": {
        "early": (
            "near the start",
            "early on",
            "at the beginning",
            "early",
            "in the first third",
            "soon after it starts",
        ),
        "middle": (
            "in the middle",
            "halfway through",
            "around the centre",
            "at half time",
            "in the middle third",
        ),
        "late": (
            "near the end",
            "late",
            "towards the end",
            "late on",
            "in the last third",
            "shortly before it ends",
        ),
    },
    "test": {
        "early": ("in the opening part", "close to the start"),
        "middle": ("midway", "near the middle"),
        "late": ("in the final part", "close to the end"),
    },
}

_LEVEL: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": (
        "values around {level}",
        "a mean of about {level}",
        "an average near {level}",
        "centred on {level}",
        "readings of roughly {level}",
        "a level of {level}",
    ),
    "test": ("mean about {level}", "a typical value of {level}"),
}

_SPREAD: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": ("varying by about {spread}", "a spread of about {spread}", "a standard deviation near {spread}"),
    "test": ("fluctuating by roughly {spread}", "a variation of some {spread}"),
}

_CHANNELS: Final[Mapping[Split, Mapping[str, tuple[str, ...]]]] = {
    "train": {
        "1": ("a signal", "a single-channel recording", "one sensor's readings", "a time series"),
        "2": ("a two-channel signal", "a recording of two channels", "readings of two sensors"),
        "3": ("a three-channel signal", "a recording of three channels", "readings of three sensors"),
    },
    "test": {
        "1": ("a univariate series", "a curve from one channel"),
        "2": ("a bivariate series", "a series with two channels"),
        "3": ("a trivariate series", "a series with three channels"),
    },
}

_OPENINGS: Final = (
    "{channels} with {rest}.",
    "{channels}: {rest}.",
    "{channels} showing {rest}.",
    "{rest} in {channels}.",
)
"""Beginnings of a training sentence; what follows comes in any order, joined in any of these ways."""

_JOINTS: Final = (", ", "; ", " and ", ", with ")

_TEST_SENTENCES: Final = (
    "Here we see {channels}: {level}, {spread}; {noise}, {trend}, then {cycle}, and {event}.",
    "{trend} and {cycle} describe {channels}, which has {event}, {noise}, {level} and {spread}.",
    "Observed: {event}. Otherwise {channels} with {level}, {spread}, {cycle}, {trend} and {noise}.",
)

_BRIEF: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": (
        "{said}.",
        "{said}",
        "A signal with {said}.",
        "A time series with {said}.",
        "{said} in a recording.",
    ),
    "test": ("Series showing {said}.", "Find a curve with {said}."),
}


def caption(attributes: Mapping[str, str], generator: np.random.Generator, split: Split) -> str:
    """Say all attributes in one sentence, with words and a template drawn from the split's own banks."""
    parts = _phrases(attributes, generator, split)
    if split == "test":
        return _sentence(_pick(_TEST_SENTENCES, generator).format(**parts))
    order = generator.permutation(("trend", "cycle", "noise", "event", "level", "spread"))
    joints = [_pick(_JOINTS, generator) for _ in order[1:]]
    rest = "".join(parts[name] + joint for name, joint in zip(order, [*joints, ""], strict=True))
    return _sentence(_pick(_OPENINGS, generator).format(channels=parts["channels"], rest=rest))


def brief_caption(
    attributes: Mapping[str, str], generator: np.random.Generator, split: Split
) -> tuple[str, frozenset[str]]:
    """Say one to three things as a person searching would; return the words and the attributes they state."""
    parts = _phrases(attributes, generator, split)
    telling = [name for name in ("trend", "cycle", "event", "noise", "level") if attributes[name] != "none"]
    count = min(len(telling), int(generator.integers(1, 4)))
    chosen = [telling[place] for place in generator.permutation(len(telling))[:count]]
    said = " and ".join(parts[name] for name in chosen)
    stated = {name for part in chosen for name in (part, {"cycle": "wave", "event": "where"}.get(part, part))}
    return _sentence(_pick(_BRIEF[split], generator).format(said=said)), frozenset(stated)


def _phrases(attributes: Mapping[str, str], generator: np.random.Generator, split: Split) -> dict[str, str]:
    def pick(phrases: tuple[str, ...]) -> str:
        return _pick(phrases, generator)

    wave = pick(_WAVE[split][attributes["wave"]]) if attributes["cycle"] != "none" else ""
    where = pick(_WHERE[split][attributes["where"]]) if attributes["event"] != "none" else ""
    return {
        "channels": pick(_CHANNELS[split][attributes["channels"]]),
        "trend": pick(_TREND[split][attributes["trend"]]),
        "cycle": pick(_CYCLE[split][attributes["cycle"]]).format(wave=wave),
        "noise": pick(_NOISE[split][attributes["noise"]]),
        "event": pick(_EVENT[split][attributes["event"]]).format(where=where),
        "level": pick(_LEVEL[split]).format(level=attributes["level"]),
        "spread": pick(_SPREAD[split]).format(spread=attributes["spread"]),
    }


def _pick(phrases: tuple[str, ...], generator: np.random.Generator) -> str:
    return phrases[generator.integers(len(phrases))]


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
