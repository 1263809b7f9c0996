"""How a job is cut up: encoders, rows per batch, rows per data file. Arithmetic; knows no Ray.

Rows per batch: large batches sort well by length and cost few calls; but every encoder should get several, or the
last one to finish holds up the rest, and a batch of long series must fit into memory.
"""

from dataclasses import dataclass
from typing import Final

from lakebed.platform.config.embed import ComputeConfig
from lakebed.platform.errors import ConfigError
from lakebed.platform.lake.fragments import Snapshot

_BATCHES_PER_ACTOR: Final = 8
_LEAST_BATCH: Final = 32
_BATCH_BYTES: Final = 16 * 1024**2
_FILES_PER_JOB: Final = 64
_MOST_PART_ROWS: Final = 65_536
_ACTOR_SHARE: Final = 0.8
"""Share of a CPU that an encoder reserves per thread. The rest is for reading and writing, which mostly wait."""


@dataclass(frozen=True)
class Resources:
    """What a cluster has."""

    cpus: float
    gpus: float = 0


@dataclass(frozen=True)
class Plan:
    """How a job is cut up."""

    actors: int
    threads: int
    actor_cpus: float
    actor_gpus: float
    io_cpus: float
    batch_rows: int
    part_rows: int
    blocks: int


def plan_job(snapshot: Snapshot, compute: ComputeConfig, resources: Resources) -> Plan:
    """Cut a job up; raises ConfigError when the cluster has not what the job asks for."""
    actors = _actors(compute, resources)
    batch_rows = _batch_rows(snapshot, compute.batch_rows, actors)
    part_rows = compute.part_rows or min(_MOST_PART_ROWS, max(batch_rows, snapshot.rows // _FILES_PER_JOB))
    batches = -(-snapshot.rows // batch_rows)
    return Plan(
        actors=min(actors, max(1, batches)),
        threads=compute.threads,
        actor_cpus=round(compute.threads * _ACTOR_SHARE, 2),
        actor_gpus=compute.gpus,
        io_cpus=compute.io_cpus,
        batch_rows=batch_rows,
        part_rows=part_rows,
        blocks=max(len(snapshot.fragments), batches),
    )


def _actors(compute: ComputeConfig, resources: Resources) -> int:
    """Count encoders; those that are asked for by number may wait for an autoscaling cluster."""
    if compute.actors != "auto":
        return compute.actors
    if compute.gpus:
        fitting = int(resources.gpus / compute.gpus)
        if not fitting:
            raise ConfigError(
                f"compute.gpus: {compute.gpus:g} per encoder, the cluster has {resources.gpus:g} now",
                hint="set compute.gpus to 0, or compute.actors to the number of encoders to wait for",
            )
        return fitting
    return max(1, int(resources.cpus // compute.threads))


def _batch_rows(snapshot: Snapshot, most: int, actors: int) -> int:
    size = sum(fragment.size for fragment in snapshot.fragments)
    fair = -(-snapshot.rows // (actors * _BATCHES_PER_ACTOR))
    fitting = _BATCH_BYTES * snapshot.rows // max(1, size)
    return max(1, min(most, fitting, max(_LEAST_BATCH, fair)))
