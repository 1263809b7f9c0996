"""Work on Ray beside the embedding itself: comparing rows, and writing parts again without some of their rows.

Plain tasks, a few at a time, whose results come in order. Knows nothing of Ray Data.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayError

from lakebed.jobs.output import POSITION
from lakebed.jobs.pipeline import read_unit
from lakebed.jobs.quiet_run import of_workers
from lakebed.jobs.rows import RowMapping
from lakebed.jobs.signatures import content_key, joined, signatures_of
from lakebed.jobs.units import Unit
from lakebed.jobs.work import Surplus, UnitSignatures
from lakebed.platform.config.embed import EMBEDDING
from lakebed.platform.lake.fragments import Fragment, Snapshot
from lakebed.platform.lake.parts import Part, PartWriter

_BATCH_ROWS: Final = 8_192

T = TypeVar("T")


@dataclass(frozen=True)
class RemoteTasks:
    """How tasks are run: `cpus` is what each reserves, `at_once` how many run, `variables` their environment."""

    at_once: int
    cpus: float
    variables: Mapping[str, str]

    def each(self, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Call a function on the cluster with each of the arguments; yields results in order."""
        task: Any = ray.remote(function).options(
            num_cpus=self.cpus, runtime_env={"env_vars": dict(self.variables)} if self.variables else None
        )
        waiting: deque[Any] = deque()
        for arguments in calls:
            waiting.append(task.remote(*arguments))
            if len(waiting) >= self.at_once:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(task: Any) -> Any:
    try:
        return ray.get(task)
    except RayError as error:
        raise of_workers(error) from error


def compare_units(
    tasks: RemoteTasks, source: Snapshot, mapping: RowMapping, schema: pa.Schema, units: Sequence[Unit]
) -> Iterator[UnitSignatures]:
    """Read the rows of units and give their signatures; `schema` is the result's."""
    bare = replace(source, fragments=())
    yield from tasks.each(_signatures, ((bare, mapping, schema, unit) for unit in units))


def _signatures(source: Snapshot, mapping: RowMapping, schema: pa.Schema, unit: Unit) -> UnitSignatures:
    columns, positions, found = mapping.columns, [], []
    for rows in read_unit(source, 0, unit, columns.read, _BATCH_ROWS):
        contents = [content_key(item) for item in mapping.items(rows)]
        positions.append(rows.column(POSITION).to_numpy())
        found.append(signatures_of(rows, contents, schema, columns.copied, columns.keys))
    return UnitSignatures(np.concatenate(positions), joined(found))


def parts_without(tasks: RemoteTasks, table: Snapshot, surplus: Surplus, writer: PartWriter) -> Iterator[Part]:
    """Write parts again without rows that are to go; a part of which nothing is left gives none."""
    parts = {fragment.path: fragment for fragment in table.fragments}
    bare = replace(table, fragments=())
    calls = ((bare, parts[path], mask, writer) for path, mask in surplus.items() if not mask.all())
    yield from tasks.each(_rewritten, calls)


def _rewritten(table: Snapshot, part: Fragment, surplus: np.ndarray, writer: PartWriter) -> Part:
    names = tuple(writer.columns.names)
    kept, start = [], 0
    for rows in table.read(part, names, _BATCH_ROWS):
        kept.append(rows.filter(pa.array(~surplus[start : start + len(rows)])))
        start += len(rows)
    plain = (EMBEDDING,) if EMBEDDING in names else ()
    return writer(pa.concat_tables(kept).cast(writer.columns), plain)
