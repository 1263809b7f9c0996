"""Three or more measured models side by side: means, ranks over data sets, and which pairs are told apart.

Every pair is compared as two models are; asking several times is paid for by Holm's correction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Final

import numpy as np

from lakebed.eval.across_datasets import ALPHA, LETTERS, friedman_p, holm, mean_ranks, pairwise_p
from lakebed.eval.compare import MEAN, Comparison, compared
from lakebed.eval.logged_scores import read_scores
from lakebed.eval.matching import match
from lakebed.eval.record import HEADLINES
from lakebed.eval.statistics import DRAWS
from lakebed.eval.subject import Subject
from lakebed.eval.tasks.protocol import lower_is_better
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import FloatArray
from lakebed.platform.tracking import RunRecord, Tracking

MOST: Final = 12
"""More models at once would ask so many questions that none is answered."""


@dataclass(frozen=True)
class Verdict:
    """Two models on one mean: Holm-corrected p-values, by examples and by data sets; `better` is the surer one."""

    p_holm: float | None
    wilcoxon_p_holm: float | None
    better: int | None


@dataclass(frozen=True)
class Ranking:
    """Models in the order they were named, A, B, C and so on; `pairs` compares each with every later one."""

    suite: str
    labels: tuple[str, ...]
    headlines: tuple[str, ...]
    notes: tuple[str, ...]
    runs: tuple[RunRecord, ...]
    pairs: dict[tuple[int, int], Comparison]

    @property
    def letters(self) -> str:
        """What the models are called where names are too long."""
        return LETTERS[: len(self.labels)]

    @cached_property
    def metrics(self) -> list[str]:
        """Keys of all means that every model has over the same data sets, headlines first."""
        found = [one.key for one in self.pairs[0, 1].means if self._is_everywhere(one.key)]
        return [key for key in self.headlines if key in found] + [
            key for key in found if key not in self.headlines
        ]

    def _is_everywhere(self, mean_key: str) -> bool:
        names = {tuple(one.dataset for one in pair.behind(mean_key)) for pair in self.pairs.values()}
        return len(names) == 1

    def datasets(self, mean_key: str) -> list[str]:
        """The data sets behind a mean."""
        return [one.dataset for one in self.pairs[0, 1].behind(mean_key)]

    def scores(self, mean_key: str) -> FloatArray:
        """Data sets x models."""
        metric = mean_key.removeprefix(MEAN)
        keys = [f"{dataset}/{metric}" for dataset in self.datasets(mean_key)]
        return np.array([[run.metrics[key] for run in self.runs] for key in keys])

    def means(self, mean_key: str) -> FloatArray:
        """One mean per model."""
        return np.asarray(self.scores(mean_key).mean(axis=0))

    def best(self, mean_key: str) -> set[int]:
        """The models with the best mean; all of them when they are equal."""
        means = self.means(mean_key)
        best = means.min() if lower_is_better(mean_key) else means.max()
        return set(np.flatnonzero(means == best).tolist())

    def ranks(self, mean_key: str) -> FloatArray:
        """Mean rank of every model over data sets."""
        return mean_ranks(self.scores(mean_key), lower_is_better=lower_is_better(mean_key))

    def friedman_p(self, mean_key: str) -> float | None:
        """p-value that all models rank alike."""
        return friedman_p(self.scores(mean_key))

    def verdicts(self, mean_key: str) -> dict[tuple[int, int], Verdict]:
        """Every two models on one mean; the better one is named when its corrected p-value is below 0.05."""
        means = {pair: comparison.mean(mean_key) for pair, comparison in self.pairs.items()}
        by_examples = holm({pair: one.p for pair, one in means.items() if one.p is not None})
        by_datasets = pairwise_p(self.scores(mean_key))
        found = {}
        for pair, one in means.items():
            p = by_examples.get(pair)
            sure = p is not None and p < ALPHA
            found[pair] = Verdict(
                p, by_datasets.get(pair), (pair[1] if one.gain > 0 else pair[0]) if sure else None
            )
        return found

    def figures(self) -> dict[str, float]:
        """Flat numbers: each mean of every model, its rank, and every pair's difference and p-values."""
        flat: dict[str, float] = {}
        for key in self.metrics:
            means, ranks, friedman = self.means(key), self.ranks(key), self.friedman_p(key)
            verdicts = self.verdicts(key)
            for index, letter in enumerate(self.letters.lower()):
                flat |= {f"{key}/{letter}": float(means[index]), f"{key}/{letter}_rank": float(ranks[index])}
            for (one, other), comparison in self.pairs.items():
                mean, verdict = comparison.mean(key), verdicts[one, other]
                values = {
                    "delta": mean.interval.delta,
                    "low": mean.interval.low,
                    "high": mean.interval.high,
                    "p": mean.p,
                    "p_holm": verdict.p_holm,
                    "wilcoxon_p_holm": verdict.wilcoxon_p_holm,
                }
                name = f"{key}/{self.letters[one].lower()}_{self.letters[other].lower()}"
                flat |= {f"{name}/{what}": value for what, value in values.items() if value is not None}
            if friedman is not None:
                flat[f"{key}/friedman_p"] = friedman
        return flat


def rank(
    subjects: Sequence[Subject], tracking: Tracking, suite: str | None = None, *, draws: int = DRAWS
) -> Ranking:
    """Compare every two of the models; raises as `compare` does, and ConfigError for too many."""
    if not 3 <= len(subjects) <= MOST:
        raise ConfigError(f"{len(subjects)} models to rank", hint=f"name 3 to {MOST}; two are compared")
    matched = match(subjects, tracking, suite)
    scores = [read_scores(tracking, run, matched.datasets) for run in matched.runs]
    labels = [subject.label for subject in subjects]
    pairs = {
        (one, other): compared(
            (labels[one], labels[other]), matched, (one, other), scores[one], scores[other], draws=draws
        )
        for one, other in combinations(range(len(subjects)), 2)
    }
    headlines = tuple(json.loads(matched.runs[0].tags[HEADLINES]))
    return Ranking(matched.suite, tuple(labels), headlines, matched.notes, matched.runs, pairs)
