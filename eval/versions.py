"""All versions of a model on one suite: headline means, each with its paired interval against the champion.

Scores by example are read for the headlines only. What MLflow's pages lack (mlflow#4806): a chart of a metric over
versions.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lakebed.eval.charts import Series, line_chart
from lakebed.eval.compare import MEAN, Comparison, Difference, compared
from lakebed.eval.logged_scores import read_scores
from lakebed.eval.matching import align
from lakebed.eval.record import DATA, EXPERIMENT, HEADLINES, SUITE
from lakebed.eval.report import render
from lakebed.eval.subject import DIMENSIONS, FULL_LENGTH, MODEL_DIGEST
from lakebed.platform.encoder.load import CHAMPION
from lakebed.platform.errors import NotFoundError
from lakebed.platform.registry import ModelVersion
from lakebed.platform.tracking import RunRecord, Tracking

DRAWS: Final = 1000
"""Fewer than a comparison's, for a chart of many versions."""


@dataclass(frozen=True, eq=False)
class MeasuredVersion:
    """A version and its newest run; `comparison` is against the reference, None for the reference itself."""

    version: ModelVersion
    run: RunRecord
    comparison: Comparison | None


@dataclass(frozen=True, eq=False)
class VersionHistory:
    """Versions on one suite, oldest first; `reference` is the champion, or the newest while there is none."""

    name: str
    suite: str
    reference: ModelVersion
    headlines: tuple[str, ...]
    measured: tuple[MeasuredVersion, ...]
    notes: tuple[str, ...]


def version_history(
    name: str, versions: Sequence[ModelVersion], tracking: Tracking, suite: str, *, draws: int = DRAWS
) -> VersionHistory:
    """Compare every version with the champion, where both were measured on the same data.

    Raises NotFoundError when no version was evaluated on the suite.
    """
    runs = _newest_runs(versions, tracking, suite)
    if not runs:
        raise NotFoundError(
            f"no version of {name} was evaluated on suite {suite}",
            hint=f"run `lakebed eval --model {name}@VERSION --suite {suite.partition('/')[0]}`",
        )
    measured = [version for version in versions if version.version in runs]
    reference = next((version for version in measured if CHAMPION in version.aliases), measured[-1])
    notes = [f"{one.reference}: not evaluated on {suite}" for one in versions if one.version not in runs]
    champion = runs[reference.version]
    headlines = tuple(json.loads(champion.tags[HEADLINES]))
    only = {key.removeprefix(MEAN) for key in headlines}
    everything = {key.removeprefix("data.") for key in champion.params if key.startswith("data.")}
    own = read_scores(tracking, champion, everything, only)
    found = []
    for version in measured:
        run = runs[version.version]
        if version is reference:
            found.append(MeasuredVersion(version, run, None))
        elif run.tags.get(DATA) != champion.tags.get(DATA):
            notes.append(f"{version.reference}: measured on other data, left out")
        else:
            matched = align((champion, run))
            scores = read_scores(tracking, run, matched.datasets, only)
            labels = (reference.reference, version.reference)
            comparison = compared(labels, matched, (0, 1), own, scores, draws=draws, only=only)
            found.append(MeasuredVersion(version, run, comparison))
    return VersionHistory(name, suite, reference, headlines, tuple(found), tuple(notes))


def history_report(history: VersionHistory) -> str:
    """A page with a chart and a table per headline."""
    return render(
        "versions.html",
        title=f"{history.name}, version by version",
        suite=history.suite,
        reference=history.reference.reference,
        notes=history.notes,
        headlines=[_headline(history, key) for key in history.headlines],
    )


def _newest_runs(versions: Sequence[ModelVersion], tracking: Tracking, suite: str) -> dict[int, RunRecord]:
    """The newest run of every version at full length; one search for all would load every older run, too."""
    found = {}
    for version in versions:
        tags = {SUITE: suite, DIMENSIONS: FULL_LENGTH, MODEL_DIGEST: version.digest}
        if run := tracking.latest(EXPERIMENT, tags):
            found[version.version] = run
    return found


def _headline(history: VersionHistory, key: str) -> dict[str, object]:
    rows: list[dict[str, object]] = []
    values: list[float | None] = []
    bounds: list[tuple[float, float] | None] = []
    base = next(one.run for one in history.measured if one.comparison is None).metrics.get(key)
    for one in history.measured:
        difference = _difference(one, key)
        value = one.run.metrics.get(key)
        low, high = (difference.interval.low, difference.interval.high) if difference else (None, None)
        known = base is not None and low is not None and high is not None
        bounds.append((base + low, base + high) if known else None)  # type: ignore[operator]  # known, all three
        values.append(value)
        rows.append({"version": one.version, "value": value, "difference": difference})
    places = [str(one.version.version) for one in history.measured]
    name = key.removeprefix(MEAN)
    chart = line_chart(f"{name} by version", places, [Series("", history.name, values, bounds)], base)
    return {"name": name, "chart": chart, "rows": rows}


def _difference(one: MeasuredVersion, key: str) -> Difference | None:
    if one.comparison is None:
        return None
    return next((mean for mean in one.comparison.means if mean.key == key), None)
