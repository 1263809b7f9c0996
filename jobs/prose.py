"""Generated sentences that describe no signal: what a description head must leave alone.

Everyday statements, questions, reports and bare phrases, filled with words of the text weights' own vocabulary, so
that they are as varied as the vocabulary is and need no corpus. Grammar is only roughly kept; nothing is meant.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

_FRAMES: Final = (
    "A {w} is {w} a {w}.",
    "The {w} {w} the {w} with a {w}.",
    "A man is {w} a {w} in the {w}.",
    "Two women are {w} {w} near a {w}.",
    "{w} {w} {w}",
    "{w}",
    "{w} {w}",
    "How do I {w} my {w}?",
    "What is the {w} of {w}?",
    "Why did the {w} {w} {w}?",
    "I want to {w} a {w}, but my {w} was {w}.",
    "Who was the {w} {w} of {w}?",
    "{w} said on {w} that the {w} would {w} {n} {w}.",
    "The company's {w} {w} {n} percent to ${n} {w}.",
    "{w} {w} kills {n} in {w}",
    "In {n}, the {w} of {w} {w} a {w} {w} and the {w}.",
    "You should {w} the {w} because {w} is {w}.",
    "This paper studies {w} {w} for {w} {w} under {w} {w}.",
    "My {w} has not {w} yet, can you {w} the {w}?",
    "It is a {w} {w}, {w} {w} and {w} {w}; the {w} has {w} {w}.",
    "There is no {w} in the {w} {w}.",
    "A small {w} dog {w} over a {w} near the {w}.",
    "A group of {w} {w} at the {w} in {w}.",
    "{w} shares {v} {n} percent to ${n} as {w} {w} {w}",
    "The {w} index was {d} {n} points, or {n} percent, at {n}.",
    "{w} {v} to ${n} a {w} on {w} of {w} {w}.",
    "In {w} trading, the {w} {w} {v} {n} cents, having {v} on Monday.",
    '"We expect {w} to {v}, but the {w} of {w} is likely to {v} sharply," said {w} {w} of {w}.',
    "For the {w} year ended {w} {n}, {w} {v} by {n} percent to {n} {w}.",
    "The {w}'s {w} {v} since the beginning of the {w}, the {w} said.",
    "{w} prices {v} in early {w} after the {w} of {w}",
    "At the end of the {w} the {w} went {d} to the {w}.",
    "This is probably a {w} {w}, but I will {w} it at the end.",
    "It was {w} in the middle of the {w}, with no {w} at all.",
    "I {w} that the {w} is not a {w} {w}; it depends on the {w}.",
    "You can {w} {n} {w} per {w} if you {w} it steadily.",
    "The man went {d} the {w} and {v} into the {w}.",
    "A {w} jumps {d} on a {w} in the {w}.",
    "What the {w} say, {w} {n}, {n}",
    "Details on {w} will be {w} within a few {w}, {w} said.",
    "The {w} was {d} sharply from a {w} earlier.",
    "You need to {w} a lot to know what you {w} and what you don't.",
    "Start {w} as early as possible.",
    "{w} on it slowly.",
    "You {w} the {w} slowly and {w} it {w}.",
    "The more you {w}, the faster you will {w} {w} and {w}.",
    "You will want to {w} the {w} first.",
    "There are two ways to {w} with: {w} and {w}.",
    "Stocks {m} in {w} trade",
    "Markets {m} as {w} {m}",
    "Oil prices {m} after {w} {w}",
    "Shares of {w} {m} {n} percent in {w} trading",
    "US stocks {m} on {w} {w}",
    "Wall Street {m} on {w} data",
    "Profit {v} {n} percent in the quarter that ended on {w} {n}, {n}.",
    "For the year, {w} lines {v} by {n} percent.",
    "Unemployment {m} in {w}, {w} {m}",
    "Gold {m} as the dollar {m}",
    "Don't {w} too much, and {w} it often.",
    "{w} into {w} quickly, then {w}.",
    "It is better to {w} {w} than to {w} them late.",
    "I would {w} the {w} until it is no longer {w}.",
    "Some {w} {w} have no {w}; others {w} all the time.",
    "If the {w} is {w}, {w} it a little at a time.",
    "Yes, you can {w} {w} with {w}.",
    "{w}, the first {w} of the {w} season, hit the {w} on {w} {n}, with {w} of {n} miles an hour.",
    "{w} {w} {v} at {w}",
    "{w} {w} {d} at {w}",
    "{w} {w} rates {v} for the {w} time in {n} years",
    "{w} the {w}",
    "person {w} a {w}",
    "def {w}({w}): return {w} + {n}",
    *(" ".join(["{w}"] * count) for count in (8, 12, 18, 30, 60)),
)
"""`w` is any word, `n` a number; `v`, `m` and `d` are words that a description of a signal might use, too."""

_MOVES: Final = (
    "rose", "fell", "dropped", "climbed", "gained", "lost", "jumped", "slipped", "increase", "fall", "rise",
    "surged", "declined", "grew", "slid", "recovered", "peaked", "remained stable",
)  # fmt: skip
_PRESENT: Final = (
    "rise", "fall", "drop", "climb", "gain", "jump", "slip", "dip", "surge", "slide", "recover", "peak",
)  # fmt: skip
_DIRECTIONS: Final = ("up", "down", "higher", "lower", "flat", "steady", "unchanged", "over", "back")

_WORD: Final = re.compile(r"[a-z]{3,}")


def sentences(vocabulary: Sequence[str], count: int, *, seed: int) -> list[str]:
    """Draw `count` sentences; common words, which come first in a WordPiece vocabulary, are drawn more often."""
    words = [word for word in vocabulary if _WORD.fullmatch(word)]
    generator = np.random.default_rng([seed, 4])
    return [_sentence(words, generator) for _ in range(count)]


def _sentence(words: Sequence[str], generator: np.random.Generator) -> str:
    frame = _FRAMES[generator.integers(len(_FRAMES))]
    draw: Mapping[str, Callable[[], str]] = {
        "{w}": lambda: words[int(len(words) * generator.uniform() ** 2)],
        "{n}": lambda: _number(generator),
        "{v}": lambda: _MOVES[generator.integers(len(_MOVES))],
        "{m}": lambda: _PRESENT[generator.integers(len(_PRESENT))],
        "{d}": lambda: _DIRECTIONS[generator.integers(len(_DIRECTIONS))],
    }
    pieces = re.split(r"(\{[wnvmd]\})", frame)
    filled = "".join(draw[piece]() if piece in draw else piece for piece in pieces)
    return filled[0].upper() + filled[1:] if generator.uniform() < 0.7 else filled


def _number(generator: np.random.Generator) -> str:
    return f"{10 ** generator.uniform(0, 4):.{generator.integers(0, 2)}f}"
