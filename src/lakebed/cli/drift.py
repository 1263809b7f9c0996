"""`lakebed drift`: whether the vectors of a table differ between two of its versions."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lakebed.cli import console
from lakebed.cli.evaluate import stores, write_figures

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.eval.drift import Drift


def drift(
    table: str = typer.Argument(help="Embedded table: a folder, s3://bucket/path, or iceberg:NAMESPACE.TABLE."),
    baseline: int = typer.Option(..., "--baseline", "-b", min=0, help="The version to compare with."),
    version: int | None = typer.Option(
        None, "--version", min=0, help="The version to look at; default: the newest."
    ),
    format: str = typer.Option("auto", "--format", help="delta, parquet, iceberg, lance, or auto."),
    catalog: str | None = typer.Option(
        None, "--catalog", help="Catalog of an Iceberg table, in ~/.pyiceberg.yaml."
    ),
    column: str = typer.Option("embedding", "--column", help="The column of vectors."),
    key: list[str] = typer.Option([], "--key", help="Column that names a row; may be repeated."),
    digest: str | None = typer.Option(None, "--digest", help="Of several models' vectors, take this one's."),
    only_new: bool = typer.Option(False, "--only-new", help="Test only rows whose vector the baseline lacks."),
    sample: int = typer.Option(1000, min=20, max=5000, help="At most so many rows of each version are tested."),
    permutations: int = typer.Option(1000, min=100, help="How often chance is drawn for the p-value."),
    seed: int = typer.Option(0, min=0, help="The same seed gives the same figures."),
    fail_below: float | None = typer.Option(
        None, "--fail-below", min=0.0, max=1.0, help="Exit with 1 when p is below this."
    ),
    track: bool = typer.Option(
        True, "--track/--no-track", help="Log a run of experiment lakebed-drift in MLflow."
    ),
    json_file: Path | None = typer.Option(None, "--json", help="Write every figure to this file."),
) -> None:
    """Compare the vectors of two versions of a table: tests with p-values, norms, duplicates, rows."""
    from lakebed.eval.drift import find_drift, record
    from lakebed.platform.config.storage import TableConfig
    from lakebed.platform.errors import DriftError

    where = TableConfig.parse(
        {"uri": table, "format": format, "version": version, "catalog": catalog}, where="drift"
    )
    _, tracking = stores()
    if track:
        tracking.check()
    options = {
        "column": column,
        "sample": sample,
        "permutations": permutations,
        "seed": seed,
        "only_new": only_new,
    }
    found = find_drift(
        where,
        baseline,
        column=column,
        keys=key,
        digest=digest,
        sample=sample,
        permutations=permutations,
        only_new=only_new,
        seed=seed,
    )
    for note in found.notes:
        console.err.print(f"note: {note}", markup=False)
    console.out.print(_table(found))
    if json_file:
        write_figures(json_file, dict(found.figures))
    if track:
        console.err.print(
            f"MLflow run {record(found, tracking, {**options, 'keys': ', '.join(key)})}", markup=False
        )
    if fail_below is not None and found.p < fail_below:
        raise DriftError(
            f"{found.uri}: the vectors of version {found.current.version} are not those of "
            f"version {found.baseline.version}: p {found.p:.4g} is below {fail_below:g}"
        )


def _table(found: "Drift") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    figures = found.figures
    table = Table(title=escape(found.uri), title_justify="left")
    for column in ("", f"baseline, version {found.baseline.version}", f"current, version {found.current.version}"):
        table.add_column(column, justify="right" if column else "left")
    for name, said, form in (
        ("rows", "rows with a vector", ",.0f"),
        ("rows_without_vector", "rows without", ",.0f"),
        ("duplicate_rate", "duplicates", ".2%"),
        ("norm_mean", "norm, mean", ".4f"),
        ("norm_1", "norm, 1 %", ".4f"),
        ("norm_99", "norm, 99 %", ".4f"),
    ):
        table.add_row(said, format(figures[f"baseline_{name}"], form), format(figures[f"current_{name}"], form))
    table.add_section()
    if found.changes:
        counts = vars(found.changes).items()
        table.add_row("rows", "", ", ".join(f"{count:,} {name}" for name, count in counts))
    table.add_row("beyond 99 % of the baseline", "1.00%", f"{figures['far_share']:.2%}")
    table.add_row("maximum mean discrepancy", "", f"{figures['mmd2']:.5f}, p {figures['mmd_p']:.4g}")
    table.add_row(
        "told apart by a classifier", "", f"{figures['classifier_accuracy']:.1%}, p {figures['classifier_p']:.4g}"
    )
    table.add_row("p of both", "", f"{figures['p']:.4g}", style="bold")
    return table
