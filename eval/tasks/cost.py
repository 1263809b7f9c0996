"""Cost: what embedding takes on this machine. Never a model's quality, so nothing here is a headline.

What the task's name marks is not to be compared across machines, nor by a gate.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np

from lakebed.eval.datasets import Dataset
from lakebed.eval.tasks.protocol import TaskResult, Vectors
from lakebed.platform.encoder.protocol import Encoded, Encoder, encode
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import Item

_SAMPLED_SECONDS: Final = 0.005
_MEGABYTE: Final = 2**20


@dataclass(frozen=True)
class CostTask:
    """Each part by itself: whole, and some of its items alone. An `EncoderTask`."""

    repeats: int
    alone: int
    name: ClassVar[str] = "cost"
    lasting: ClassVar[bool] = False
    headlines: ClassVar[tuple[str, ...]] = ()

    @property
    def configuration(self) -> Mapping[str, Any]:
        """How often and how many."""
        return {"repeats": self.repeats, "alone": self.alone, "rate": "median of repeats"}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Raise ConfigError: vectors that are there cost nothing."""
        raise ConfigError(f"{self.name} of {data.name} asks the encoder itself, and there are vectors only")

    def run_with(self, encoder: Encoder, data: Dataset, vectors: Vectors) -> TaskResult:
        """Rates, latencies in milliseconds, and by how much the process grew at most, in MiB."""
        found = {name: dict(self._of(encoder, part.items)) for name, part in data.parts.items()}
        figures = dict.fromkeys(figure for one in found.values() for figure in one)
        metrics = {
            f"{name}_{figure}": one[figure] for figure in figures for name, one in found.items() if figure in one
        }
        return TaskResult(metrics, [])

    def _of(self, encoder: Encoder, items: Sequence[Item]) -> Iterator[tuple[str, float]]:
        encode(encoder, items[: self.alone])  # what is compiled or allocated once is no cost of an item
        with _growth() as growth:
            timed = [_timed(encoder, items) for _ in range(self.repeats)]
        seconds = float(np.median([took for took, _ in timed]))
        latencies = [1000 * _timed(encoder, [item])[0] for item in items[: self.alone]]
        yield "rows_per_second", len(items) / seconds
        yield "latency_p50_ms", float(np.percentile(latencies, 50))
        yield "latency_p95_ms", float(np.percentile(latencies, 95))
        yield "memory_growth_mib", growth.most / _MEGABYTE
        encoded = timed[0][1]
        if encoded.tokens:
            yield "tokens_per_second", encoded.tokens / seconds
        if encoded.samples:
            yield "samples_per_second", encoded.samples / seconds


def _timed(encoder: Encoder, items: Sequence[Item]) -> tuple[float, Encoded]:
    started = time.perf_counter()
    encoded = encode(encoder, items)
    return time.perf_counter() - started, encoded


@dataclass
class _Growth:
    """By how many bytes the process was larger than at first, at most."""

    most: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def _growth() -> Iterator[_Growth]:
    """Watch the resident memory of this process while the body runs."""
    import psutil

    process = psutil.Process()
    first = process.memory_info().rss
    growth = _Growth()

    def look() -> None:
        growth.most = max(growth.most, process.memory_info().rss - first)

    def watch() -> None:
        while not growth.ended.wait(_SAMPLED_SECONDS):
            look()

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    thread.start()
    try:
        yield growth
    finally:
        growth.ended.set()
        thread.join()
        look()
