"""`lakebed jobs`: what was submitted to a cluster; how a run stands by its ledger; what dead runs left."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from lakebed.cli import console
from lakebed.cli.embed import check_json_file, read_job
from lakebed.platform.config.environment import read_environment
from lakebed.platform.config.storage import SinkConfig
from lakebed.platform.errors import ConfigError, JobNotFoundError

if TYPE_CHECKING:
    from lakebed.jobs.cleaning import Leftovers
    from lakebed.jobs.standing import Standing

app = typer.Typer(
    help="Jobs on a cluster: list, status, logs, stop. Runs, wherever they are: show, clean.", no_args_is_help=True
)

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_ADDRESS = typer.Option(
    None, "--address", help="The cluster's dashboard, http://host:8265. Default: LAKEBED_ADDRESS."
)
_JOB = typer.Argument(help="The job's id, as `lakebed submit` printed it.")


def cluster_at(address: str | None) -> str:
    """Return the address that was given, or the environment's; raises ConfigError when there is none."""
    found = address or read_environment().address
    if not found:
        raise ConfigError("no cluster address", hint="give --address http://host:8265, or set LAKEBED_ADDRESS")
    return found.rstrip("/")


def table_at(uri: str) -> SinkConfig:
    """Read an option that names a table; raises ConfigError."""
    return SinkConfig.parse({"uri": uri}, where="table")


@app.command("list")
def list_jobs(address: str | None = _ADDRESS) -> None:
    """List every submitted job, newest first."""
    from lakebed.jobs.launch import Cluster

    jobs = Cluster(cluster_at(address)).jobs()
    line = "{:<31} {:<9} {:<19} {:>8}  {}"
    console.out.print(line.format("job", "status", "started (UTC)", "time", "sink"), style="bold")
    for job in jobs:
        started = f"{job.started:%Y-%m-%d %H:%M:%S}" if job.started else ""
        time = _duration(job.started, job.ended)
        console.out.print(line.format(job.id, job.status, started, time, job.sink), markup=False)


@app.command("status")
def status(job: str = _JOB, address: str | None = _ADDRESS) -> None:
    """Print a job's status, and Ray's account of it."""
    from lakebed.jobs.launch import Cluster

    record = Cluster(cluster_at(address)).job(job)
    console.out.print(record.status)
    console.err.print(record.message, markup=False)


@app.command("logs")
def logs(
    job: str = _JOB,
    address: str | None = _ADDRESS,
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on until the job ends."),
) -> None:
    """Print what a job has printed; with --follow, fail as the job fails."""
    from lakebed.jobs.launch import Cluster

    cluster = Cluster(cluster_at(address))
    if follow:
        cluster.follow(job, lambda text: console.out.print(text, end="", markup=False))
    else:
        console.out.print(cluster.logs(job), end="", markup=False)


@app.command("stop")
def stop(job: str = _JOB, address: str | None = _ADDRESS) -> None:
    """Stop a job; nothing of it becomes visible."""
    from lakebed.jobs.launch import Cluster

    console.out.print(Cluster(cluster_at(address)).stop(job).status)


@app.command("show")
def show(
    run: str | None = typer.Argument(None, help="Id of a run, as in its summary. Default: list the runs."),
    sink: str | None = typer.Option(None, "--sink", help="The table of vectors that the run writes to."),
    job: Path | None = typer.Option(None, "--job", help="A job.yaml that names that table."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Look again until the run ends; fail as it fails."),
    limit: int = typer.Option(20, "--limit", min=1, help="Most runs to list."),
    json_file: Path | None = typer.Option(None, "--json", help="Write one run's figures to this file."),
) -> None:
    """Say how a run stands by the ledger beside its table, from any machine that reaches the store.

    Shows progress, rate, time left, commits and what was quarantined, while the run is at work and after it ended
    or died. Without --sink and --job, the run is looked up in MLflow.
    """
    check_json_file(json_file)
    from lakebed.platform.lake.tables import table_folder

    if run is None:
        if follow or json_file:
            raise ConfigError("--follow and --json are for one run", hint="name it: lakebed jobs show RUN")
        _list_runs(table_folder(_given(sink, job)), limit)
        return
    folder = table_folder(_given(sink, job) if sink or job else _logged_sink(run))
    found = _follow(folder, run) if follow else _show_once(folder, run)
    if json_file:
        json_file.write_text(json.dumps(found.as_json(), indent=1) + "\n", encoding="utf-8")
    if follow:
        from lakebed.jobs.standing import fail_as

        fail_as(found)


@app.command("clean")
def clean(
    job: Path | None = typer.Argument(None, metavar="JOB", help="A job.yaml that names the tables."),
    sink: str | None = typer.Option(None, "--sink", help="The table of vectors, instead of a job.yaml."),
    older_than: str = typer.Option("24h", "--older-than", help="Only files this old: 30m, 24h, 7d."),
    dry_run: bool = typer.Option(False, "--dry-run", help="List the files and remove none."),
) -> None:
    """Remove what killed, failed or older runs left: files no version of the tables holds, windows no run needs.

    Readers never saw them; they only take room. Files of a run at work are left alone.
    """
    age = _age(older_than)
    result = _given(sink, job)
    from lakebed.jobs.cleaning import find_leftovers
    from lakebed.jobs.run_record import tables_of

    tables = (result, read_job(job, {}).quarantine_table) if job else tables_of(result)
    for leftovers in find_leftovers(tables, age, datetime.now(UTC)):
        _clean(leftovers, dry_run)


def _given(sink: str | None, job: Path | None) -> SinkConfig:
    """The table of vectors that one of the two options names."""
    if sink and job:
        raise ConfigError("give --sink or a job.yaml, not both")
    if job:
        return read_job(job, {}).sink
    if not sink:
        raise ConfigError("which table? give --sink URI, or a job.yaml that names it")
    return table_at(sink)


def _logged_sink(run: str) -> SinkConfig:
    """The table a run writes to, as MLflow has it."""
    from lakebed.platform.tracking import Tracking

    uri = read_environment().resolved_tracking_uri
    found = Tracking(uri).find({"lakebed.run": run})
    if found is None or "sink" not in found.params:
        raise JobNotFoundError(
            f"MLflow has no run {run!r}", hint="say where it writes to: --sink URI or --job JOB"
        )
    return table_at(found.params["sink"])


def _list_runs(folder: str, limit: int) -> None:
    from lakebed.jobs.run_record import runs_at
    from lakebed.jobs.standing import Standing

    line = "{:<25} {:<12} {:<19} {:>13} {:>13}  {}"
    runs = runs_at(folder, limit)
    if not runs:
        raise JobNotFoundError(f"{folder}: no run has written there", hint="check the path")
    console.out.print(line.format("run", "status", "began (UTC)", "rows", "of", "model"), style="bold")
    for record in runs:
        plan, status = record.plan, Standing(record, datetime.now(UTC)).status
        began = f"{plan.began.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        rows, of = f"{record.state.rows:,}", "" if plan.preliminary else f"{plan.rows:,}"
        console.out.print(line.format(plan.run, status, began, rows, of, plan.model), markup=False)


def _show_once(folder: str, run: str) -> "Standing":
    from lakebed.jobs.standing import stands

    found = stands(folder, run)
    found.show(console.out)
    return found


def _follow(folder: str, run: str) -> "Standing":
    """Look until the run ends: in place on a terminal, elsewhere a line for what is new."""
    from lakebed.jobs.standing import follow

    looks = follow(folder, run)
    found = _in_place(looks) if console.err.is_terminal else _line_by_line(looks)
    found.show(console.out)
    return found


def _in_place(looks: "Iterator[Standing]") -> "Standing":
    from rich.live import Live
    from rich.text import Text

    with Live(console=console.err, transient=True, auto_refresh=False) as live:
        for found in looks:
            live.update(Text("\n".join(f"{name:<11}{value}" for name, value in found.lines())), refresh=True)
    return found


def _line_by_line(looks: "Iterator[Standing]") -> "Standing":
    said = ""
    for found in looks:
        if found.status == "running" and found.progress() != said:
            said = found.progress()
            console.err.print(said, markup=False)
    return found


def _clean(leftovers: "Leftovers", dry_run: bool) -> None:
    uri, count = leftovers.uri, len(leftovers.orphans)
    if dry_run:
        for orphan in leftovers.orphans:
            at = f"{orphan.modified.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
            console.out.print(f"{orphan.size:>14,}  {at}  {uri}/{orphan.path}", markup=False)
    else:
        leftovers.remove()
    spared = f"; {leftovers.spared:,} left: too new, or of a run at work" if leftovers.spared else ""
    done = "could be removed" if dry_run else "removed"
    console.out.print(f"{uri}: {count:,} files, {leftovers.size:,} bytes {done}{spared}", markup=False)


def _age(text: str) -> timedelta:
    """Read a length of time such as 24h; raises ConfigError."""
    found = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if found is None:
        raise ConfigError(f"--older-than {text}: not a length of time", hint="write 30m, 24h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _duration(started: datetime | None, ended: datetime | None) -> str:
    if started is None:
        return ""
    seconds = int(((ended or datetime.now(UTC)) - started).total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
