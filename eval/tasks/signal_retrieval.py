"""Retrieval among labelled signals: each test signal asks the train signals, right answers share its class.

The order is of all train signals, so that average precision is the whole one. Metrics are trec_eval's, through
pytrec_eval; each stands beside what a random order would score.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from lakebed.eval import chance
from lakebed.eval.datasets import Dataset, LabelArray
from lakebed.eval.ranking import Places, rankings
from lakebed.eval.relevance import right_answers
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import FloatArray

CUTOFF: Final = 10
_MEASURES: Final = {
    "map": "map",
    "ndcg10": "ndcg_cut_10",
    "precision10": "P_10",
    "recall10": "recall_10",
    "recall100": "recall_100",
}


@dataclass(frozen=True)
class SignalRetrievalTask:
    """Asks part `train` by part `test`, labelled with classes."""

    name: ClassVar[str] = "signal_retrieval"
    headlines: ClassVar[tuple[str, ...]] = ("map", "ndcg10")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """How answers are ordered and what is computed on the order."""
        return {
            "similarity": "cosine",
            "ties": "pessimistic",
            "relevant": "same class",
            "measures": list(_MEASURES.values()),
        }

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Means over the test signals whose class the train part has; raises ConfigError when there are none."""
        asked, answers = data.parts["test"], data.parts["train"].labels
        if len(np.unique(answers)) < 2:
            raise ConfigError(f"data set {data.name}: training labels hold one class, every answer is right")
        known = np.flatnonzero(np.isin(asked.labels, answers))
        if not len(known):
            raise ConfigError(f"data set {data.name}: no class of the test part is in the train part")
        queries = asked.taken(known)
        scores, nearest = _scores(vectors["test"][known], vectors["train"], queries.labels, answers)
        expected, predicted = queries.labels.tolist(), answers[nearest].tolist()
        return TaskResult(
            {name: float(values.mean()) for name, values in scores.items()},
            [ExampleScores(name, queries.keys, values, expected, predicted) for name, values in scores.items()],
            {"queries_without_answer": float(len(asked) - len(known))},
            _chances(queries.labels, answers),
        )


def _scores(
    queries: Any, documents: Any, labels: LabelArray, answers: LabelArray
) -> tuple[dict[str, FloatArray], Places]:
    """Every measure by query, and the place of each query's nearest document."""
    import pytrec_eval

    grades = right_answers(labels, answers).astype(np.int64)
    names = np.array([str(place) for place in range(len(answers))])
    right = {label: dict.fromkeys(names[answers == label].tolist(), 1) for label in np.unique(labels).tolist()}
    found: dict[str, list[float]] = {name: [] for name in _MEASURES}
    nearest = []
    for asking, places in rankings(queries, documents, grades, len(answers)):
        relevance = {str(row): right[label] for row, label in enumerate(labels[asking].tolist())}
        evaluator = pytrec_eval.RelevanceEvaluator(relevance, set(_MEASURES.values()))
        measured = evaluator.evaluate(dict(_run(names[places])))
        for name, measure in _MEASURES.items():
            found[name] += [measured[str(row)][measure] for row in range(len(places))]
        nearest.append(places[:, 0])
    return {name: np.array(values) for name, values in found.items()}, np.concatenate(nearest)


def _run(ordered: LabelArray) -> Iterator[tuple[str, dict[str, float]]]:
    falling = (-np.arange(ordered.shape[1], dtype=np.float64)).tolist()
    for row, names in enumerate(ordered.tolist()):
        yield str(row), dict(zip(names, falling, strict=True))


def _chances(labels: LabelArray, answers: LabelArray) -> dict[str, float]:
    """Of a random order: rank by rank, each class is as frequent as in the train part."""
    pool = len(answers)
    right = (labels[:, None] == np.unique(answers)).astype(np.int64) @ np.unique(answers, return_counts=True)[1]
    gains = chance.ndcg_of_few([[1] * int(count) for count in right], pool, CUTOFF)
    return {
        "map_chance": float(chance.average_precision(right, pool).mean()),
        "ndcg10_chance": float(gains.mean()),
        "precision10_chance": float(right.mean()) / pool * min(1.0, pool / CUTOFF),
        "recall10_chance": min(CUTOFF / pool, 1.0),
        "recall100_chance": min(100 / pool, 1.0),
    }
