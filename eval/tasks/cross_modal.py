"""Retrieval between texts and signals, both ways, in a stated pool: R@1, R@5, R@10, MRR, median rank, graded nDCG.

An answer is right when it shares a mark with the query (`relevance.py`), so that equal captions answer for each
other. The rank is the pessimistic one: a wrong answer of the same similarity comes first, or an encoder that maps
everything to one point would look perfect. Where attributes are known, answers are also graded by the share of
equal ones, so that near misses count for something.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from lakebed.eval import chance
from lakebed.eval.datasets import Dataset, LabelArray, Part
from lakebed.eval.relevance import right_answers
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.items import FloatArray

CUTOFFS: Final = (1, 5, 10)
DIRECTIONS: Final = (("text", "signal"), ("signal", "text"))
SMALL_POOL: Final = 100
_GRADED_CUTOFF: Final = 10
_BLOCK: Final = 256

Ranks = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CrossModalTask:
    """Asks part `signal` by part `text`, then the other way round."""

    name: ClassVar[str] = "cross_modal"
    headlines: ClassVar[tuple[str, ...]] = (
        "text_to_signal_r1",
        "signal_to_text_r1",
        "text_to_signal_r10",
        "signal_to_text_r10",
    )

    @property
    def configuration(self) -> Mapping[str, Any]:
        """How ranks are made; the pool's size is the data set's."""
        return {
            "similarity": "cosine",
            "ties": "pessimistic",
            "relevant": "shared caption",
            "cutoffs": CUTOFFS,
            "small_pool": SMALL_POOL,
            "ndcg": "grade is the share of equal attributes, ties averaged",
        }

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Rank every right answer in both directions."""
        metrics: dict[str, float] = {}
        guessed: dict[str, float] = {}
        examples: list[ExampleScores] = []
        for asked, answering in DIRECTIONS:
            direction = f"{asked}_to_{answering}"
            queries, answers = data.parts[asked], data.parts[answering]
            ranks = first_ranks(vectors[asked], vectors[answering], queries.labels, answers.labels)
            scored = _scores(direction, ranks)
            guessed |= _chances(direction, queries, answers)
            if queries.attributes is not None and answers.attributes is not None and len(answers) > 1:
                gains, chances = _graded(vectors[asked], vectors[answering], queries, answers)
                scored[f"{direction}_ndcg{_GRADED_CUTOFF}"] = gains
                guessed[f"{direction}_ndcg{_GRADED_CUTOFF}_chance"] = float(chances.mean())
            metrics |= {name: float(scores.mean()) for name, scores in scored.items()}
            metrics[f"{direction}_median_rank"] = float(np.median(ranks))
            metrics |= _small_pools(direction, vectors[asked], vectors[answering], queries, answers)
            examples += [_examples(name, queries, scores, ranks) for name, scores in scored.items()]
        return TaskResult(metrics, examples, chance=guessed)


def first_ranks(
    queries: VectorArray, answers: VectorArray, query_labels: LabelArray, answer_labels: LabelArray
) -> Ranks:
    """Rank, from 1, of the best right answer to each query by cosine similarity of unit vectors.

    A query without any right answer ranks behind the whole pool.
    """
    ranks = np.empty(len(queries), np.int64)
    relevant = right_answers(query_labels, answer_labels)
    for block in _blocks(len(queries)):
        similarity = queries[block] @ answers.T
        right = relevant[block].toarray()
        best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
        ranks[block] = 1 + ((similarity >= best) & ~right).sum(axis=1)
    return ranks


def _scores(direction: str, ranks: Ranks) -> dict[str, FloatArray]:
    recalls = {f"{direction}_r{cutoff}": (ranks <= cutoff).astype(np.float64) for cutoff in CUTOFFS}
    return {**recalls, f"{direction}_mrr": 1.0 / ranks}


def _chances(direction: str, queries: Part, answers: Part) -> dict[str, float]:
    right = right_answers(queries.labels, answers.labels).sum(axis=1)
    return {f"{direction}_r{cutoff}_chance": chance.hit_rate(right, len(answers), cutoff) for cutoff in CUTOFFS}


def _graded(
    asked: VectorArray, answering: VectorArray, queries: Part, answers: Part
) -> tuple[FloatArray, FloatArray]:
    """NDCG of each query with the share of equal attributes as grade, and what a random order would get."""
    from sklearn.metrics import ndcg_score

    gains, chances = np.empty(len(queries)), np.empty(len(queries))
    for block in _blocks(len(queries)):
        assert queries.attributes is not None
        grades = (queries.attributes[block, None, :] == answers.attributes).mean(axis=2)
        similarity = asked[block] @ answering.T
        rows = zip(grades, similarity, strict=True)
        gains[block] = [ndcg_score([grade], [score], k=_GRADED_CUTOFF) for grade, score in rows]
        chances[block] = chance.ndcg(grades, _GRADED_CUTOFF)
    return gains, chances


def _small_pools(
    direction: str, asked: VectorArray, answering: VectorArray, queries: Part, answers: Part
) -> dict[str, float]:
    """Recalls where each query has only a hundred answers to choose from: the pool cut into such pieces, in order.

    Only for pairs, where a piece holds the answers to its own queries.
    """
    pieces = len(queries) // SMALL_POOL
    if not np.array_equal(queries.labels, answers.labels) or len(queries) <= SMALL_POOL:
        return {}
    ranks = np.concatenate(
        [
            first_ranks(asked[piece], answering[piece], queries.labels[piece], answers.labels[piece])
            for piece in (slice(start * SMALL_POOL, (start + 1) * SMALL_POOL) for start in range(pieces))
        ]
    )
    recalls = {cutoff: float((ranks <= cutoff).mean()) for cutoff in CUTOFFS}
    return {f"{direction}_pool_{SMALL_POOL}_r{cutoff}": share for cutoff, share in recalls.items()}


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, rows)) for start in range(0, rows, _BLOCK))


def _examples(metric: str, part: Part, scores: FloatArray, ranks: Ranks) -> ExampleScores:
    return ExampleScores(metric, part.keys, scores, ["rank 1"] * len(part), [f"rank {rank}" for rank in ranks])
