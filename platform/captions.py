"""Sentences that say the attributes of a generated series, made of the words in `phrases`.

Knows nothing of how series are made.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from lakebed.platform.phrases import (
    ADJECTIVES,
    BRIEF,
    CHANNELS,
    CYCLE,
    EVENT,
    JOINTS,
    LEVEL,
    NOISE,
    OPENINGS,
    QUANTITIES,
    SPREAD,
    TEST_SENTENCES,
    TREND,
    WAVE,
    WHERE,
    Split,
)

_PLACELESS: Final = 0.4
"""Share of brief training captions with an event that do not say where it is."""

_NUMBERED: Final = 0.3
"""Share of brief training captions that get a number besides: numbers are what words teach most slowly."""

_ADJECTIVE: Final = 0.2


def caption(attributes: Mapping[str, str], generator: np.random.Generator, split: Split) -> str:
    """Say all attributes in one sentence, with words and a template drawn from the split's own banks."""
    parts = _phrases(attributes, generator, split)
    if split == "test":
        return _sentence(_pick(TEST_SENTENCES, generator).format(**parts))
    order = generator.permutation(("trend", "cycle", "noise", "event", "level", "spread"))
    joints = [_pick(JOINTS, generator) for _ in order[1:]]
    rest = "".join(parts[name] + joint for name, joint in zip(order, [*joints, ""], strict=True))
    return _sentence(_pick(OPENINGS, generator).format(channels=parts["channels"], rest=rest))


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
    return _sentence(_pick(BRIEF[split], generator).format(said=said)), frozenset(stated)


def bare_phrases(count: int, *, seed: int) -> list[str]:
    """Draw phrases of the training banks as they stand alone, of a measured quantity or of none."""
    generator = np.random.default_rng([seed, 5])
    return [_bare(generator) for _ in range(count)]


def _bare(generator: np.random.Generator) -> str:
    kind = generator.integers(4)
    if kind == 0:
        where = _any(WHERE, generator) if generator.uniform() < 0.4 else ""
        phrase = _event(_pick(tuple(EVENT["train"]), generator), where, generator, "train")
    elif kind == 1:
        phrase = _any(CYCLE, generator).format(wave=_any(WAVE, generator))
    else:
        phrase = _any((TREND, NOISE)[kind - 2], generator)
    if generator.uniform() < 0.3:
        phrase += " " + _pick(("in the", "of the", "in"), generator) + " " + _pick(QUANTITIES, generator)
    return _sentence(phrase) if generator.uniform() < 0.5 else phrase


def _any(banks: Mapping[Split, Mapping[str, tuple[str, ...]]], generator: np.random.Generator) -> str:
    bank = banks["train"]
    return _pick(bank[_pick(tuple(bank), generator)], generator)


def _event(kind: str, where: str, generator: np.random.Generator, split: Split) -> str:
    """An event's phrase, at a place or at none; in training sometimes with an adjective that adds nothing."""
    phrase = _pick(EVENT[split][kind], generator).format(where=where).strip()
    article, _, rest = phrase.partition(" ")
    if split == "train" and kind != "none" and article in ("a", "an") and generator.uniform() < _ADJECTIVE:
        return f"a {_pick(ADJECTIVES, generator)} {rest}"
    return phrase


def _phrases(attributes: Mapping[str, str], generator: np.random.Generator, split: Split) -> dict[str, str]:
    def pick(phrases: tuple[str, ...]) -> str:
        return _pick(phrases, generator)

    wave = pick(WAVE[split][attributes["wave"]]) if attributes["cycle"] != "none" else ""
    where = pick(WHERE[split][attributes["where"]]) if attributes["event"] != "none" else ""
    return {
        "channels": pick(CHANNELS[split][attributes["channels"]]),
        "trend": pick(TREND[split][attributes["trend"]]),
        "cycle": pick(CYCLE[split][attributes["cycle"]]).format(wave=wave),
        "noise": pick(NOISE[split][attributes["noise"]]),
        "event": _event(attributes["event"], where, generator, split),
        "level": pick(LEVEL[split]).format(level=attributes["level"]),
        "spread": pick(SPREAD[split]).format(spread=attributes["spread"]),
    }


def _pick(phrases: tuple[str, ...], generator: np.random.Generator) -> str:
    return phrases[generator.integers(len(phrases))]


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
