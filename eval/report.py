"""The report of a comparison: one HTML file without scripts that needs nothing from anywhere.

Turns a comparison of two models, or a ranking of more, into what `templates/report.html` shows. Jinja escapes
every text: names of data sets, labels and examples are whatever users have.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lakebed.eval import charts
from lakebed.eval.across_datasets import LETTERS, critical_difference
from lakebed.eval.compare import MEAN, Comparison, Difference, is_cost
from lakebed.eval.record import DATA_PARAM, SUITE
from lakebed.eval.side_by_side import Ranking
from lakebed.eval.tasks.protocol import lower_is_better
from lakebed.platform.errors import ConfigError
from lakebed.platform.tracking import RunRecord, Tracking

EXPERIMENT: Final = "lakebed-compare"

_CHANGED: Final = 12
_LONGEST_TEXT: Final = 400
_CUT: Final = re.compile(r"(.+)_(\d+)d")
_PERTURBED: Final = re.compile(r"(.+_accuracy)_(.+)")
_ROBUSTNESS: Final = f"{MEAN}robustness/"
_MACHINE: Final = "machine."


@dataclass(frozen=True)
class _Pair:
    """Two of the models that the report is on."""

    a: str
    b: str
    comparison: Comparison


@cache
def _templates() -> Environment:
    folder = files("lakebed") / "eval" / "templates"
    found = Environment(
        loader=FileSystemLoader(str(folder)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"figure": _figure, "signed": _signed, "p": _p_value}
    return found


def render(template: str, **context: Any) -> str:
    """Fill in one of the templates."""
    return _templates().get_template(template).render(style=_style(), **context)


def publish(result: Comparison | Ranking, path: Path, tracking: Tracking) -> str:
    """Write the report to a file, and keep it in a run of its own in experiment `lakebed-compare`.

    The runs that are compared have ended and stay as they are. Returns the run's id; raises ConfigError when the
    file cannot be written.
    """
    html = ranking_report(result) if isinstance(result, Ranking) else comparison_report(result)
    write_html(path, html)
    tags = {SUITE: result.suite} | {
        f"lakebed.compared_{letter.lower()}": run.id for letter, run in zip(LETTERS, result.runs, strict=False)
    }
    with tracking.run(EXPERIMENT, f"{' and '.join(result.labels)} on {result.suite}"[:250], tags) as run:
        figures = result.figures()
        run.metrics({key: value for key, value in figures.items() if key.startswith(MEAN)})
        run.text(html, "report.html")
        run.text(json.dumps(figures, indent=2), "figures.json")
    return run.id


def write_html(path: Path, html: str) -> None:
    """Write a page; raises ConfigError when it cannot be written."""
    try:
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def comparison_report(comparison: Comparison) -> str:
    """The report on two models, as HTML."""
    pair = _Pair("A", "B", comparison)
    keys = [key for key in comparison.headlines if any(one.key == key for one in comparison.means)]
    return render(
        "report.html",
        title=f"{comparison.b} against {comparison.a}",
        suite=comparison.suite,
        models=_models((comparison.a, comparison.b), comparison.runs),
        headlines=[_headline(pair, key) for key in keys],
        ranking=None,
        **_common([pair], comparison.runs, keys),
    )


def ranking_report(ranking: Ranking) -> str:
    """The report on three or more models, as HTML."""
    letters = ranking.letters
    pairs = [_Pair(letters[a], letters[b], comparison) for (a, b), comparison in ranking.pairs.items()]
    keys = [key for key in ranking.headlines if key in ranking.metrics]
    return render(
        "report.html",
        title=f"{len(ranking.labels)} models side by side",
        suite=ranking.suite,
        models=_models(ranking.labels, ranking.runs),
        headlines=[],
        ranking=[_ranked(ranking, key) for key in keys],
        **_common(pairs, ranking.runs, keys),
    )


def _common(pairs: Sequence[_Pair], runs: Sequence[RunRecord], keys: Sequence[str]) -> dict[str, Any]:
    """What both kinds of report show."""
    against_first = [pair for pair in pairs if pair.a == "A"]
    return {
        "notes": pairs[0].comparison.notes,
        "changed": [found for pair in against_first for key in keys if (found := _changed(pair, key))],
        "curves": _curves(against_first),
        "robustness": _robustness(against_first),
        "costs": _costs(runs),
        "one_machine": len({_machine(run) for run in runs}) == 1,
        "data": _data(runs),
        "everything": [_everything(pair) for pair in pairs],
    }


def _models(labels: Sequence[str], runs: Sequence[RunRecord]) -> list[dict[str, str]]:
    return [
        {
            "letter": LETTERS[index],
            "label": label,
            "digest": run.params.get("model.digest", run.tags.get("lakebed.model_digest", "unknown")),
            "dimensions": run.params.get("model.dimensions", run.tags.get("lakebed.dimensions", "unknown")),
            "run": run.id,
            "started": f"{run.started:%Y-%m-%d %H:%M} UTC",
            "code": run.params.get("code", "unknown"),
            "machine": _machine(run),
        }
        for index, (label, run) in enumerate(zip(labels, runs, strict=True))
    ]


def _machine(run: RunRecord) -> str:
    known = {key.removeprefix(_MACHINE): value for key, value in run.params.items() if key.startswith(_MACHINE)}
    if not known:
        return "unknown"
    said = (
        f"{known.get('processor', 'unknown')}, {known.get('cores', '?')} cores, {known.get('memory_gib', '?')} GiB"
    )
    return f"{said}; torch {known.get('torch', '?')}"


def _headline(pair: _Pair, key: str) -> dict[str, Any]:
    comparison = pair.comparison
    mean, tally, behind = comparison.mean(key), comparison.tally(key), comparison.behind(key)
    limit = _limit([mean, *behind])
    return {
        "name": key.removeprefix(MEAN),
        "lower_is_better": lower_is_better(key),
        "mean": mean,
        "bar": _bar(mean, limit),
        "verdict": _verdict(mean),
        "across": comparison.across[key],
        "tally": tally,
        "tally_bar": charts.tally_bar(tally.wins, tally.ties, tally.losses),
        "limit": limit,
        "rows": [{"one": one, "bar": _bar(one, limit), "verdict": _verdict(one)} for one in behind],
    }


def _ranked(ranking: Ranking, key: str) -> dict[str, Any]:
    means, best, ranks = ranking.means(key), ranking.best(key), ranking.ranks(key)
    scores, verdicts = ranking.scores(key), ranking.verdicts(key)
    limit = _limit([comparison.mean(key) for comparison in ranking.pairs.values()])
    return {
        "name": key.removeprefix(MEAN),
        "lower_is_better": lower_is_better(key),
        "means": [{"value": means[index], "best": index in best} for index in range(len(means))],
        "ranks": list(ranks),
        "friedman_p": ranking.friedman_p(key),
        "datasets": len(scores),
        "diagram": _diagram(ranking, key),
        "pairs": [
            {
                "a": ranking.letters[a],
                "b": ranking.letters[b],
                "one": comparison.mean(key),
                "bar": _bar(comparison.mean(key), limit, told_apart=verdicts[a, b].better is not None),
                "verdict": verdicts[a, b],
                "better": None if verdicts[a, b].better is None else ranking.letters[verdicts[a, b].better or 0],
            }
            for (a, b), comparison in ranking.pairs.items()
        ],
        "rows": [
            {
                "dataset": dataset,
                "values": [
                    {"value": value, "best": value == (min(row) if lower_is_better(key) else max(row))}
                    for value in row
                ],
            }
            for dataset, row in zip(ranking.datasets(key), scores.tolist(), strict=True)
        ],
    }


def _diagram(ranking: Ranking, key: str) -> Markup | None:
    """The critical-difference diagram, for two data sets and more that do not all tie."""
    if ranking.friedman_p(key) is None:
        return None
    figure = critical_difference(ranking.scores(key), list(ranking.letters), lower_is_better=lower_is_better(key))
    ranks = ", ".join(
        f"{letter} {rank:.2f}" for letter, rank in zip(ranking.letters, ranking.ranks(key), strict=True)
    )
    return charts.from_figure(
        figure, f"Critical-difference diagram of {key.removeprefix(MEAN)}: mean ranks {ranks}"
    )


def _bar(one: Difference, limit: float, *, told_apart: bool = True) -> Markup:
    return charts.interval_bar(
        one.interval.delta,
        one.interval.low,
        one.interval.high,
        limit,
        good=(_verdict(one) if told_apart else "") or "open",
    )


def _verdict(one: Difference) -> str:
    """The CSS class and the word for a sure difference; empty when the interval holds zero or is not there."""
    return "better" if one.is_surely_better else "worse" if one.is_surely_worse else ""


def _limit(differences: Sequence[Difference]) -> float:
    """The largest bound, for one scale over all bars of a table."""
    ends = [end for one in differences for end in (one.interval.delta, one.interval.low, one.interval.high)]
    return max((abs(end) for end in ends if end is not None), default=0.0) or 1.0


def _changed(pair: _Pair, key: str) -> dict[str, Any] | None:
    """The examples behind a headline whose scores differ most; of equal ones, some of every data set."""
    found: list[tuple[float, int, int, dict[str, Any]]] = []
    for one in pair.comparison.behind(key):
        paired = pair.comparison.paired.get(one.key)
        for place, at in enumerate(paired.most_changed(_CHANGED) if paired else ()):
            assert paired is not None
            row = {
                "dataset": one.dataset,
                "example": paired.examples[at],
                "text": (paired.texts[at] or "")[:_LONGEST_TEXT],
                "expected": paired.expected[at],
                "predicted_a": paired.predicted_a[at],
                "predicted_b": paired.predicted_b[at],
                "a": float(paired.a[at]),
                "b": float(paired.b[at]),
            }
            found.append((-abs(float(paired.differences[at])), place, len(found), row))
    if not found:
        return None
    rows = [row for *_, row in sorted(found, key=lambda entry: entry[:3])[:_CHANGED]]
    return {"name": key.removeprefix(MEAN), "a": pair.a, "b": pair.b, "rows": rows}


def _curves(pairs: Sequence[_Pair]) -> list[dict[str, Any]]:
    """Means at every length that was measured, and at full length, per metric."""
    means = _means_by_letter(pairs)
    lengths: dict[str, set[int]] = {}
    for values in means.values():
        for key in values:
            if match := _CUT.fullmatch(key):
                lengths.setdefault(match[1], set()).add(int(match[2]))
    found = []
    for key, cuts in lengths.items():
        places = [*sorted(cuts)]
        series = [
            charts.Series(letter, letter, [*(values.get(f"{key}_{cut}d") for cut in places), values.get(key)])
            for letter, values in means.items()
        ]
        names = [*map(str, places), "full"]
        name = key.removeprefix(MEAN)
        found.append({"name": name, "chart": charts.line_chart(f"{name} by dimensions", names, series)})
    return found


def _robustness(pairs: Sequence[_Pair]) -> list[dict[str, Any]]:
    """What is left of each accuracy under each perturbation, from the task `robustness`."""
    means = _means_by_letter(pairs)
    groups: dict[str, list[str]] = {}
    for key in next(iter(means.values()), {}):
        match = _PERTURBED.fullmatch(key.removeprefix(_ROBUSTNESS))
        if key.startswith(_ROBUSTNESS) and match and not _CUT.fullmatch(key):
            groups.setdefault(match[1], []).append(match[2])
    found = []
    for accuracy, names in groups.items():
        keys = [f"{_ROBUSTNESS}{accuracy}", *(f"{_ROBUSTNESS}{accuracy}_{name}" for name in names)]
        series = [
            charts.Series(letter, letter, [values.get(key) for key in keys]) for letter, values in means.items()
        ]
        chart = charts.dot_chart(f"{accuracy} under perturbations", ["clean", *names], series)
        found.append({"name": accuracy, "chart": chart})
    return found


def _means_by_letter(pairs: Sequence[_Pair]) -> dict[str, dict[str, float]]:
    """Every model's means over the shared data sets."""
    found: dict[str, dict[str, float]] = {"A": {one.key: one.a for one in pairs[0].comparison.means}}
    for pair in pairs:
        found[pair.b] = {one.key: one.b for one in pair.comparison.means}
    return found


def _costs(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    keys = sorted({key for run in runs for key in run.metrics if is_cost(key)})
    return [{"name": key, "values": [run.metrics.get(key) for run in runs]} for key in keys]


def _data(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    names = sorted({key for run in runs for key in run.params if key.startswith(DATA_PARAM)})
    return [
        {"name": name.removeprefix(DATA_PARAM), "digests": [run.params.get(name) for run in runs]}
        for name in names
    ]


def _everything(pair: _Pair) -> dict[str, Any]:
    return {"a": pair.a, "b": pair.b, "rows": list(_all_rows(pair.comparison))}


def _all_rows(comparison: Comparison) -> Iterator[Difference]:
    for mean in comparison.means:
        yield mean
        yield from comparison.behind(mean.key)


@cache
def _style() -> Markup:
    return Markup((files("lakebed") / "eval" / "templates" / "report.css").read_text(encoding="utf-8"))  # noqa: S704


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def _p_value(value: float | None) -> str:
    """Three digits; small ones as a bound."""
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
