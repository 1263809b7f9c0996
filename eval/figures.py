"""Pictures of an evaluation: confusion of classes, projection of vectors, recall over ranks, agreement on pairs.

Matplotlib without pyplot: no global state, no window system.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from lakebed.eval import chance
from lakebed.eval.relevance import right_answers
from lakebed.eval.run import Measured
from lakebed.eval.tasks.cross_modal import DIRECTIONS, first_ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS: Final = 4
_PANEL_INCHES: Final = 2.8
_COLOURS: Final = "tab20"
_POINTS: Final = 1000
_CONFUSED: Final = ("linear_probe_accuracy", "accuracy")


def all_of(measured: Sequence[Measured]) -> "dict[str, Figure]":
    """Every figure that these results allow, by name; a task without data sets has none."""
    labelled, named, paired, judged = (
        [one for one in measured if one.task.name == task]
        for task in ("classification", "zero_shot", "cross_modal", "sts")
    )
    found = {}
    if labelled:
        found["confusion"] = _grid(labelled, _confusion, "Linear probe: share of each true class (row)")
        found["projection"] = _grid(labelled, _projection, "Test vectors, first two principal components")
    if named:
        found["zero_shot"] = _grid(named, _confusion, "By words alone: share of each true class (row)")
    if judged:
        found["agreement"] = _grid(judged, _agreement, "Similarity of sentence pairs")
    if paired:
        found["recall"] = _grid(paired, _recall, "Share of queries whose answer is within the first k")
    return found


def _grid(measured: Sequence[Measured], draw: "Callable[[Axes, Measured], None]", title: str) -> "Figure":
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(measured))
    rows = math.ceil(len(measured) / columns)
    figure = Figure(figsize=(max(columns, 2) * _PANEL_INCHES, rows * _PANEL_INCHES + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, one in zip(panels, measured, strict=False):
        draw(panel, one)
    for panel in panels[len(measured) :]:
        panel.axis("off")
    figure.suptitle(title)
    return figure


def _confusion(panel: "Axes", one: Measured) -> None:
    from sklearn.metrics import confusion_matrix

    probe = next(scores for scores in one.result.examples if scores.metric in _CONFUSED)
    classes = sorted({*probe.expected, *probe.predicted})
    shares = confusion_matrix(probe.expected, probe.predicted, labels=classes, normalize="true")
    panel.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    panel.set_title(f"{one.data.name}  {probe.scores.mean():.3f}", fontsize=9)
    few = len(classes) <= 12
    panel.set_xticks(range(len(classes)) if few else [], classes if few else [], fontsize=6, rotation=90)
    panel.set_yticks(range(len(classes)) if few else [], classes if few else [], fontsize=6)


def _projection(panel: "Axes", one: Measured) -> None:
    vectors = one.vectors["test"][:_POINTS].astype(np.float64)
    labels = one.data.parts["test"].labels[:_POINTS]
    centred = vectors - vectors.mean(axis=0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    places = centred @ axes[:2].T
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))  # vectors of one dimension
    classes, colours = np.unique(labels, return_inverse=True)
    panel.scatter(places[:, 0], places[:, 1], c=colours % 20, s=6, cmap=_COLOURS, vmin=0, vmax=19, linewidths=0)
    share = (spread[:2] ** 2).sum() / max((spread**2).sum(), 1e-12)
    panel.set_title(f"{one.data.name}\n{len(classes)} classes, {share:.0%} of variance", fontsize=8)
    panel.set_xticks([])
    panel.set_yticks([])


def _recall(panel: "Axes", one: Measured) -> None:
    for (asked, answering), colour in zip(DIRECTIONS, ("tab:blue", "tab:orange"), strict=True):
        queries, answers = one.data.parts[asked], one.data.parts[answering]
        ranks = first_ranks(one.vectors[asked], one.vectors[answering], queries.labels, answers.labels)
        cutoffs = np.unique(np.geomspace(1, len(answers), _POINTS).astype(int))
        shares = np.searchsorted(np.sort(ranks), cutoffs, side="right") / len(ranks)
        right = right_answers(queries.labels, answers.labels).sum(axis=1)
        guessed = [chance.hit_rate(right, len(answers), int(cutoff)) for cutoff in cutoffs]
        panel.plot(cutoffs, shares, color=colour, label=f"{asked} to {answering}, {len(answers)}")
        panel.plot(cutoffs, guessed, color=colour, linestyle=":")
    panel.set_xscale("log")
    panel.set_xlabel("k; dotted: chance", fontsize=8)
    panel.set_ylim(0, 1)
    panel.set_title(one.data.name, fontsize=9)
    panel.legend(fontsize=7)


def _agreement(panel: "Axes", one: Measured) -> None:
    (pairs,) = one.result.examples
    panel.scatter([float(gold) for gold in pairs.expected], [float(cosine) for cosine in pairs.predicted], s=4)
    panel.set_xlabel("people", fontsize=8)
    panel.set_ylabel("cosine", fontsize=8)
    panel.set_title(f"{one.data.name}  {one.result.metrics['spearman']:.3f}", fontsize=9)
