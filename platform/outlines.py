"""Short generated curves and what can truly be said of them: where they rise and fall, peak, dip or stay flat.

Here a curve is drawn first and its attributes are then measured, so that any shape has captions, as in SLIP (arXiv
2603.11950); in `synthesis.py` it is the other way round. These are the words with which people describe a plot of
a dozen points. Knows no encoder and no data set.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from lakebed.platform.items import FloatArray
from lakebed.platform.synthesis import Captioned

Generator = np.random.Generator

_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "beginning": ("at the beginning", "in the beginning", "near the start", "at first", "early on", "initially",
                  "from the beginning", "at the start", "in the first third", "near the beginning", "early"),
    "middle": ("in the middle", "near the middle", "halfway", "around the centre", "midway", "in the middle part",
               "towards the middle", "halfway through", "in the middle third", "around the middle"),
    "end": ("at the end", "near the end", "towards the end", "in the end", "late", "in the last part",
            "at the end of the plot", "by the end", "in the last third", "close to the end"),
}  # fmt: skip

_LOCAL: Final[Mapping[str, tuple[str, ...]]] = {
    "rises": ("increases {part}", "rises {part}", "goes up {part}", "climbs {part}", "an increase {part}",
              "upward movement {part}", "gains {part}", "the line increases {part}", "grows {part}",
              "increases gradually {part}", "rises steadily {part}", "a steady gain {part}"),
    "falls": ("decreases {part}", "falls {part}", "goes down {part}", "drops {part}", "a decline {part}",
              "downward movement {part}", "loses {part}", "the line decreases {part}", "declines {part}",
              "decreases smoothly {part}", "falls steadily {part}", "slopes down {part}"),
    "is flat": ("stays flat {part}", "is stable {part}", "does not change {part}", "levels off {part}",
                "flattens out {part}", "remains constant {part}", "a plateau {part}", "stagnant {part}",
                "steady {part}", "the line stays stagnant {part}"),
    "leaps": ("rises sharply {part}", "a sharp increase {part}", "shoots up {part}", "jumps {part}",
              "a sudden rise {part}", "increases rapidly {part}", "a steep climb {part}", "spikes {part}"),
    "plunges": ("drops sharply {part}", "a sharp decrease {part}", "plummets {part}", "a sudden fall {part}",
                "decreases rapidly {part}", "a steep decline {part}", "crashes {part}"),
    "peaks": ("peaks {part}", "a peak {part}", "reaches its highest point {part}", "a maximum {part}",
              "a hump {part}", "is highest {part}", "tops out {part}", "humps upward {part}",
              "a high point {part}"),
    "dips": ("dips {part}", "a dip {part}", "a trough {part}", "reaches its lowest point {part}",
             "a minimum {part}", "a valley {part}", "is lowest {part}", "bottoms out {part}", "troughs {part}",
             "a low point {part}"),
}  # fmt: skip

_WHOLE: Final[Mapping[str, tuple[str, ...]]] = {
    "ends higher": ("ends higher than it started", "an upward trend", "trends upwards", "increases overall",
                    "grows over time",
                    "rises over time", "goes up", "a steady increase", "higher at the end than at the start"),
    "ends lower": ("ends lower than it started", "a downward trend", "trends downwards", "decreases overall",
                   "shrinks over time",
                   "falls over time", "goes down", "a steady decrease", "lower at the end than at the start"),
    "rises, then falls": ("rises then falls", "goes up and then down", "increases before decreasing",
                          "up first, then down", "a hill shape", "climbs, then drops"),
    "falls, then rises": ("falls then rises", "goes down and then up", "decreases before increasing",
                          "down first, then up", "a valley shape", "drops, then recovers"),
    "is volatile": ("volatile", "fluctuates a lot", "goes up and down repeatedly", "is erratic", "jagged",
                    "many ups and downs", "unstable", "choppy"),
    "is smooth": ("smooth", "changes smoothly", "a gradual course", "moves steadily", "no sudden jumps"),
}  # fmt: skip

_TELLING: Final[Mapping[str, float]] = {"peaks": 2, "dips": 2, "leaps": 1.5, "plunges": 1.5, "is flat": 1.5}
"""What people would rather say than other things that are true, by how much."""

_SENTENCES: Final = (
    "{said}", "{said}", "{said}.", "The line {said}.", "It {said}", "A series: {said}.", "the curve {said}",
    "the graph {said}", "line {said}",
)  # fmt: skip


def outlined_series(count: int, *, seed: int) -> list[Captioned]:
    """Draw `count` short curves with one or two true statements.

    Attributes say `yes` or `no` to every statement. What is more striking is said more often, so that a statement
    tells more than that it is true; `which`, stated by every caption, is the curve's own number.
    """
    generator = np.random.default_rng([seed, 3])
    return [_outlined(generator, number) for number in range(count)]


def _outlined(generator: Generator, number: int) -> Captioned:
    while True:
        curve = _curve(int(np.exp(generator.uniform(np.log(8), np.log(40)))), generator)
        strengths = _strengths(curve)
        true = [name for name, strength in strengths.items() if strength > 0]
        if true:
            break
    weights = np.array([strengths[name] ** 2 * _TELLING.get(name.split(" @ ")[0], 1.0) for name in true])
    count = min(len(true), int(generator.choice((1, 1, 2))))
    said = generator.choice(true, count, replace=False, p=weights / weights.sum()).tolist()
    words = " and ".join(_words(name, generator) for name in said)
    scale, level = 10 ** generator.uniform(-1, 3, 2)
    attributes = {name: "yes" if strength > 0 else "no" for name, strength in strengths.items()}
    sentence = _pick(_SENTENCES, generator).format(said=words)
    series = (level + scale * curve)[None]
    return Captioned(series, sentence, attributes | {"which": str(number)}, frozenset({*said, "which"}))


def _words(name: str, generator: Generator) -> str:
    if name in _WHOLE:
        return _pick(_WHOLE[name], generator)
    kind, part = name.split(" @ ")
    return _pick(_LOCAL[kind], generator).format(part=_pick(_PARTS[part], generator))


def _curve(length: int, generator: Generator) -> FloatArray:
    """A walk, ramps between knots, or a smooth curve, with some noise; unit range."""
    place = np.arange(length)
    draw: Callable[[], FloatArray] = (
        lambda: np.cumsum(generator.standard_normal(length)),
        lambda: np.cumsum(generator.standard_normal(length)),
        lambda: np.interp(place, np.linspace(0, length - 1, 4), generator.standard_normal(4)),
        lambda: generator.standard_normal(3) @ np.cos(np.outer([1, 2, 3], np.pi * place / length)),
        lambda: generator.choice((-1, 1)) * place / length + 0.5 * generator.standard_normal(length) / 4,
    )[generator.integers(5)]
    curve = draw()
    curve = curve / max(float(np.ptp(curve)), 1e-9)
    curve = curve + generator.choice((0, 0.03, 0.08)) * generator.standard_normal(length)
    return np.asarray((curve - curve.min()) / np.ptp(curve))


def _strengths(curve: FloatArray) -> dict[str, float]:
    """How strikingly every statement holds, about 0 to 1; 0 where it does not, or not clearly."""
    thirds = dict(zip(_PARTS, np.array_split(curve, 3), strict=True))
    steps = np.diff(curve)
    strengths = {name: value for part, piece in thirds.items() for name, value in _of_part(part, piece).items()}
    strengths |= _extremes(curve, thirds)
    largest = int(np.abs(steps).argmax())
    size, up = abs(float(steps[largest])), steps[largest] > 0
    for place, part in enumerate(_PARTS):
        here = size if size > 0.35 and min(2, largest * 3 // len(steps)) == place else 0.0
        strengths |= {f"leaps @ {part}": here if up else 0.0, f"plunges @ {part}": 0.0 if up else here}
    few = len(curve) // 6 + 1
    start, middle, end = curve[:few].mean(), thirds["middle"].mean(), curve[-few:].mean()
    turns = np.count_nonzero(np.diff(np.sign(steps[np.abs(steps) > 0.08])) != 0)
    return strengths | {
        "ends higher": _clear(end - start, 0.3),
        "ends lower": _clear(start - end, 0.3),
        "rises, then falls": _clear(middle - max(start, end), 0.25),
        "falls, then rises": _clear(min(start, end) - middle, 0.25),
        "is volatile": 0.5 if turns >= 5 else 0.0,
        "is smooth": 0.5 if turns <= 1 and size < 0.25 else 0.0,
    }


def _of_part(part: str, piece: FloatArray) -> dict[str, float]:
    place = np.linspace(-0.5, 0.5, len(piece))
    rise = float(place @ piece / (place @ place))  # least squares over the part
    flat = abs(rise) < 0.1 and float(np.ptp(piece)) < 0.2
    return {
        f"rises @ {part}": _clear(rise, 0.2),
        f"falls @ {part}": _clear(-rise, 0.2),
        f"is flat @ {part}": 0.7 if flat else 0.0,
    }


def _extremes(curve: FloatArray, thirds: Mapping[str, FloatArray]) -> dict[str, float]:
    strengths = {}
    for place, part in enumerate(_PARTS):
        others = np.concatenate([piece for name, piece in thirds.items() if name != part])
        for kind, signed in (("peaks", curve), ("dips", -curve)):
            here = min(2, int(signed.argmax()) * 3 // len(curve)) == place
            above = float(signed.max() - (others if kind == "peaks" else -others).mean())
            strengths[f"{kind} @ {part}"] = _clear(above, 0.4) if here else 0.0
    return strengths


def _clear(value: float, least: float) -> float:
    """The value where it is clear, else 0."""
    return min(float(value), 1.0) if value > least else 0.0


def _pick(phrases: tuple[str, ...], generator: Generator) -> str:
    return phrases[generator.integers(len(phrases))]
