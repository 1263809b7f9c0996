"""Making a version the champion, the one that is served, and going back to an earlier one.

The gate decides (`gate.py`); here the alias is moved, and what was done and why is written down: on the version,
and as the history of champions of the model's name. The history is written so that a process that dies between two
writes leaves one from which `rollback` still finds the champion before.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from lakebed.eval.compare import Comparison, compare
from lakebed.eval.gate import Guard, judge
from lakebed.eval.statistics import DRAWS
from lakebed.eval.subject import Subject
from lakebed.platform.encoder.load import CHAMPION
from lakebed.platform.errors import ConfigError, NotFoundError
from lakebed.platform.registry import ModelVersion, Registry
from lakebed.platform.tracking import Tracking

PROMOTED: Final = "lakebed.promoted"
PROMOTED_AT: Final = "lakebed.promoted_at"
PREVIOUS: Final = "lakebed.previous_champion"
CANDIDATE_RUN: Final = "lakebed.promoted_by_run"
CHAMPION_RUN: Final = "lakebed.promoted_against_run"
ROLLED_BACK: Final = "lakebed.rolled_back"
HISTORY: Final = "lakebed.champions"
"""Tag of the model's name: the versions that were champion, oldest first, the present one last."""

_REMEMBERED: Final = 100
_TAG_CHARACTERS: Final = 5000


@dataclass(frozen=True)
class Decision:
    """Whether the gate holds, and why in one line; `comparison` is None when there was nothing to compare with."""

    holds: bool
    reason: str
    comparison: Comparison | None = None

    @property
    def evidence(self) -> dict[str, str]:
        """Tags that name the runs it stands on."""
        if self.comparison is None:
            return {}
        champion, candidate = self.comparison.runs
        return {CHAMPION_RUN: champion.id, CANDIDATE_RUN: candidate.id}


def champion_of(name: str, registry: Registry) -> ModelVersion | None:
    """The version that carries the champion's alias; None while no version does."""
    return next((version for version in registry.versions(name) if CHAMPION in version.aliases), None)


def decide(
    candidate: Subject,
    champion: Subject | None,
    tracking: Tracking,
    *,
    suite: str | None = None,
    figure: str | None = None,
    guards: Sequence[Guard] = (),
    margin: float = 0.0,
    draws: int = DRAWS,
) -> Decision:
    """Compare with the champion and judge; raises as `compare` and `judge` do."""
    if champion is None:
        return Decision(True, "no champion yet: the first one")
    comparison = compare(champion, candidate, tracking, suite, draws=draws)
    verdict = judge(comparison, figure=figure, guards=guards, margin=margin)
    return Decision(verdict.holds, verdict.reason, comparison)


def promote(candidate: ModelVersion, decision: Decision, registry: Registry) -> None:
    """Point the champion's alias at the version; reason, runs and the champion before are on it by then."""
    current = champion_of(candidate.name, registry)
    before = {PREVIOUS: str(current.version)} if current else {}
    tags = {PROMOTED: decision.reason[:_TAG_CHARACTERS], PROMOTED_AT: _now(), **decision.evidence, **before}
    registry.tag(candidate.name, candidate.version, tags)
    registry.set_alias(candidate.name, CHAMPION, candidate.version)
    past = _history(candidate.name, registry)
    if current and past[-1:] != [current.version]:  # somebody else had moved the alias
        past.append(current.version)
    _remember(candidate.name, [*past, candidate.version], registry)


@dataclass(frozen=True)
class Rollback:
    """A way back: from the present champion to an earlier one, and the history that is left then."""

    champion: ModelVersion
    target: ModelVersion
    history: tuple[int, ...]


def plan_rollback(name: str, registry: Registry, to: int | None = None) -> Rollback:
    """Find the champion before the present one, or `to`, which must have been champion.

    Versions that were deleted are passed over. Raises ModelNotFoundError for an unknown name, NotFoundError when
    no earlier champion is known, ConfigError when `to` never was one or is the present one.
    """
    versions = {version.version: version for version in registry.versions(name)}
    current = next((version for version in versions.values() if CHAMPION in version.aliases), None)
    if current is None:
        raise NotFoundError(f"{name} has no champion", hint=f"`lakebed promote {name}@VERSION` makes one")
    past = [number for number in _history(name, registry) if number in versions]
    while past and past[-1] == current.version:
        past.pop()
    if to is not None:
        past = _back_to(to, past, current)
    if not past:
        raise NotFoundError(
            f"no champion of {name} before {current.reference} is known",
            hint=f"`lakebed promote {name}@VERSION --force` makes any version the champion",
        )
    return Rollback(current, versions[past[-1]], tuple(past))


def _back_to(to: int, past: Sequence[int], current: ModelVersion) -> list[int]:
    if to == current.version:
        raise ConfigError(f"{current.reference} is the champion already")
    if to not in past:
        raise ConfigError(
            f"{current.name}@{to} was not champion before {current.reference}",
            hint=f"earlier ones are {', '.join(map(str, dict.fromkeys(past))) or 'none'}; else promote it",
        )
    last = len(past) - 1 - list(reversed(past)).index(to)
    return list(past[: last + 1])


def roll_back(plan: Rollback, reason: str, registry: Registry) -> None:
    """Make the earlier champion the champion again, and write on the later one why it no longer is."""
    name = plan.champion.name
    said = f"{_now()} to {plan.target.reference}: {reason}"
    registry.tag(name, plan.champion.version, {ROLLED_BACK: said[:_TAG_CHARACTERS]})
    _remember(name, plan.history, registry)
    registry.set_alias(name, CHAMPION, plan.target.version)


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


def _history(name: str, registry: Registry) -> list[int]:
    tags: Mapping[str, str] = registry.name_tags(name)
    return [int(number) for number in json.loads(tags.get(HISTORY, "[]"))]


def _remember(name: str, versions: Sequence[int], registry: Registry) -> None:
    registry.tag_name(name, {HISTORY: json.dumps(list(versions)[-_REMEMBERED:])})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
