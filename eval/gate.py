"""The gate: is a candidate better than the champion on the primary figure, and safe on the guarded ones?

Decides from a comparison and from what the two runs logged; changes nothing. Why intervals decide as they do is in
docs/decisions/0051.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lakebed.eval.compare import Comparison, Difference, is_cost, is_quality
from lakebed.eval.statistics import Interval
from lakebed.platform.errors import ConfigError

UNMEASURED_TOLERANCE: Final = 0.01
"""How far a guarded figure without an interval may fall, unless its guard says so."""

_MACHINE: Final = ("machine.processor", "machine.cores")


@dataclass(frozen=True)
class Guard:
    """A figure that must not fall; by how much it may, None where only a sure fall counts.

    For a figure of quality the tolerance is absolute; for a cost it is a ratio, 0.1 being ten per cent.
    """

    figure: str
    tolerance: float | None = None


@dataclass(frozen=True)
class Check:
    """One condition of the gate: whether it holds, and a sentence with the numbers."""

    holds: bool
    said: str


@dataclass(frozen=True)
class Verdict:
    """All conditions, the primary one first; the gate holds when all do."""

    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether the candidate passes."""
        return all(check.holds for check in self.checks)

    @property
    def reason(self) -> str:
        """One line: the primary figure, and every condition that failed."""
        first, *others = self.checks
        return "; ".join([first.said, *(f"but {check.said}" for check in others if not check.holds)])


def parse_guard(text: str) -> Guard:
    """Read `FIGURE` or `FIGURE:TOLERANCE`; raises ConfigError for a tolerance that is no number from 0 on."""
    figure, colon, tolerance = text.rpartition(":")
    if not colon:
        return Guard(text)
    try:
        value = float(tolerance)
    except ValueError:
        value = math.nan
    if not figure or not 0 <= value < math.inf:
        raise ConfigError(
            f"guard {text!r}: {tolerance!r} is no tolerance",
            hint="write FIGURE or FIGURE:TOLERANCE, such as knn_accuracy:0.01",
        )
    return Guard(figure, value)


def judge(
    comparison: Comparison, *, figure: str | None = None, guards: Sequence[Guard] = (), margin: float = 0.0
) -> Verdict:
    """B against A: the lower bound of the primary figure's gain above `margin`, and every guard.

    `figure` is the suite's first headline of quality by default; without guards, the others are guarded. Raises
    NotFoundError for a figure that there is not, ConfigError for one that cannot decide.
    """
    if not math.isfinite(margin) or margin < 0:
        raise ConfigError(f"margin {margin}: expected a number from 0 on")
    qualities = [key for key in comparison.headlines if is_quality(key)]
    if figure is None and not qualities:
        raise ConfigError(f"suite {comparison.suite} has no headline to decide on", hint="name one with --figure")
    primary = find_figure(comparison, figure or qualities[0])
    if is_cost(primary.key):
        raise ConfigError(
            f"{primary.key} is a cost, and no version is better for it alone", hint="guard it instead"
        )
    guarded = guards or [Guard(key) for key in qualities if key != primary.key]
    return Verdict((_primary(primary, comparison, margin), *(_guarded(guard, comparison) for guard in guarded)))


def find_figure(comparison: Comparison, name: str) -> Difference:
    """The figure that a name means: a whole key, or the end of one mean's key that no other has.

    Raises NotFoundError when there is none, ConfigError when there are several.
    """
    costs = _costs(comparison)
    for one in (*comparison.means, *comparison.differences, *costs):
        if one.key == name:
            return one
    found = [one for one in (*comparison.means, *costs) if one.key.endswith(f"/{name}")]
    if len(found) > 1:
        raise ConfigError(
            f"figure {name!r} may be {' or '.join(one.key for one in found)}", hint="write all of it"
        )
    return found[0] if found else comparison.mean(name)


def in_short(one: Difference) -> str:
    """A figure of both sides with its interval."""
    bounds = one.interval
    interval = "" if bounds.low is None else f", 95 % interval {bounds.low:+.4f} {bounds.high:+.4f}"
    return f"{one.key} {one.a:.4f} to {one.b:.4f}{interval}"


def _costs(comparison: Comparison) -> list[Difference]:
    """Costs of the whole run, which are no means over data sets."""
    a, b = (run.metrics for run in comparison.runs)
    shared = sorted(key for key in a.keys() & b.keys() if key.startswith("cost/"))
    return [Difference(key, a[key], b[key], Interval(b[key] - a[key], None, None), 0) for key in shared]


def _primary(one: Difference, comparison: Comparison, margin: float) -> Check:
    tally = comparison.tally(one.key)
    said = (
        f"{in_short(one)} on {comparison.suite} ({comparison.a} to {comparison.b}); "
        f"better on {tally.wins}, equal on {tally.ties}, worse on {tally.losses} data sets"
    )
    if one.gain_bounds is None:
        return Check(False, f"{said}; but it has no interval, so nothing says that it is no luck")
    if one.gain_bounds[0] > margin:
        return Check(True, said)
    return Check(
        False, f"{said}; but the lower bound of the gain, {one.gain_bounds[0]:+.4f}, is not above {margin:g}"
    )


def _guarded(guard: Guard, comparison: Comparison) -> Check:
    one = find_figure(comparison, guard.figure)
    if is_cost(one.key):
        return _guarded_cost(one, guard, comparison)
    bounds = one.gain_bounds
    if bounds is None:
        allowed = UNMEASURED_TOLERANCE if guard.tolerance is None else guard.tolerance
        return Check(
            one.gain >= -allowed, f"{in_short(one)}, without an interval, may fall by {allowed:g} at most"
        )
    if guard.tolerance is None:
        return Check(bounds[1] >= 0, f"{in_short(one)} is surely worse")
    return Check(bounds[0] >= -guard.tolerance, f"{in_short(one)} may be a fall by more than {guard.tolerance:g}")


def _guarded_cost(one: Difference, guard: Guard, comparison: Comparison) -> Check:
    """By how much B costs more, as a ratio; figures of two machines say nothing of two models."""
    if guard.tolerance is None:
        raise ConfigError(
            f"guard {guard.figure!r}: a cost needs a tolerance",
            hint=f"{guard.figure}:0.1 allows ten per cent more",
        )
    a, b = (tuple(run.params.get(key) for key in _MACHINE) for run in comparison.runs)
    if a != b:
        return Check(False, f"{one.key} was measured on different machines, {a} and {b}")
    more = one.key.endswith("per_second")
    before, after = (one.b, one.a) if more else (one.a, one.b)
    holds = after <= before * (1 + guard.tolerance)
    return Check(holds, f"{one.key} {one.a:.4g} to {one.b:.4g} is worse by more than {guard.tolerance:.0%}")
