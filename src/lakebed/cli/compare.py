"""`lakebed compare`: measured models side by side, as tables in the terminal and as a report in HTML."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lakebed.cli import console
from lakebed.cli.evaluate import stores, write_figures

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.eval.compare import Comparison, Difference
    from lakebed.eval.side_by_side import Ranking


def compare(
    a: str = typer.Argument(help="The one in use: MODEL, MODEL@VERSION or MODEL#DIMENSIONS."),
    b: str = typer.Argument(help="The one that may replace it."),
    more: list[str] | None = typer.Argument(None, help="Further ones: every two are compared."),
    suite: str | None = typer.Option(None, "--suite", "-s", help="Suite; by default the newest all were run on."),
    every: bool = typer.Option(False, "--all", help="Show every metric, not only the headline ones."),
    draws: int = typer.Option(10_000, min=100, help="How often examples are drawn for intervals and p-values."),
    html_file: Path | None = typer.Option(
        None, "--html", help="Write a report to this file, and keep it in MLflow, experiment lakebed-compare."
    ),
    json_file: Path | None = typer.Option(None, "--json", help="Write every figure to this file."),
) -> None:
    """Show by how much models differ, with paired 95 % intervals, from the runs that `lakebed eval` logged."""
    from lakebed.eval.compare import compare as compare_runs
    from lakebed.eval.side_by_side import rank
    from lakebed.eval.subject import resolve_subject

    registry, tracking = stores()
    subjects = [resolve_subject(reference, registry) for reference in (a, b, *(more or ()))]
    result: Comparison | Ranking
    if more:
        result = rank(subjects, tracking, suite, draws=draws)
        tables = list(ranking_tables(result, every=every))
    else:
        result = compare_runs(subjects[0], subjects[1], tracking, suite, draws=draws)
        tables = [comparison_table(result, every=every)]
    for note in result.notes:
        console.err.print(f"note: {note}", markup=False)
    for table in tables:
        console.out.print(table)
    if json_file:
        write_figures(json_file, result.figures())
    if html_file:
        from lakebed.eval.report import publish

        run_id = publish(result, html_file, tracking)
        console.err.print(f"report in {html_file}; MLflow run {run_id}", markup=False)


def comparison_table(result: "Comparison", *, every: bool = False) -> "Table":
    """A block per metric: the data sets' deltas, then their mean and on how many sets B won, tied and lost."""
    from rich.markup import escape
    from rich.table import Table

    title = f"A: {result.a}\nB: {result.b}\nsuite: {result.suite}"
    table = Table(title=escape(title), title_justify="left")
    for column in ("", "A", "B", "B - A", "95 % interval", "p"):
        table.add_column(column, justify="right" if column else "left", no_wrap=bool(column))
    for key in [mean.key for mean in result.means] if every else result.headlines:
        table.add_row(escape(key.partition("/")[2].partition("/")[2]), style="bold")
        for one in result.behind(key):
            table.add_row(*_cells(escape(one.dataset), one))
        tally, across = result.tally(key), result.across[key]
        name = f"mean; B won {tally.wins}, tied {tally.ties}, lost {tally.losses}"
        table.add_row(*_cells(name, result.mean(key)), style="bold", end_section=across.p is None)
        if across.p is not None:
            holm = "" if across.p_holm is None else f", Holm {_p(across.p_holm)}"
            table.add_row(f"Wilcoxon p {_p(across.p)}{holm}", end_section=True)
    return table


def ranking_tables(result: "Ranking", *, every: bool = False) -> "Iterator[Table]":
    """The means of all models with the best marked, then every two of them on each metric."""
    from rich.markup import escape
    from rich.table import Table

    keys = result.metrics if every else [key for key in result.metrics if key in result.headlines]
    named = "\n".join(f"{letter}: {label}" for letter, label in zip(result.letters, result.labels, strict=True))
    means = Table(
        title=escape(f"{named}\nsuite: {result.suite}"),
        title_justify="left",
        caption="* best",
        caption_justify="left",
    )
    for column in ("mean", *result.letters, "Friedman p"):
        means.add_column(column, justify="left" if column == "mean" else "right", no_wrap=column != "mean")
    pairs = Table(title="pairs, p-values Holm-corrected over pairs", title_justify="left")
    for column in ("", "difference", "95 % interval", "p", "Wilcoxon p", "better"):
        pairs.add_column(column, justify="right" if column else "left", no_wrap=bool(column))
    for key in keys:
        name, best = escape(key.partition("/")[2]), result.best(key)
        values = [f"{value:.4f}{'*' if index in best else ' '}" for index, value in enumerate(result.means(key))]
        means.add_row(name, *values, _p(result.friedman_p(key)))
        pairs.add_row(name, style="bold")
        for (one, other), verdict in result.verdicts(key).items():
            mean = result.pairs[one, other].mean(key)
            better = "" if verdict.better is None else result.letters[verdict.better]
            pairs.add_row(
                f"{result.letters[other]} - {result.letters[one]}",
                f"{mean.interval.delta:+.4f}",
                _bounds(mean),
                _p(verdict.p_holm),
                _p(verdict.wilcoxon_p_holm),
                better or "not told apart",
            )
        pairs.add_section()
    yield means
    yield pairs


def _cells(name: str, one: "Difference") -> tuple[str, ...]:
    return name, f"{one.a:.4f}", f"{one.b:.4f}", f"{one.interval.delta:+.4f}", _bounds(one), _p(one.p)


def _bounds(one: "Difference") -> str:
    return "" if one.interval.low is None else f"{one.interval.low:+.4f} {one.interval.high:+.4f}"


def _p(value: float | None) -> str:
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
