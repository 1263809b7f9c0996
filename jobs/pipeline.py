"""The job on Ray Data: read -> embed on actors -> stage files -> short accounts back to the driver.

Beside GPUs, actors of their own prepare what is embedded, as many as it takes to keep the devices busy.

Only this module knows Ray Data; what its actors do is in `worker.py`. Arrow tables go in and out of every stage,
so that no type of Ray's own reaches a table; vectors never pass through the driver.
"""

import math
import pickle
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from lakebed.jobs.output import POSITION, UNIT
from lakebed.jobs.plan import Plan, Resources
from lakebed.jobs.quiet_run import quietly
from lakebed.jobs.ranges import members
from lakebed.jobs.staging import Staged, Stager
from lakebed.jobs.suspects import Book, RemoteSuspects
from lakebed.jobs.units import Unit
from lakebed.jobs.worker import EmbedBatches, Embedding, EmbedPrepared, PrepareBatches
from lakebed.platform.lake.fragments import Snapshot

_ACCOUNT: Final = "staged"


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
    position, todo = unit.fragment.start, np.array(unit.todo, np.int64)
    for table in snapshot.read(unit.fragment, columns, batch_rows):
        positions = np.arange(position, position + len(table))
        position += len(table)
        wanted = members(todo, positions)
        if not wanted.any():
            continue
        if not wanted.all():
            table, positions = table.filter(pa.array(wanted)), positions[wanted]
        table = table.append_column(UNIT, pa.array(np.full(len(table), number, np.int32)))
        yield table.append_column(POSITION, pa.array(positions))
    _return_memory()


def resources() -> Resources:
    """Return what the connected cluster has now."""
    have = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray ships part of its types
    return Resources(have.get("CPU", 1), have.get("GPU", 0), have.get("memory", math.inf))


def run_pipeline(
    plan: Plan, source: UnitSource, embedding: Embedding, stager: Stager, variables: Mapping[str, str]
) -> Generator[Staged]:
    """Embed the rows of a source; yields an account of each part as it is staged. Closing it ends the work.

    `variables` are set in the environment of every worker.
    """
    book = RemoteSuspects.start(plan.actors + plan.preparers)
    with closing(book):
        yield from quietly(lambda: _accounts(_dataset(plan, source, embedding, stager, variables, book)))


def _accounts(dataset: Any) -> Generator[Staged]:
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for account in batch.column(_ACCOUNT).to_pylist():
            yield pickle.loads(account)  # noqa: S301  our own workers wrote it


def _dataset(
    plan: Plan, source: UnitSource, embedding: Embedding, stager: Stager, variables: Mapping[str, str], book: Book
) -> Any:
    rows = ray.data.read_datasource(
        source,
        num_cpus=plan.io_cpus,
        compute=TaskPoolStrategy(plan.reads),
        override_num_blocks=plan.blocks,
        runtime_env=_environment(variables),
    )
    if plan.preparers:
        rows = rows.map_batches(
            PrepareBatches,
            fn_constructor_args=(embedding, book),
            batch_size=plan.batch_rows,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=plan.least_preparers, max_size=plan.preparers),
            num_cpus=plan.preparer_cpus,
            memory=plan.actor_memory,
            runtime_env=_environment(variables),
        )
    embedded = rows.map_batches(
        EmbedPrepared if plan.preparers else EmbedBatches,
        fn_constructor_args=(embedding, book),
        batch_size=1 if plan.preparers else plan.batch_rows,
        batch_format="pyarrow",
        compute=_pool(plan),
        num_cpus=plan.actor_cpus,
        num_gpus=plan.actor_gpus or None,
        memory=plan.actor_memory,
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
    """On a GPU, two calls share an actor: one packs and unpacks while the other has the device."""
    calls: dict[str, Any] = (
        {"max_concurrent_calls_per_actor": 2, "enable_true_multi_threading": True} if plan.actor_gpus else {}
    )
    if plan.least_actors < plan.actors:
        return ActorPoolStrategy(min_size=plan.least_actors, max_size=plan.actors, **calls)
    return ActorPoolStrategy(size=plan.actors, **calls)


def stage_batch(rows: pa.Table, stager: Stager) -> pa.Table:
    """Stage rows; returns the account of it as one row."""
    account = pa.table({_ACCOUNT: pa.array([pickle.dumps(stager(rows))], pa.binary())})
    _return_memory()
    return account


def _return_memory() -> None:
    """Give back what a task took: its process may be idle for long, and Arrow keeps what it had."""
    pa.default_memory_pool().release_unused()
