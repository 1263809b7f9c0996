"""Comparisons of models that never were: runs and scores by example as `lakebed eval` logs them, in memory."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations

import numpy as np

from lakebed.eval.compare import Comparison, compared
from lakebed.eval.logged_scores import LoggedScores
from lakebed.eval.matching import Matched
from lakebed.eval.side_by_side import Ranking
from lakebed.platform.items import FloatArray
from lakebed.platform.tracking import RunRecord

HOSTILE = '<script>alert("x")</script><img src=http://example.com/x.png>'
METRICS = ("classification/linear_probe_accuracy", "classification/knn_accuracy")
HEADLINES = tuple(f"mean/{metric}" for metric in METRICS)
PERTURBATIONS = ("noise_0.1", "noise_0.5", "missing_0.2", "resampled_2x", "channels_permuted")


def datasets(count: int, hostile: bool = False) -> list[str]:
    """Names of data sets; the first one is hostile on wish."""
    names = [f"DataSet{number:03d}" for number in range(count)]
    return [HOSTILE.replace("/", "|"), *names[1:]] if hostile else names


def answers(names: Sequence[str], accuracy: float, seed: int, examples: int = 120) -> dict[str, FloatArray]:
    """Right and wrong by data set, correlated between seeds as good models' answers are."""
    hard = np.random.default_rng(0)
    own = np.random.default_rng(seed)
    found = {}
    for name in names:
        shared = hard.random(examples)
        mixed = np.where(own.random(examples) < 0.8, shared, own.random(examples))
        found[name] = (mixed < accuracy).astype(float)
    return found


def logged(scores: FloatArray, label: str = "class") -> LoggedScores:
    """Scores of examples named by their position."""
    names = [f"{'0' * 30}-{position:04d}" for position in range(len(scores))]
    said = [f"{label} a" if score else f"{label} b" for score in scores]
    texts = [f"example {position} of {label}" if position % 2 else None for position in range(len(scores))]
    return LoggedScores(names, scores, [f"{label} a"] * len(scores), said, texts)


def run_of(
    letter: str, scores: dict[str, FloatArray], accuracy: float
) -> tuple[RunRecord, dict[str, LoggedScores]]:
    """A run and its scores by example, with every kind of figure that a report shows."""
    found, metrics = {}, {}
    for number, metric in enumerate(METRICS):
        for name, right in scores.items():
            kept = np.roll(right, number) if number else right
            found[f"{name}/{metric}"] = logged(kept, HOSTILE if number else "class")
            metrics[f"{name}/{metric}"] = float(kept.mean())
            metrics |= {f"{name}/{metric}_{cut}d": float(kept.mean()) - 3 / cut for cut in (64, 128, 256)}
    for name in scores:
        metrics[f"{name}/robustness/knn_accuracy"] = accuracy
        metrics |= {
            f"{name}/robustness/knn_accuracy_{what}": accuracy - 0.03 * number
            for number, what in enumerate(PERTURBATIONS, start=1)
        }
    metrics |= {"cost/embed/seconds": 12.5 * accuracy, "cost/embed/rows_per_second": 1234.5 / accuracy}
    params = {
        "model.digest": letter * 64,
        "model.dimensions": "full",
        "code": "0123456789ab",
        "machine.processor": "a processor",
        "machine.cores": "2",
        "machine.memory_gib": "24",
        "machine.torch": "2.13.0",
        **{f"data.{name}": "d" * 32 for name in scores},
    }
    tags = {"lakebed.suite": "tiny", "lakebed.headlines": json.dumps(HEADLINES)}
    started = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
    return RunRecord(letter * 32, f"model {letter} on tiny", started, tags, params, metrics), found


def ranking(accuracies: Sequence[float], *, sets: int = 12, hostile: bool = False, draws: int = 500) -> Ranking:
    """Several models on the same data."""
    names = datasets(sets, hostile)
    letters = "abcdefgh"[: len(accuracies)]
    made = [
        run_of(letter, answers(names, accuracy, seed), accuracy)
        for seed, (letter, accuracy) in enumerate(zip(letters, accuracies, strict=True), start=1)
    ]
    labels = [f"lakebed-embed@{number}" for number, _ in enumerate(made, start=1)]
    if hostile:
        labels[0] = HOSTILE
    matched = Matched(
        "tiny", tuple(run for run, _ in made), frozenset(names), ("Other: in one run only, left out",)
    )
    pairs = {
        (one, other): compared(
            (labels[one], labels[other]), matched, (one, other), made[one][1], made[other][1], draws=draws
        )
        for one, other in combinations(range(len(made)), 2)
    }
    return Ranking("tiny", tuple(labels), HEADLINES, matched.notes, matched.runs, pairs)


def comparison(a: float = 0.80, b: float = 0.84, *, sets: int = 12, hostile: bool = False) -> Comparison:
    """Two models on the same data."""
    return ranking((a, b), sets=sets, hostile=hostile).pairs[0, 1]
