"""The linear probe trained on few examples of each class: a mean over fixed random draws.

The draws depend on seed, number of shots and the labels alone, so every encoder is trained on the same examples.
"""

import numpy as np
import numpy.typing as npt

from lakebed.eval.datasets import Dataset, LabelArray
from lakebed.eval.tasks.linear_probe import fit_probe
from lakebed.eval.tasks.protocol import ExampleScores, Vectors
from lakebed.platform.config.entries.classification import FewShot, LinearProbe


def few_shot(
    config: FewShot, probe: LinearProbe, data: Dataset, vectors: Vectors
) -> tuple[dict[str, float], list[ExampleScores]]:
    """Accuracy and macro-F1 for every number of shots, and by example the share of draws that were right."""
    metrics: dict[str, float] = {}
    examples = []
    test = data.parts["test"]
    for shots in config.shots:
        predicted = _predictions(config, shots, probe, data.parts["train"].labels, vectors)
        right = predicted == test.labels
        f1 = [_macro_f1(test.labels, one) for one in predicted]
        for name, values in (("accuracy", right.mean(axis=1)), ("macro_f1", np.array(f1))):
            metrics[f"few_shot_{shots}_{name}"] = float(values.mean())
            metrics[f"few_shot_{shots}_{name}_sd"] = float(values.std())
        said = [f"right in {count} of {len(right)} draws" for count in right.sum(axis=0)]
        shares = right.mean(axis=0)
        examples.append(ExampleScores(f"few_shot_{shots}_accuracy", test.keys, shares, test.labels.tolist(), said))
    return metrics, examples


def drawn(labels: LabelArray, shots: int, draw: int, seed: int) -> npt.NDArray[np.int64]:
    """Places of at most `shots` examples of each class, in order."""
    generator = np.random.default_rng([seed, shots, draw])
    chosen = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        chosen.append(generator.permutation(places)[:shots])
    return np.sort(np.concatenate(chosen))


def _predictions(
    config: FewShot, shots: int, probe: LinearProbe, labels: LabelArray, vectors: Vectors
) -> npt.NDArray[np.str_]:
    """Predicted labels, draws x examples; one draw where it takes every example there is."""
    everything = np.unique(labels, return_counts=True)[1].max() <= shots
    draws = [drawn(labels, shots, draw, config.seed) for draw in range(1 if everything else config.draws)]
    return np.stack(
        [fit_probe(probe, vectors["train"][few], labels[few]).predict(vectors["test"]) for few in draws]
    )


def _macro_f1(expected: LabelArray, predicted: LabelArray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(expected, predicted, labels=np.unique(expected), average="macro", zero_division=0))
