"""Retrieval between texts and signals, both ways, in a stated pool: R@1, R@5, R@10, MRR, median rank.

An answer is right when it carries the query's label, so that equal captions answer for each other. The rank is the
pessimistic one: a wrong answer of the same similarity comes first, or an encoder that maps everything to one point
would look perfect.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.platform.encoder.prepared import VectorArray

CUTOFFS: Final = (1, 5, 10)
_BLOCK: Final = 256


@dataclass(frozen=True)
class CrossModalTask:
    """Asks part `signal` by part `text`, then the other way round."""

    name: ClassVar[str] = "cross_modal"
    headlines: ClassVar[tuple[str, ...]] = ("text_to_signal_r1", "signal_to_text_r1")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """How ranks are made; the pool's size is the data set's."""
        return {"similarity": "cosine", "ties": "pessimistic", "relevant": "equal label", "cutoffs": CUTOFFS}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        """Rank every right answer in both directions."""
        metrics: dict[str, float] = {}
        examples: list[ExampleScores] = []
        for queries, answers in (("text", "signal"), ("signal", "text")):
            ranks = first_ranks(
                vectors[queries], vectors[answers], data.parts[queries].labels, data.parts[answers].labels
            )
            scored = _scores(f"{queries}_to_{answers}", ranks)
            metrics |= {name: float(scores.mean()) for name, scores in scored.items()}
            metrics[f"{queries}_to_{answers}_median_rank"] = float(np.median(ranks))
            examples += [_examples(name, data.parts[queries], scores, ranks) for name, scores in scored.items()]
        return TaskResult(metrics, examples)


def first_ranks(
    queries: VectorArray,
    answers: VectorArray,
    query_labels: npt.NDArray[np.str_],
    answer_labels: npt.NDArray[np.str_],
) -> npt.NDArray[np.int64]:
    """Rank, from 1, of the best right answer to each query by cosine similarity of unit vectors.

    A query without any right answer ranks behind the whole pool.
    """
    ranks = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), _BLOCK):
        block = slice(start, start + _BLOCK)
        similarity = queries[block] @ answers.T
        right = query_labels[block, None] == answer_labels[None, :]
        best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
        ranks[block] = 1 + ((similarity >= best) & ~right).sum(axis=1)
    return ranks


def _scores(direction: str, ranks: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    recalls = {f"{direction}_r{cutoff}": (ranks <= cutoff).astype(np.float64) for cutoff in CUTOFFS}
    return {**recalls, f"{direction}_mrr": 1.0 / ranks}


def _examples(
    metric: str, part: Part, scores: npt.NDArray[np.float64], ranks: npt.NDArray[np.int64]
) -> ExampleScores:
    return ExampleScores(metric, part.keys, scores, ["rank 1"] * len(part), [f"rank {rank}" for rank in ranks])
