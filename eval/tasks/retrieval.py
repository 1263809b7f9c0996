"""Retrieval with judged answers, as BEIR measures it (Thakur et al. 2021, arXiv 2104.08663): nDCG@10 first.

Metrics are trec_eval's, through pytrec_eval: gain is the grade itself. Relevant documents that the corpus lacks,
empty ones for example, count as not found. A document with the query's own id is no answer, as in BEIR.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from lakebed.eval import chance
from lakebed.eval.datasets import Dataset, LabelArray, Part
from lakebed.eval.judgements import Judged, grade_matrix
from lakebed.eval.ranking import Places, rankings
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import FloatArray

DEPTH: Final = 100
CUTOFF: Final = 10
_MEASURES: Final = {
    "ndcg10": "ndcg_cut_10",
    "recall10": "recall_10",
    "recall100": "recall_100",
    "mrr10": "recip_rank",
    "map100": "map_cut_100",
}


@dataclass(frozen=True)
class RetrievalTask:
    """Asks part `corpus` by part `queries`, whose labels are as `judgements.py` says."""

    name: ClassVar[str] = "retrieval"
    headlines: ClassVar[tuple[str, ...]] = ("ndcg10", "recall100")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """How answers are ordered and what is computed on the order."""
        return {
            "similarity": "cosine",
            "ties": "pessimistic",
            "depth": DEPTH,
            "measures": list(_MEASURES.values()),
        }

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Means over judged queries; raises ConfigError when no query has a relevant document."""
        queries, corpus = data.parts["queries"], data.parts["corpus"]
        judged = [Judged.of(label) for label in queries.labels]
        if not any(grade > 0 for one in judged for grade in one.grades.values()):
            raise ConfigError(f"data set {data.name}: no query has a relevant document", hint="look at its qrels")
        grades = grade_matrix(judged, corpus.labels)
        place = {str(document): position for position, document in enumerate(corpus.labels)}
        same = np.array([place.get(one.query, -1) for one in judged])
        found = np.concatenate(
            [places for _, places in rankings(vectors["queries"], vectors["corpus"], grades, DEPTH, same)]
        )
        scores = _scores(judged, found, same, corpus.labels)
        return TaskResult(
            {name: float(values.mean()) for name, values in scores.items()},
            list(_examples(queries, corpus, judged, found, scores)),
            chance=_chances(judged, len(corpus)),
        )


def _scores(judged: Sequence[Judged], found: Places, same: Places, documents: LabelArray) -> dict[str, FloatArray]:
    import pytrec_eval

    # By position: two queries may have one id, and trec_eval orders equal scores by id.
    relevance = {str(row): dict(one.grades) for row, one in enumerate(judged)}
    run = {
        str(row): {str(documents[place]): float(-rank) for rank, place in enumerate(places) if place != same[row]}
        for row, places in enumerate(found)
    }
    top = {row: dict(list(answers.items())[:CUTOFF]) for row, answers in run.items()}
    whole = set(_MEASURES.values()) - {"recip_rank"}
    measured = pytrec_eval.RelevanceEvaluator(relevance, whole).evaluate(run)
    first = pytrec_eval.RelevanceEvaluator(relevance, {"recip_rank"}).evaluate(top)
    return {
        name: np.array([{**measured[str(row)], **first[str(row)]}[measure] for row in range(len(judged))])
        for name, measure in _MEASURES.items()
    }


def _chances(judged: Sequence[Judged], documents: int) -> dict[str, float]:
    """A random order: every rank holds the mean grade, and a document is among the first k of N by k/N."""
    gains = chance.ndcg_of_few([sorted(one.grades.values(), reverse=True) for one in judged], documents, CUTOFF)
    shares = {f"recall{cutoff}_chance": min(cutoff / documents, 1.0) for cutoff in (CUTOFF, DEPTH)}
    return {"ndcg10_chance": float(gains.mean()), **shares}


def _examples(
    queries: Part, corpus: Part, judged: Sequence[Judged], found: Places, scores: Mapping[str, FloatArray]
) -> Iterator[ExampleScores]:
    """Beside each score: how many documents are relevant, and which came first."""
    relevant = [f"{sum(grade > 0 for grade in one.grades.values())} relevant" for one in judged]
    nearest = [str(label) for label in corpus.labels[found[:, 0]]]
    for name, values in scores.items():
        yield ExampleScores(name, queries.keys, values, relevant, nearest)
