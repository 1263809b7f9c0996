"""Results of tasks on disk, one immutable Parquet file each, so that an evaluation goes on where it was stopped.

Examples are rows, everything else is JSON in the file's metadata. What a task's key covers is in `identity.py`. A
file that is not whole has no Parquet footer, and counts as absent.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakebed.eval.durable import mark_as_used, write_durably
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult

_NUMBERS: Final = b"lakebed"
_EXAMPLES: Final = "examples"
_COLUMNS: Final = {
    "keys": pa.string(),
    "scores": pa.float64(),
    "expected": pa.string(),
    "predicted": pa.string(),
}


@dataclass(frozen=True)
class KeptResults:
    """Results under a folder, by key."""

    folder: Path

    def find(self, key: str) -> TaskResult | None:
        """The result with this key; None without one."""
        try:
            table = pq.read_table(self._path(key), memory_map=False)
        except (OSError, pa.ArrowInvalid):
            return None
        mark_as_used(self._path(key))
        return _result(table)

    def keep(self, key: str, result: TaskResult) -> None:
        """Keep a result; raises ConfigError when the folder cannot be written to."""
        sink = pa.BufferOutputStream()
        pq.write_table(_table(result), sink, compression="zstd")
        write_durably(self._path(key), sink.getvalue().to_pybytes())

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.parquet"


def _table(result: TaskResult) -> pa.Table:
    numbers: dict[str, Any] = {
        field.name: getattr(result, field.name) for field in fields(TaskResult) if field.name != _EXAMPLES
    }
    examples = list(result.examples)
    columns = {
        name: pa.array([value for one in examples for value in getattr(one, name)], kind)
        for name, kind in _COLUMNS.items()
    }
    metric = [number for number, one in enumerate(examples) for _ in one.keys]
    numbers["metric_names"] = [one.metric for one in examples]
    table = pa.table({"metric": pa.array(metric, pa.int32()), **columns})
    return table.replace_schema_metadata({_NUMBERS: json.dumps(numbers, default=float).encode()})


def _result(table: pa.Table) -> TaskResult:
    numbers = json.loads(table.schema.metadata[_NUMBERS])
    metric = table.column("metric").to_numpy()
    examples = []
    for number, name in enumerate(numbers.pop("metric_names")):
        rows = table.filter(pa.array(metric == number))
        keys, expected, predicted = (rows.column(part).to_pylist() for part in ("keys", "expected", "predicted"))
        scores = np.asarray(rows.column("scores").to_numpy(), np.float64)
        examples.append(ExampleScores(name, keys, scores, expected, predicted))
    return TaskResult(examples=examples, **numbers)
