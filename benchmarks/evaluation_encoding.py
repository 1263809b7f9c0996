"""What encoding costs in an evaluation over the encoder alone: chunks, batches, and vectors written to disk.

Both sides run in turn in this process, on the same cores, on contents of which no two are equal; figures are
medians.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np

from benchmarks.job_rows import signals, texts
from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.progress import Silent
from lakebed.eval.schedule import Planned, Schedule, Stores
from lakebed.eval.tasks.protocol import TaskResult, Vectors
from lakebed.eval.vector_files import VectorFiles
from lakebed.eval.workplace import InProcess
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.protocol import Encoder, encode
from lakebed.platform.items import Item, items_of


class NoTask:
    """Measures nothing, so that encoding is all there is."""

    name = "none"
    headlines: Sequence[str] = ()
    configuration: ClassVar[dict[str, object]] = {}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Return no figures."""
        return TaskResult({}, [])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the sizes."""
    parser.add_argument("--text-rows", type=int, default=6_000)
    parser.add_argument("--signal-rows", type=int, default=3_000)
    parser.add_argument("--repeats", type=int, default=3, help="rounds that a median is of")


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Measure texts and signals."""
    encoder = resolve_model(options.model).load("cpu")
    kinds = {"text": texts(options.text_rows), "signals": signals(options.signal_rows)}
    ratios = {kind: _ratio(kind, encoder, items_of(values), options.repeats) for kind, values in kinds.items()}
    figures = {f"encode_efficiency_{kind}": ratio for kind, ratio in ratios.items()}
    return {"encode_efficiency": min(ratios.values()), **figures}


def _ratio(kind: str, encoder: Encoder, items: Sequence[Item], repeats: int) -> float:
    """Run both sides in turn, after one run of each that does not count."""
    data = Dataset(kind, "1", "benchmark", {"all": Part(items, np.array(["x"] * len(items)))})
    ratios = []
    for repeat in range(repeats + 1):
        alone, evaluated = _alone(encoder, items), _evaluated(encoder, data)
        print(f"{kind}: alone {alone:,.0f} rows/s, in an evaluation {evaluated:,.0f} rows/s")
        if repeat:
            ratios.append(evaluated / alone)
    return statistics.median(ratios)


def _alone(encoder: Encoder, items: Sequence[Item]) -> float:
    began = time.perf_counter()
    encode(encoder, items)
    return len(items) / (time.perf_counter() - began)


def _evaluated(encoder: Encoder, data: Dataset) -> float:
    with TemporaryDirectory(prefix="lakebed-evaluation-") as folder:
        stores = Stores("model", VectorFiles(Path(folder)))
        began = time.perf_counter()
        Schedule(InProcess(encoder), stores, None, Silent()).run([Planned(data, NoTask())])
        return data.rows / (time.perf_counter() - began)
