"""How long two versions take to be compared by many per-example scores, as logged runs hold them."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np

from benchmarks.evaluation_command import state_in
from lakebed.eval.compare import compare
from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.record import package_of, record
from lakebed.eval.run import Evaluation, Measured
from lakebed.eval.subject import Subject, resolve_subject
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.config.suite import Suite
from lakebed.platform.items import Item
from lakebed.platform.registry import Registry
from lakebed.platform.tracking import Tracking

SETS = 5
LABEL = "scores"
SUITE = Suite.parse(
    {"name": LABEL, "description": "drawn scores", "entries": [{"task": "level"}]}, where="benchmark"
)


class DrawnTask:
    """Stands for a task whose scores are drawn, not measured."""

    name = "drawn"
    headlines: Sequence[str] = ("accuracy",)
    configuration: ClassVar[dict[str, object]] = {}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Nobody runs it."""
        raise NotImplementedError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the size."""
    parser.add_argument("--compare-examples", type=int, default=100_000)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Log two evaluations, and compare them."""
    with TemporaryDirectory(prefix="lakebed-evaluation-") as folder, state_in(Path(folder)):
        uri = f"sqlite:///{Path(folder) / 'mlflow.db'}"
        registry, tracking = Registry(uri), Tracking(uri)
        sides = [resolve_subject(f"fake:{length}", registry) for length in (64, 65)]
        sets = drawn_sets(options.compare_examples)
        for number, side in enumerate(sides):
            log_drawn(side, sets, 0.80 + 0.02 * number, number, tracking, registry)
        began = time.perf_counter()
        result = compare(sides[0], sides[1], tracking, LABEL)
        seconds = time.perf_counter() - began
    mean = result.mean("mean/drawn/accuracy")
    print(f"B - A {mean.interval.delta:+.4f}, {mean.interval.low} to {mean.interval.high}")
    return {"compare_seconds": seconds, "compare_examples": options.compare_examples}


def drawn_sets(examples: int) -> list[Dataset]:
    """Data sets of so many examples in all; each is a text of its own."""
    share = examples // SETS
    return [
        Dataset(
            f"set{number}",
            "1",
            "drawn",
            {"test": Part([Item.of(text=f"{number} {row}") for row in range(share)], np.array(["x"] * share))},
        )
        for number in range(SETS)
    ]


def log_drawn(
    subject: Subject, sets: Sequence[Dataset], accuracy: float, seed: int, tracking: Tracking, registry: Registry
) -> None:
    """Log a run of right and wrong answers, so many of them right."""
    random = np.random.default_rng(seed)
    measured = [Measured(data, DrawnTask(), _drawn(data, accuracy, random), {}) for data in sets]
    rows = sum(data.rows for data in sets)
    evaluation = Evaluation(SUITE, measured, rows, {"embed": 1.0, "tasks": 1.0}, (), rows)
    record(evaluation, package_of(subject, LABEL, evaluation, whole=True), tracking, registry)


def _drawn(data: Dataset, accuracy: float, random: np.random.Generator) -> TaskResult:
    part = data.parts["test"]
    right = (random.random(len(part)) < accuracy).astype(np.float64)
    said = part.labels.tolist()
    return TaskResult({"accuracy": float(right.mean())}, [ExampleScores("accuracy", part.keys, right, said, said)])
