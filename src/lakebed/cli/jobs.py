"""`lakebed jobs`: what was submitted to a cluster, and how it stands."""

from datetime import UTC, datetime

import typer

from lakebed.cli import console
from lakebed.platform.config.environment import read_environment
from lakebed.platform.errors import ConfigError

app = typer.Typer(help="Jobs on a cluster: list, status, logs, stop.", no_args_is_help=True)

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


def _duration(started: datetime | None, ended: datetime | None) -> str:
    if started is None:
        return ""
    seconds = int(((ended or datetime.now(UTC)) - started).total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
