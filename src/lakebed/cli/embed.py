"""`lakebed embed` and `lakebed submit`: run an embedding job here, or on a cluster."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lakebed.cli import console
from lakebed.platform.config.base import read_yaml
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.config.environment import read_environment
from lakebed.platform.errors import ConfigError

if TYPE_CHECKING:
    from lakebed.jobs.report import EmbedReport

_TABLE = "Source and sink"
_COLUMNS = "Columns"
_COMPUTE = "Compute"


def embed(
    spec: Path | None = typer.Argument(None, help="A job.yaml; options override its fields."),
    source: str | None = typer.Option(
        None, help="Table to embed: a folder, s3://bucket/path, iceberg:NAMESPACE.TABLE.", rich_help_panel=_TABLE
    ),
    source_format: str | None = typer.Option(
        None, help="delta, parquet, iceberg, lance or auto.", rich_help_panel=_TABLE
    ),
    source_catalog: str | None = typer.Option(
        None, help="Iceberg catalog of the source, by its name in ~/.pyiceberg.yaml.", rich_help_panel=_TABLE
    ),
    source_version: int | None = typer.Option(
        None, help="Version to read. Default: the newest.", rich_help_panel=_TABLE
    ),
    source_filter: str | None = typer.Option(
        None, "--filter", help="Rows to read: site == 'north' and year >= 2024.", rich_help_panel=_TABLE
    ),
    sink: str | None = typer.Option(None, help="Table of vectors to write.", rich_help_panel=_TABLE),
    sink_format: str | None = typer.Option(None, help="delta, parquet, iceberg or lance.", rich_help_panel=_TABLE),
    sink_catalog: str | None = typer.Option(
        None, help="Iceberg catalog of the sink, by its name in ~/.pyiceberg.yaml.", rich_help_panel=_TABLE
    ),
    quarantine: str | None = typer.Option(
        None, help="Table of rows that cannot be embedded. Default: SINK_quarantine.", rich_help_panel=_TABLE
    ),
    max_quarantined: str | None = typer.Option(
        None, help="Share of such rows that is allowed: 0.1 or 10%.", rich_help_panel=_TABLE
    ),
    text: str | None = typer.Option(
        None, help='Column of text, or one made of several: "{site}: {note}".', rich_help_panel=_COLUMNS
    ),
    series: str | None = typer.Option(None, help="Column of channels x samples.", rich_help_panel=_COLUMNS),
    channel: list[str] | None = typer.Option(
        None, help="Column of one channel; repeatable.", rich_help_panel=_COLUMNS
    ),
    key: list[str] | None = typer.Option(
        None, help="Column that identifies a row; repeatable.", rich_help_panel=_COLUMNS
    ),
    keep: list[str] | None = typer.Option(
        None, help="Further column to copy; repeatable.", rich_help_panel=_COLUMNS
    ),
    channel_name: list[str] | None = typer.Option(
        None, help="Name of a channel, in order; repeatable.", rich_help_panel=_COLUMNS
    ),
    sampling_rate: float | None = typer.Option(None, help="Samples per second.", rich_help_panel=_COLUMNS),
    window_length: str | None = typer.Option(
        None, help="Samples or duration of a window; the file names its columns.", rich_help_panel=_COLUMNS
    ),
    window_stride: str | None = typer.Option(
        None, help="From one window's start to the next. Default: their length.", rich_help_panel=_COLUMNS
    ),
    model: str | None = typer.Option(None, help="Model reference. Default: lakebed-embed."),
    dimensions: int | None = typer.Option(None, help="Length of the vectors. Default: the model's."),
    max_equal_vectors: str | None = typer.Option(
        None, help="Share of rows that may have another row's vector, such as 5%."
    ),
    experiment: str | None = typer.Option(None, help="MLflow experiment of the run."),
    track: bool = typer.Option(True, "--track/--no-track", help="Log an MLflow run."),
    actors: str | None = typer.Option(
        None, help="Encoders at once: a number, a range such as 2-8, or auto.", rich_help_panel=_COMPUTE
    ),
    threads: int | None = typer.Option(None, help="CPU threads of an encoder.", rich_help_panel=_COMPUTE),
    gpus: float | None = typer.Option(None, help="GPUs of an encoder.", rich_help_panel=_COMPUTE),
    batch_rows: int | None = typer.Option(None, help="Most rows in a batch.", rich_help_panel=_COMPUTE),
    batch_cost: int | None = typer.Option(None, help="Largest device batch, in tokens.", rich_help_panel=_COMPUTE),
    part_rows: int | None = typer.Option(None, help="Rows of a data file.", rich_help_panel=_COMPUTE),
    io_cpus: float | None = typer.Option(
        None, help="CPUs of a reading or writing task.", rich_help_panel=_COMPUTE
    ),
    cache_bytes: int | None = typer.Option(
        None, help="Memory of an encoder for vectors that may come again; 0: none.", rich_help_panel=_COMPUTE
    ),
    address: str | None = typer.Option(
        None, help="Ray to run on: embedded, auto or host:port.", rich_help_panel=_COMPUTE
    ),
    cpus: int | None = typer.Option(None, help="CPUs of an embedded Ray.", rich_help_panel=_COMPUTE),
    object_store_mib: int | None = typer.Option(
        None, help="Shared memory of an embedded Ray.", rich_help_panel=_COMPUTE
    ),
    again: bool = typer.Option(False, "--again", help="Embed even what the sink holds already."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Embed a sample of the rows here, say what the job would take, and write nothing."
    ),
    dollars_per_hour: float | None = typer.Option(
        None, "--dollars-per-hour", min=0, help="With --dry-run: what all machines of the job cost together."
    ),
    json_file: Path | None = typer.Option(None, "--json", help="Write the summary's figures to this file."),
) -> None:
    """Embed a table into another: what it does not hold yet; run again, it goes on from there."""
    options = {
        "source": {
            "uri": source,
            "format": source_format,
            "catalog": source_catalog,
            "version": source_version,
            "filter": source_filter,
        },
        "columns": {"text": text, "series": series, "channels": channel, "keys": key, "keep": keep},
        "windows": {"length": window_length, "stride": window_stride},
        "sink": {"uri": sink, "format": sink_format, "catalog": sink_catalog},
        "model": model,
        "dimensions": dimensions,
        "channel_names": channel_name,
        "sampling_rate": sampling_rate,
        "quarantine": quarantine,
        "max_quarantined": max_quarantined,
        "experiment": experiment,
        "validation": {"max_equal_vectors": max_equal_vectors},
        "compute": {
            "actors": actors,
            "threads": threads,
            "gpus": gpus,
            "batch_rows": batch_rows,
            "batch_cost": batch_cost,
            "part_rows": part_rows,
            "io_cpus": io_cpus,
            "cache_bytes": cache_bytes,
        },
        "cluster": {"address": address, "cpus": cpus, "object_store_mib": object_store_mib},
    }
    job = read_job(spec, options)
    check_json_file(json_file)
    if dry_run:
        estimate_job(job, json_file, dollars_per_hour, again=again)
        return
    if dollars_per_hour is not None:
        raise ConfigError("--dollars-per-hour is for --dry-run")
    run_job(job if track else job.model_copy(update={"experiment": None}), json_file, again=again)


def submit(
    spec: Path = typer.Argument(help="A job.yaml; its local paths mean paths on the cluster."),
    address: str | None = typer.Option(
        None, help="The cluster's dashboard, http://host:8265. Default: LAKEBED_ADDRESS."
    ),
    wait: bool = typer.Option(True, "--wait/--no-wait", help="Follow the job until it ends."),
) -> None:
    """Run a job on a Ray cluster, with the code as it is here; prints the job's id."""
    job = read_job(spec, {})
    from lakebed.cli.jobs import cluster_at
    from lakebed.jobs.launch import Cluster
    from lakebed.platform.encoder.load import resolve_model
    from lakebed.platform.registry import Registry

    cluster = Cluster(cluster_at(address))
    environment = read_environment()
    model = resolve_model(job.model, Registry(environment.resolved_tracking_uri))
    if job.experiment and not (environment.tracking_uri or "").startswith("http"):
        console.err.print("no MLflow server is set (LAKEBED_TRACKING_URI): the run will not be logged")
        job = job.model_copy(update={"experiment": None})
    job_id = cluster.submit(job, model)
    console.out.print(job_id)
    if not wait:
        console.err.print(f"follow it with: lakebed jobs logs {job_id} --follow --address {cluster.address}")
        return
    cluster.follow(job_id, lambda text: console.err.print(text, end="", markup=False))


def backfill(
    place: str = typer.Argument(metavar="SINK|JOB", help="The table of vectors, or the job.yaml that made it."),
    model: str = typer.Option(..., "--model", help="Model reference whose vectors the table is to have."),
    remove_others: bool = typer.Option(
        False, "--remove-others", help="In the end, remove the vectors of all other models."
    ),
    quarantine: str | None = typer.Option(
        None, "--quarantine", help="Quarantine table, where it is not SINK_quarantine."
    ),
    track: bool = typer.Option(True, "--track/--no-track", help="Log an MLflow run."),
    json_file: Path | None = typer.Option(None, "--json", help="Write the summary's figures to this file."),
) -> None:
    """Bring a table to another model: embed its source with that, beside what is there; resumes like any job."""
    check_json_file(json_file)
    from lakebed.cli.jobs import table_at
    from lakebed.jobs.backfill import job_of_table, remove_other_models

    if place.endswith((".yaml", ".yml", ".json")):
        job = read_job(Path(place), {"model": model, "quarantine": quarantine})
    else:
        job = job_of_table(table_at(place), model, quarantine)
    report = run_job(job if track else job.model_copy(update={"experiment": None}), json_file)
    if remove_others:
        for removed in remove_other_models(job, report.digest, report.source_version):
            console.out.print(f"removed    {removed.rows:,} rows of model {removed.digest[:12]}", highlight=False)


def check_json_file(path: Path | None) -> None:
    """Raise ConfigError now, rather than after the work whose figures go there."""
    if path and not path.absolute().parent.is_dir():
        raise ConfigError(f"--json {path}: there is no folder {path.absolute().parent}")


def read_job(path: Path | None, options: dict[str, Any]) -> EmbedJob:
    """Lay the options that were given over the file; raises ConfigError."""
    values = {} if path is None else read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of fields, found {type(values).__name__}")
    return EmbedJob.parse(_laid_over(values, options), where=str(path or "options"))


def _laid_over(values: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, option in options.items():
        if isinstance(option, dict):
            section = merged.get(name) or {}
            if not isinstance(section, dict):
                continue  # malformed in the file; its check says so
            section = _laid_over(section, option)
            if section:
                merged[name] = section
        elif option is not None and option != []:
            merged[name] = option
    return merged


def run_job(
    job: EmbedJob, json_file: Path | None, *, again: bool = False, retry_quarantined: bool = False
) -> "EmbedReport":
    """Run a job here, show how far it is, and print its summary."""
    from lakebed.jobs.embed import run_embed
    from lakebed.jobs.progress import Display
    from lakebed.platform.registry import Registry
    from lakebed.platform.tracking import Tracking

    uri = read_environment().resolved_tracking_uri
    with Display(console.err) as display:
        report = run_embed(
            job,
            registry=Registry(uri),
            tracking=Tracking(uri),
            watch=display.watching,
            note=display.note,
            again=again,
            retry_quarantined=retry_quarantined,
        )
    report.show(console.out)
    if json_file:
        json_file.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
    return report


def estimate_job(
    job: EmbedJob, json_file: Path | None, dollars_per_hour: float | None, *, again: bool = False
) -> None:
    """Print what a job would take; nothing is written to its tables."""
    from lakebed.jobs.checking import check_job
    from lakebed.jobs.dry_run import dry_run, planned_encoders
    from lakebed.platform.registry import Registry

    checked = check_job(job, Registry(read_environment().resolved_tracking_uri))
    slots = (checked.sink, checked.sink_state), (checked.quarantine, checked.quarantine_state)
    held = 0 if again else sum(sink.slot(state, checked.info.digest).rows for sink, state in slots)
    estimate = dry_run(
        job,
        checked.snapshot,
        checked.model,
        checked.dimensions,
        planned_encoders(job, checked.snapshot),
        held=held,
        dollars_per_hour=dollars_per_hour,
    )
    estimate.show(console.out)
    if json_file:
        json_file.write_text(json.dumps(estimate.as_json(), indent=1) + "\n", encoding="utf-8")
