"""Leakage: which rows of a data set the model was trained on, by content key; scores on those prove nothing.

Only equal contents are found: a rescaled copy of a training series has another key. What a model does not say of
its training (`training_record.trained_on` gives None) cannot be told, and is not guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from lakebed.eval.datasets import Dataset
from lakebed.eval.run import Evaluation, Measured
from lakebed.eval.tasks.protocol import TaskResult, Vectors
from lakebed.platform.encoder.training_record import TrainingRecord


@dataclass(frozen=True)
class LeakageTask:
    """Counts rows that the record holds; of vectors it needs none."""

    record: TrainingRecord
    name: ClassVar[str] = "leakage"
    headlines: ClassVar[tuple[str, ...]] = ()

    @property
    def configuration(self) -> Mapping[str, Any]:
        """What counts as the same."""
        return {"equal": "content key, 64 bits", "training_items": len(self.record)}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Rows of all parts that were trained on, their share of all rows, and rows by part."""
        counts = overlap(self.record, data)
        rows = sum(counts.values())
        by_part = {f"overlapping_rows_{name.replace('~', '_')}": float(count) for name, count in counts.items()}
        return TaskResult({"overlapping_rows": float(rows), "overlapping_share": rows / data.rows, **by_part}, [])


def overlap(record: TrainingRecord, data: Dataset) -> dict[str, int]:
    """By part: how many of its rows were trained on."""
    return {
        name: int(record.holds([item.content_key() for item in part.items]).sum())
        for name, part in data.parts.items()
    }


def checked_for_leakage(evaluation: Evaluation, record: TrainingRecord | None) -> Evaluation:
    """The evaluation, with figures `dataset/leakage/…` and a note where the model was trained on the data."""
    if record is None or not len(record):
        return evaluation
    task = LeakageTask(record)
    found, notes = [], []
    for data in {one.data.digest: one.data for one in evaluation.measured}.values():
        counts = {name: count for name, count in overlap(record, data).items() if count}
        if counts:
            said = ", ".join(
                f"{count} of {len(data.parts[name])} rows of {name}" for name, count in counts.items()
            )
            notes.append(f"{data.name}: the model was trained on {said}: these scores prove little")
            found.append(Measured(data, task, task.run(data, {}), {}))
    measured = (*evaluation.measured, *found)
    return replace(evaluation, measured=measured, notes=(*evaluation.notes, *notes))
