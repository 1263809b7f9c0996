"""Deciding whether a version becomes the champion, the one that is served; and making it so.

The gate: on a suite that both were measured on, the primary figure's mean is better, and no other headline is
surely worse, its whole interval on the wrong side of zero. The primary's interval is part of the reason: a lucky
draw can be seen for one.
"""

from dataclasses import dataclass
from typing import Final

from lakebed.eval.compare import Comparison, Difference, compare
from lakebed.eval.subject import Subject
from lakebed.platform.encoder.load import CHAMPION
from lakebed.platform.errors import ConfigError
from lakebed.platform.registry import ModelVersion, Registry
from lakebed.platform.tracking import Tracking

PROMOTED: Final = "lakebed.promoted"


@dataclass(frozen=True)
class Decision:
    """Whether the gate holds, and why in one line; `comparison` is None when there was nothing to compare with."""

    holds: bool
    reason: str
    comparison: Comparison | None = None


def champion_of(name: str, registry: Registry) -> ModelVersion | None:
    """The version that carries the champion's alias; None while no version does."""
    return next((version for version in registry.versions(name) if CHAMPION in version.aliases), None)


def decide(
    candidate: Subject, champion: Subject | None, tracking: Tracking, *, suite: str | None, figure: str | None
) -> Decision:
    """Compare with the champion on `figure`, by default the suite's first headline."""
    if champion is None:
        return Decision(True, "no champion yet: the first one")
    comparison = compare(champion, candidate, tracking, suite)
    primary = comparison.mean(figure or comparison.headlines[0])
    others = [comparison.mean(key) for key in comparison.headlines if key != primary.key]
    fallen = [one for one in others if one.is_surely_worse]
    reason = "; ".join([_said(primary, comparison), *(f"but {_in_short(one)}" for one in fallen)])
    return Decision(primary.gain > 0 and not fallen, reason, comparison)


def _said(primary: Difference, comparison: Comparison) -> str:
    tally = comparison.tally(primary.key)
    return (
        f"{_in_short(primary)} on {comparison.suite} ({comparison.a} to {comparison.b}); "
        f"better on {tally.wins}, equal on {tally.ties}, worse on {tally.losses} data sets"
    )


def _in_short(one: Difference) -> str:
    bounds = one.interval
    interval = "" if bounds.low is None else f", 95 % interval {bounds.low:+.4f} {bounds.high:+.4f}"
    return f"{one.key} {one.a:.4f} to {one.b:.4f}{interval}"


def promote(candidate: ModelVersion, reason: str, registry: Registry) -> None:
    """Point the champion's alias at the version, and write the reason on it first."""
    registry.tag(candidate.name, candidate.version, {PROMOTED: reason})
    registry.set_alias(candidate.name, CHAMPION, candidate.version)


def registered(subject: Subject) -> ModelVersion:
    """The subject's version; raises ConfigError when it has none, or is a truncation."""
    if subject.dimensions is not None:
        raise ConfigError(
            f"{subject.label}: a truncation is not a version", hint="clients choose dimensions in each request"
        )
    if subject.version is None:
        raise ConfigError(
            f"{subject.label} is not registered", hint="do so with `lakebed register FOLDER --name NAME`"
        )
    return subject.version
