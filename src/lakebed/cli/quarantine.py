"""`lakebed quarantine`: the rows that could not be embedded, and another try at them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lakebed.cli import console
from lakebed.cli.embed import check_json_file, read_job, run_job
from lakebed.cli.jobs import table_at

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.jobs.quarantine import QuarantinedRows
    from lakebed.platform.config.storage import TableConfig

app = typer.Typer(help="Rows that could not be embedded: show them, try them again.", no_args_is_help=True)

_JSON = typer.Option(None, "--json", help="Write the figures to this file.")
_SPECIFICATIONS = (".yaml", ".yml", ".json")


@app.command("show")
def show(
    place: str = typer.Argument(
        metavar="SINK|JOB", help="The table of vectors, or its quarantine table, or a job.yaml that names them."
    ),
    code: str | None = typer.Option(None, "--code", help="Only rows with this error code, such as non_finite."),
    limit: int = typer.Option(20, "--limit", min=0, help="Most rows to print."),
    json_file: Path | None = typer.Option(None, "--json", help="Write counts and rows to this file."),
) -> None:
    """Print rows that could not be embedded: keys, file, position, code and message; and how many there are."""
    check_json_file(json_file)
    table = _table(place)
    from lakebed.jobs.quarantine import read_quarantine

    found = read_quarantine(table, code, limit)
    _print(found)
    if json_file:
        json_file.write_text(json.dumps(found.as_json(), indent=1, default=str) + "\n", encoding="utf-8")


@app.command("retry")
def retry(
    spec: Path = typer.Argument(metavar="JOB", help="The job.yaml of the job whose rows were quarantined."),
    track: bool = typer.Option(True, "--track/--no-track", help="Log an MLflow run."),
    json_file: Path | None = _JSON,
) -> None:
    """Embed a job's quarantined rows again, such as after its model was mended; good ones leave quarantine."""
    check_json_file(json_file)
    job = read_job(spec, {})
    run_job(job if track else job.model_copy(update={"experiment": None}), json_file, retry_quarantined=True)


def _table(place: str) -> "TableConfig":
    from lakebed.jobs.quarantine import as_source, quarantine_of

    if place.endswith(_SPECIFICATIONS):
        return as_source(read_job(Path(place), {}).quarantine_table)
    return quarantine_of(table_at(place))


def _print(found: "QuarantinedRows") -> None:
    if not found.total:
        console.out.print(f"{found.uri}: no rows are quarantined", markup=False)
        return
    if found.rows:
        console.out.print(_rows_of(found))
    counts = ", ".join(f"{count:,} {code}" for code, count in sorted(found.codes.items()))
    console.out.print(f"{found.uri}: {found.total:,} rows are quarantined: {counts}", markup=False)
    if len(found.rows) < found.total:
        console.err.print(f"{len(found.rows):,} of them are shown: see --code and --limit")


def _rows_of(found: "QuarantinedRows") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(*found.columns, box=None)
    for row in found.rows:
        table.add_row(*("" if row[name] is None else escape(str(row[name])) for name in found.columns))
    return table
