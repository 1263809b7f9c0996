"""Words for the attributes of a generated series: phrase banks and sentence templates, two disjoint sets of each.

The `train` banks teach the description heads; the `test` banks hold other phrases and other sentences for the same
attributes, so that a retrieval score cannot come from remembered templates. They share single words. Knows nothing
of how series are made.
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
            "no overall direction",
            "trendless behaviour",
            "neither rising nor falling",
            "a stationary mean",
            "a steady baseline",
            "a horizontal course",
            "a level that stays put",
            "an unchanging average",
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
            "an increasing trend",
            "trending upwards",
            "an upward drift",
            "a slow climb",
            "steady growth",
            "a gradual rise",
            "ascending values",
            "ending higher than it starts",
            "an overall increase",
            "a long-term increase",
            "a persistent upward movement",
            "moving higher and higher",
            "creeping up",
            "an ascent from left to right",
            "values that grow with time",
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
            "a decreasing trend",
            "trending downwards",
            "a downward drift",
            "a slow slide",
            "steady decline",
            "a gradual fall",
            "descending values",
            "ending lower than it starts",
            "an overall decrease",
            "a long-term decrease",
            "a persistent downward movement",
            "moving lower and lower",
            "sinking slowly",
            "a descent from left to right",
            "values that shrink with time",
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
            "no seasonality",
            "no rhythm",
            "non-periodic behaviour",
            "no recurring wave",
            "nothing that repeats",
            "the absence of cycles",
        ),
        "slow": (
            "a slow {wave}",
            "a long-period {wave}",
            "a {wave} with few cycles",
            "a low-frequency {wave}",
            "a {wave} of two or three periods",
            "an unhurried {wave}",
            "a {wave} with a long period",
            "a {wave} that swings slowly",
            "a leisurely {wave}",
            "just a few cycles of a {wave}",
            "a {wave} of low frequency",
            "a broad {wave}",
            "a {wave} that recurs rarely",
        ),
        "medium": (
            "a {wave} of medium period",
            "a moderately fast {wave}",
            "a {wave} with several cycles",
            "a medium-frequency {wave}",
            "a {wave} of some eight periods",
            "a {wave} of moderate frequency",
            "a {wave} neither slow nor fast",
            "about eight cycles of a {wave}",
            "a {wave} at a middle frequency",
            "a mid-frequency {wave}",
            "a {wave} of average pace",
        ),
        "fast": (
            "a fast {wave}",
            "a short-period {wave}",
            "a {wave} with many cycles",
            "a high-frequency {wave}",
            "a rapid {wave}",
            "a {wave} of dozens of periods",
            "a {wave} with a short period",
            "a quick {wave}",
            "a {wave} that cycles quickly",
            "many cycles of a {wave}",
            "a {wave} of high frequency",
            "a swift {wave}",
            "a {wave} that recurs often",
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
            "sinusoidal oscillation",
            "rounded wave",
            "sine-like cycle",
            "smoothly varying cycle",
            "sinusoidal pattern",
            "pure tone",
        ),
        "square": (
            "square wave",
            "switching pattern",
            "rectangular wave",
            "on/off cycle",
            "two-level wave",
            "square pattern",
            "on-off pattern",
            "square oscillation",
            "rectangular pulse train",
            "alternation between two levels",
            "square cycle",
            "blocky wave",
        ),
        "sawtooth": (
            "sawtooth wave",
            "ramp-and-reset pattern",
            "sawtooth",
            "repeated ramp",
            "series of linear ramps",
            "sawtooth pattern",
            "saw-shaped oscillation",
            "sawtooth cycle",
            "ramping wave",
            "cycle of slow ramps and sudden resets",
            "saw wave",
            "repeating ramp that drops back",
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
            "barely any noise",
            "a noiseless trace",
            "clean readings",
            "little randomness",
            "negligible noise",
            "a clear, smooth line",
            "minimal noise",
        ),
        "some": (
            "some noise",
            "moderate noise",
            "a moderately noisy signal",
            "a bit of noise",
            "slight randomness",
            "mild noise",
            "a moderate amount of noise",
            "noise of middling strength",
            "somewhat noisy readings",
            "modest noise",
            "a little jitter",
            "average noise",
        ),
        "heavy": (
            "heavy noise",
            "strong noise",
            "a very noisy signal",
            "large random fluctuations",
            "high noise",
            "erratic scatter",
            "rough, random readings",
            "severe noise",
            "much noise",
            "very noisy readings",
            "lots of randomness",
            "a highly noisy trace",
            "extreme noise",
            "plenty of noise",
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
            "no special event",
            "no abrupt change",
            "an uneventful course",
            "no spikes or steps",
            "nothing out of the ordinary",
            "without disturbances",
        ),
        "spike": (
            "a sharp spike {where}",
            "an upward spike {where}",
            "a sudden peak {where}",
            "a spike {where}",
            "a momentary surge {where}",
            "a narrow positive pulse {where}",
            "a high outlier {where}",
            "a sharp peak {where}",
            "a short upward pulse {where}",
            "a brief jump up and back {where}",
            "a positive spike {where}",
            "a tall narrow peak {where}",
            "an isolated peak {where}",
            "a short-lived rise {where}",
        ),
        "dip": (
            "a sharp dip {where}",
            "a downward spike {where}",
            "a sudden drop and recovery {where}",
            "a dip {where}",
            "a momentary drop {where}",
            "a narrow negative pulse {where}",
            "a low outlier {where}",
            "a sharp trough {where}",
            "a short downward pulse {where}",
            "a brief fall and return {where}",
            "a negative spike {where}",
            "a deep narrow trough {where}",
            "a short-lived drop {where}",
            "a plunge and recovery {where}",
        ),
        "step up": (
            "a step up {where}",
            "a jump to a higher level {where}",
            "an upward level shift {where}",
            "a sudden lasting increase {where}",
            "switching on {where}",
            "an upward step {where}",
            "a permanent shift upwards {where}",
            "an abrupt rise that stays {where}",
            "a level change upward {where}",
            "moving to a higher plateau {where}",
            "a step increase {where}",
            "a jump upward that persists {where}",
        ),
        "step down": (
            "a step down {where}",
            "a fall to a lower level {where}",
            "a downward level shift {where}",
            "a sudden lasting decrease {where}",
            "switching off {where}",
            "a downward step {where}",
            "a permanent shift downwards {where}",
            "an abrupt fall that stays {where}",
            "a level change downward {where}",
            "moving to a lower plateau {where}",
            "a step decrease {where}",
            "a drop that persists {where}",
        ),
        "burst": (
            "a burst of vibration {where}",
            "a burst of rapid activity {where}",
            "a vibration burst {where}",
            "a burst of oscillation {where}",
            "a short episode of shaking {where}",
            "brief high-frequency ringing {where}",
            "a brief burst of oscillations {where}",
            "a packet of fast vibration {where}",
            "a short stretch of quick vibration {where}",
            "a flutter {where}",
            "a burst of high-frequency activity {where}",
            "rapid shaking for a moment {where}",
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
            "near the beginning",
            "at the start",
            "in the beginning",
            "in the early part",
            "towards the start",
            "at the outset",
            "in the first part",
        ),
        "middle": (
            "in the middle",
            "halfway through",
            "around the centre",
            "at half time",
            "in the middle third",
            "near the centre",
            "in the middle part",
            "about halfway",
            "at the midpoint",
            "around the middle",
            "in the central part",
            "partway through",
        ),
        "late": (
            "near the end",
            "late",
            "towards the end",
            "late on",
            "in the last third",
            "shortly before it ends",
            "at the end",
            "in the end",
            "in the last part",
            "in the late part",
            "around the end",
            "near its close",
            "in the closing part",
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
        "a mean near {level}",
        "mean {level}",
        "an average of {level}",
        "average {level}",
        "values near {level}",
        "values of about {level}",
        "a base level of {level}",
        "hovering around {level}",
        "a mean value of {level}",
        "a mean of about {level}",
        "an average near {level}",
        "centred on {level}",
        "readings of roughly {level}",
        "a level of {level}",
    ),
    "test": ("mean about {level}", "a typical value of {level}"),
}

_SPREAD: Final[Mapping[Split, tuple[str, ...]]] = {
    "train": (
        "varying by about {spread}",
        "a spread of about {spread}",
        "a standard deviation near {spread}",
        "a standard deviation of {spread}",
        "deviating by about {spread}",
        "a typical deviation of {spread}",
        "spread {spread}",
        "values that vary by {spread}",
        "a scatter of around {spread}",
        "swings of about {spread}",
        "changes of some {spread}",
    ),
    "test": ("fluctuating by roughly {spread}", "a variation of some {spread}"),
}

_CHANNELS: Final[Mapping[Split, Mapping[str, tuple[str, ...]]]] = {
    "train": {
        "1": (
            "a signal",
            "a single-channel recording",
            "one sensor's readings",
            "a time series",
            "a one-channel signal",
            "a recording of a single channel",
            "readings of one sensor",
            "a single series",
        ),
        "2": (
            "a two-channel signal",
            "a recording of two channels",
            "readings of two sensors",
            "two series",
            "a dual-channel recording",
            "two channels",
            "a pair of series",
            "a signal with two channels",
        ),
        "3": (
            "a three-channel signal",
            "a recording of three channels",
            "readings of three sensors",
            "three series",
            "a triple-channel recording",
            "three channels",
            "three series together",
            "a signal with three channels",
        ),
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
    "This is {channels} with {rest}.",
    "{channels}; it has {rest}.",
    "{channels} that has {rest}",
    "The recording is {channels}: {rest}.",
    "A plot of {channels} with {rest}.",
    "{rest}: {channels}.",
    "{channels}, {rest}",
    "You can see {rest} in {channels}.",
    "It is {channels}. It shows {rest}.",
)
"""Beginnings of a training sentence; what follows comes in any order, joined in any of these ways."""

_JOINTS: Final = (
    ", ",
    "; ",
    " and ",
    ", with ",
    ", also ",
    ". There is ",
    ", as well as ",
    " plus ",
    ", showing ",
)

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
        "the line shows {said}",
        "{said} in the data",
        "Data with {said}",
        "recordings that have {said}",
        "It shows {said}",
    ),
    "test": ("Series showing {said}.", "Find a curve with {said}."),
}

_PLACELESS: Final = 0.4
"""Share of brief training captions with an event that do not say where it is."""

_NUMBERED: Final = 0.3
"""Share of brief training captions that get a number besides: numbers are what words teach most slowly."""

_ADJECTIVE: Final = 0.2
_ADJECTIVES: Final = ("single", "clear", "distinct", "visible", "marked", "noticeable", "lone", "pronounced")

_QUANTITIES: Final = (
    "temperature", "pressure", "voltage", "current", "load", "signal", "flow", "speed", "acceleration",
    "vibration", "humidity", "power", "heart rate", "traffic", "readings", "data", "sensor", "level", "channel",
    "recording",
)  # fmt: skip


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
    """Say a few things as a person searching would; return the words and the attributes they state."""
    parts = _phrases(attributes, generator, split)
    telling = [name for name in ("trend", "cycle", "event", "noise", "level") if attributes[name] != "none"]
    count = min(len(telling), int(generator.integers(1, 4)))
    chosen = [telling[place] for place in generator.permutation(len(telling))[:count]]
    if split == "train" and "level" not in chosen and generator.uniform() < _NUMBERED:
        chosen.append("level")
    stated = {name for part in chosen for name in (part, {"cycle": "wave", "event": "where"}.get(part, part))}
    if split == "train" and "event" in chosen and generator.uniform() < _PLACELESS:
        parts["event"] = _event(attributes["event"], "", generator, split)
        stated.remove("where")
    said = " and ".join(parts[name] for name in chosen)
    return _sentence(_pick(_BRIEF[split], generator).format(said=said)), frozenset(stated)


def bare_phrases(count: int, *, seed: int) -> list[str]:
    """Draw phrases of the training banks as they stand alone, of a measured quantity or of none."""
    generator = np.random.default_rng([seed, 5])
    return [_bare(generator) for _ in range(count)]


def _bare(generator: np.random.Generator) -> str:
    kind = generator.integers(4)
    if kind == 0:
        where = _any(_WHERE, generator) if generator.uniform() < 0.4 else ""
        phrase = _event(_pick(tuple(_EVENT["train"]), generator), where, generator, "train")
    elif kind == 1:
        phrase = _any(_CYCLE, generator).format(wave=_any(_WAVE, generator))
    else:
        phrase = _any((_TREND, _NOISE)[kind - 2], generator)
    if generator.uniform() < 0.3:
        phrase += " " + _pick(("in the", "of the", "in"), generator) + " " + _pick(_QUANTITIES, generator)
    return _sentence(phrase) if generator.uniform() < 0.5 else phrase


def _any(banks: Mapping[Split, Mapping[str, tuple[str, ...]]], generator: np.random.Generator) -> str:
    bank = banks["train"]
    return _pick(bank[_pick(tuple(bank), generator)], generator)


def _event(kind: str, where: str, generator: np.random.Generator, split: Split) -> str:
    """An event's phrase, at a place or at none; in training sometimes with an adjective that adds nothing."""
    phrase = _pick(_EVENT[split][kind], generator).format(where=where).strip()
    article, _, rest = phrase.partition(" ")
    if split == "train" and kind != "none" and article in ("a", "an") and generator.uniform() < _ADJECTIVE:
        return f"a {_pick(_ADJECTIVES, generator)} {rest}"
    return phrase


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
        "event": _event(attributes["event"], where, generator, split),
        "level": pick(_LEVEL[split]).format(level=attributes["level"]),
        "spread": pick(_SPREAD[split]).format(spread=attributes["spread"]),
    }


def _pick(phrases: tuple[str, ...], generator: np.random.Generator) -> str:
    return phrases[generator.integers(len(phrases))]


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
