"""The job on Ray Data: read -> embed on actors -> stage files -> short accounts back to the driver.

Only this module knows Ray Data. Arrow tables go in and out of every stage, so that no type of Ray's own reaches a
table; vectors never pass through the driver.
"""

import logging
import os
import pickle
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from ray.exceptions import RayError

from lakebed.jobs.encoding import RowEmbedder
from lakebed.jobs.output import POSITION, UNIT, embedded_table
from lakebed.jobs.plan import Plan, Resources
from lakebed.jobs.ranges import members
from lakebed.jobs.rows import RowMapping
from lakebed.jobs.staging import Staged, Stager
from lakebed.jobs.units import Unit
from lakebed.platform.encoder.load import Model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.errors import JobFailedError, LakebedError
from lakebed.platform.lake.fragments import Snapshot

_ACCOUNT: Final = "staged"
_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Embedding:
    """What the actors need to know. `model` is packed: its files travel inside."""

    model: Model
    mapping: RowMapping
    dimensions: int
    budget: Budget
    threads: int
    device: Any


class UnitSource(Datasource):
    """Units of a snapshot as read tasks; each row carries its unit and its position in its file."""

    def __init__(
        self, snapshot: Snapshot, units: Sequence[Unit], columns: tuple[str, ...], batch_rows: int
    ) -> None:
        self._snapshot = snapshot
        self._units = units
        self._columns = columns
        self._batch_rows = batch_rows

    def estimate_inmemory_data_size(self) -> int | None:
        """Leave it open; blocks are cut by rows."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """One task per unit."""
        bare = replace(self._snapshot, fragments=())  # a task needs its own fragment only
        return [
            ReadTask(
                partial(read_unit, bare, number, unit, self._columns, self._batch_rows),
                BlockMetadata(num_rows=unit.rows, size_bytes=None, input_files=None, exec_stats=None),
            )
            for number, unit in enumerate(self._units)
        ]


def read_unit(
    snapshot: Snapshot, number: int, unit: Unit, columns: tuple[str, ...], batch_rows: int
) -> Iterator[pa.Table]:
    """Read the rows of one unit of a snapshot, with its number and their positions."""
    position = unit.fragment.start
    for table in snapshot.read(unit.fragment, columns, batch_rows):
        positions = np.arange(position, position + len(table))
        position += len(table)
        wanted = members(unit.todo, positions)
        if not wanted.any():
            continue
        if not wanted.all():
            table, positions = table.filter(pa.array(wanted)), positions[wanted]
        table = table.append_column(UNIT, pa.array(np.full(len(table), number, np.int32)))
        yield table.append_column(POSITION, pa.array(positions))


def resources() -> Resources:
    """Return what the connected cluster has now."""
    have = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray ships part of its types
    return Resources(have.get("CPU", 1), have.get("GPU", 0))


def run_pipeline(
    plan: Plan, source: UnitSource, embedding: Embedding, stager: Stager, variables: Mapping[str, str]
) -> Generator[Staged]:
    """Embed the rows of a source; yields an account of each part as it is staged. Closing it ends the work.

    `variables` are set in the environment of every worker.
    """
    with DataContext.current(_context()):
        accounts = _dataset(plan, source, embedding, stager, variables)
        batches = iter(accounts.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
        try:
            for batch in batches:
                for account in batch.column(_ACCOUNT).to_pylist():
                    yield pickle.loads(account)  # noqa: S301  our own workers wrote it
        except RayError as error:
            raise _of_workers(error) from error


def _dataset(
    plan: Plan, source: UnitSource, embedding: Embedding, stager: Stager, variables: Mapping[str, str]
) -> Any:
    rows = ray.data.read_datasource(
        source,
        num_cpus=plan.io_cpus,
        compute=TaskPoolStrategy(plan.reads),
        override_num_blocks=plan.blocks,
        runtime_env=_environment(variables),
    )
    embedded = rows.map_batches(
        EmbedBatches,
        fn_constructor_args=(embedding,),
        batch_size=plan.batch_rows,
        batch_format="pyarrow",
        compute=_pool(plan),
        num_cpus=plan.actor_cpus,
        num_gpus=plan.actor_gpus or None,
        runtime_env=_environment(variables),
    )
    return embedded.map_batches(
        partial(stage_batch, stager=stager),
        batch_size=plan.part_rows,
        batch_format="pyarrow",
        compute=TaskPoolStrategy(plan.writes),
        num_cpus=plan.io_cpus,
        runtime_env=_environment(variables),
    )


def _environment(variables: Mapping[str, str]) -> dict[str, Any] | None:
    """Return a runtime environment, or None where workers that run already will do."""
    return {"env_vars": dict(variables)} if variables else None


def _pool(plan: Plan) -> ActorPoolStrategy:
    """On a GPU, two calls share an actor: one prepares on the CPU while the other has the device."""
    if plan.actor_gpus:
        return ActorPoolStrategy(
            size=plan.actors, max_concurrent_calls_per_actor=2, enable_true_multi_threading=True
        )
    return ActorPoolStrategy(size=plan.actors)


class EmbedBatches:
    """An actor's work: one encoder, loaded once, and batches of rows through it."""

    def __init__(self, embedding: Embedding) -> None:
        self._mapping = embedding.mapping
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(embedding.threads)))  # read as libraries load
        encoder = embedding.model.load(embedding.device)
        _limit_threads(embedding.threads)
        self._embed = RowEmbedder(encoder, embedding.dimensions, embedding.budget)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Return rows with vectors in place of what was embedded."""
        began = time.time()
        items = self._mapping.items(rows)
        return embedded_table(rows, self._mapping.columns.copied, items, self._embed(items), began)


def _limit_threads(threads: int) -> None:
    """Keep torch to an encoder's share of the machine, when the model uses torch at all."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def stage_batch(rows: pa.Table, stager: Stager) -> pa.Table:
    """Stage rows; returns the account of it as one row."""
    return pa.table({_ACCOUNT: pa.array([pickle.dumps(stager(rows))], pa.binary())})


def _context() -> DataContext:
    """Return settings for one quiet run. Errors of rows are ours; any other ends the run."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = 0
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return context


def _of_workers(error: RayError) -> LakebedError:
    """Find the error of ours that ended a worker, or say what Ray says of it in one line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LakebedError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return JobFailedError(f"the workers failed: {lines[-1] if lines else type(error).__name__}")
