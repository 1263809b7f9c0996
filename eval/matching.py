"""Which runs are compared: the newest of every model on one suite and, if there are such, on the very same data.

Only data sets of equal digest and probes of equal configuration are compared: anything else would compare data or
heads, not encoders. Reads tags and parameters, no scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lakebed.eval.record import DATA, DATA_PARAM, EXPERIMENT, SUITE, TASK_PARAM
from lakebed.eval.subject import Subject
from lakebed.platform.errors import ConfigError, NotFoundError
from lakebed.platform.tracking import RunRecord, Tracking


@dataclass(frozen=True, eq=False)
class Matched:
    """One run of every subject, in their order; `datasets` are those of equal content in all of them."""

    suite: str
    runs: tuple[RunRecord, ...]
    datasets: frozenset[str]
    notes: tuple[str, ...]


def match(subjects: Sequence[Subject], tracking: Tracking, suite: str | None = None) -> Matched:
    """Find comparable runs, on `suite` or on the newest that all have.

    Raises NotFoundError when one was not evaluated, ConfigError when the runs cannot be compared.
    """
    return align(_newest(subjects, [_runs(subject, tracking, suite) for subject in subjects]))


def align(runs: Sequence[RunRecord]) -> Matched:
    """What these runs of one suite share; raises ConfigError for different probes or no common data set."""
    _check_probes(runs)
    datasets, notes = _shared_datasets(runs)
    return Matched(runs[0].tags[SUITE], tuple(runs), frozenset(datasets), tuple(notes))


def _runs(subject: Subject, tracking: Tracking, suite: str | None) -> list[RunRecord]:
    tags = {**subject.tags, **({SUITE: suite} if suite else {})}
    runs = tracking.finished(EXPERIMENT, tags)
    if not runs:
        on = f" on suite {suite}" if suite else ""
        raise NotFoundError(
            f"{subject.label} was not evaluated{on} yet",
            hint=f"run `lakebed eval --model {subject.label} --suite {(suite or 'smoke').partition('/')[0]}`",
        )
    return runs


def _newest(subjects: Sequence[Subject], runs: Sequence[Sequence[RunRecord]]) -> list[RunRecord]:
    """The newest run of the first that all others have a counterpart of, and the newest of those."""
    for tags in ((SUITE, DATA), (SUITE,)):
        newest = [{tuple(run.tags.get(tag) for tag in tags): run for run in reversed(found)} for found in runs]
        for first in runs[0]:
            key = tuple(first.tags.get(tag) for tag in tags)
            if all(key in found for found in newest[1:]):
                return [first, *(found[key] for found in newest[1:])]
    suites = [sorted({run.tags[SUITE] for run in found}) for found in runs]
    said = ", ".join(
        f"{subject.label} on {', '.join(names)}" for subject, names in zip(subjects, suites, strict=True)
    )
    raise NotFoundError(
        f"evaluated were {said}: nothing in common",
        hint=f"run `lakebed eval --model {subjects[-1].label} --suite {suites[0][0].partition('/')[0]}`",
    )


def _check_probes(runs: Sequence[RunRecord]) -> None:
    first = runs[0]
    for run in runs[1:]:
        for key in sorted(first.params.keys() & run.params.keys()):
            if key.startswith(TASK_PARAM) and first.params[key] != run.params[key]:
                raise ConfigError(
                    f"the runs measured {key.removeprefix(TASK_PARAM)} by different probes: "
                    f"{first.params[key]} and {run.params[key]}",
                    hint="evaluate both with the same suite file",
                )


def _shared_datasets(runs: Sequence[RunRecord]) -> tuple[set[str], list[str]]:
    data = [
        {key.removeprefix(DATA_PARAM): value for key, value in run.params.items() if key.startswith(DATA_PARAM)}
        for run in runs
    ]
    everywhere = set(data[0]).intersection(*data[1:])
    shared = {name for name in everywhere if len({found[name] for found in data}) == 1}
    some = "one run" if len(runs) == 2 else "some runs"
    all_runs = "the two runs" if len(runs) == 2 else "the runs"
    notes = [f"{name}: in {some} only, left out" for name in sorted(set().union(*data) - everywhere)]
    notes += [f"{name}: other data in {all_runs}, left out" for name in sorted(everywhere - shared)]
    if not shared:
        raise ConfigError(
            f"the runs of {' and '.join(repr(run.name) for run in runs)} share no data set",
            hint="evaluate both on the same data",
        )
    codes = list(dict.fromkeys(str(run.params.get("code")) for run in runs))
    if len(codes) > 1:
        notes.append(f"measured by different code: {' and '.join(codes)}")
    return shared, notes
