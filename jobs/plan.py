"""How a job is cut up: encoders, rows per batch, rows per data file. Arithmetic; knows no Ray.

Rows per batch: large batches sort well by length and cost few calls; but every encoder should get several, or the
last one to finish holds up the rest, and a batch of long series must fit into memory.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lakebed.jobs.units import Unit
from lakebed.platform.config.embed import ComputeConfig
from lakebed.platform.errors import ConfigError

_BATCHES_PER_ACTOR: Final = 8
_LEAST_BATCH: Final = 32
_LEAST_ROWS_PER_ACTOR: Final = 512
"""Rows for which another encoder is worth loading, which takes seconds and memory, when nobody asks for it."""

_BATCH_BYTES: Final = 16 * 1024**2
_FILES_PER_JOB: Final = 64
_MOST_PART_ROWS: Final = 65_536
_LEAST_IO_TASKS: Final = 2
_ACTOR_SHARE: Final = 0.8
"""Share of a CPU that an encoder reserves per thread. The rest is for reading and writing, which mostly wait."""


@dataclass(frozen=True)
class Resources:
    """What a cluster has. `memory` is in bytes, infinite where nothing counts it."""

    cpus: float
    gpus: float = 0
    memory: float = math.inf


@dataclass(frozen=True)
class Plan:
    """How a job is cut up. `actor_memory` is in bytes.

    `preparers` processes at most, and at least `least_preparers`, prepare for the encoders; where there are none,
    each encoder does it itself.

    `reads` and `writes` tasks run at once at most: each is a process and what it holds. `writes` is None when
    there are few parts anyway; Ray Data warns of a bound that is not reached.
    """

    actors: int
    least_actors: int
    threads: int
    actor_memory: int
    actor_cpus: float
    actor_gpus: float
    preparers: int
    least_preparers: int
    preparer_cpus: float
    io_cpus: float
    reads: int
    writes: int | None
    batch_rows: int
    part_rows: int
    blocks: int


def plan_job(units: Sequence[Unit], compute: ComputeConfig, resources: Resources) -> Plan:
    """Cut a job up; raises ConfigError when the cluster has not what the job asks for."""
    rows = sum(unit.rows for unit in units)
    least, actors = _actors(compute, resources, rows)
    batch_rows = _batch_rows(rows, sum(unit.size for unit in units), compute.batch_rows, actors)
    part_rows = compute.part_rows or min(_MOST_PART_ROWS, max(batch_rows, rows // _FILES_PER_JOB))
    batches = -(-rows // batch_rows)
    at_once = max(_LEAST_IO_TASKS, actors, int(resources.cpus))
    least_preparers, preparers = _preparers(compute, resources, actors)
    return Plan(
        actors=min(actors, max(1, batches)),
        least_actors=min(least, max(1, batches)),
        threads=compute.threads,
        actor_memory=_memory(compute, resources),
        actor_cpus=round(compute.threads * _ACTOR_SHARE, 2),
        actor_gpus=compute.gpus,
        preparers=min(preparers, max(1, batches)),
        least_preparers=min(least_preparers, max(1, batches)),
        preparer_cpus=_ACTOR_SHARE,
        io_cpus=compute.io_cpus,
        reads=max(1, min(len(units), at_once)),
        writes=at_once if rows // max(part_rows, batch_rows) >= 2 * at_once else None,
        batch_rows=batch_rows,
        part_rows=part_rows,
        blocks=max(len(units), batches),
    )


def _actors(compute: ComputeConfig, resources: Resources, rows: int) -> tuple[int, int]:
    """Count encoders, at least and at most; those that are asked for by number may wait for a growing cluster."""
    if compute.actors != "auto":
        return compute.actors.min, compute.actors.max
    useful = -(-rows // _LEAST_ROWS_PER_ACTOR)
    if compute.gpus:
        fitting = int(resources.gpus / compute.gpus)
        if not fitting:
            raise ConfigError(
                f"compute.gpus: {compute.gpus:g} per encoder, the cluster has {resources.gpus:g} now",
                hint="set compute.gpus to 0, or compute.actors to the number of encoders to wait for",
            )
    else:
        fitting = int(min(resources.cpus // compute.threads, resources.memory // _memory(compute, resources)))
    count = max(1, min(fitting, useful))
    return count, count


def _preparers(compute: ComputeConfig, resources: Resources, actors: int) -> tuple[int, int]:
    """Count processes that prepare, at least and at most: beside GPUs, as many as the encoders leave CPUs for."""
    if compute.preparers == 0:
        return 0, 0
    if compute.preparers != "auto":
        return compute.preparers.min, compute.preparers.max
    if not compute.gpus:
        return 0, 0
    left = resources.cpus - actors * compute.threads * _ACTOR_SHARE - _LEAST_IO_TASKS * compute.io_cpus
    return 1, max(1, int(left / _ACTOR_SHARE))


def _memory(compute: ComputeConfig, resources: Resources) -> int:
    """Bytes of one encoder; a cluster that has less in all gets one encoder, and is not waited for."""
    return int(min(compute.actor_memory_gib * 1024**3, resources.memory))


def _batch_rows(rows: int, size: int, most: int, actors: int) -> int:
    fair = -(-rows // (actors * _BATCHES_PER_ACTOR))
    fitting = _BATCH_BYTES * rows // max(1, size)
    return max(1, min(most, fitting, max(_LEAST_BATCH, fair)))
