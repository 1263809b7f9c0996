"""Pictures of an evaluation: confusion of classes, projection of vectors, recall over ranks.

Matplotlib without pyplot: no global state, no window system.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lakebed.eval.run import Measured
from lakebed.eval.tasks.cross_modal import first_ranks

_COLUMNS: Final = 4
_PANEL_INCHES: Final = 2.8
_COLOURS: Final = "tab20"
_POINTS: Final = 1000


def all_of(measured: Sequence[Measured]) -> dict[str, Figure]:
    """Every figure that these results allow, by name; a task without data sets has none."""
    labelled = [one for one in measured if one.task.name == "classification"]
    paired = [one for one in measured if one.task.name == "cross_modal"]
    found = {}
    if labelled:
        found["confusion"] = _grid(labelled, _confusion, "Linear probe: share of each true class (row)")
        found["projection"] = _grid(labelled, _projection, "Test vectors, first two principal components")
    if paired:
        found["recall"] = _grid(paired, _recall, "Share of queries whose answer is within the first k")
    return found


def _grid(measured: Sequence[Measured], draw: Callable[[Axes, Measured], None], title: str) -> Figure:
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


def _confusion(panel: Axes, one: Measured) -> None:
    from sklearn.metrics import confusion_matrix

    probe = next(scores for scores in one.result.examples if scores.metric == "linear_probe_accuracy")
    classes = sorted({*probe.expected, *probe.predicted})
    shares = confusion_matrix(probe.expected, probe.predicted, labels=classes, normalize="true")
    panel.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    panel.set_title(f"{one.data.name}  {probe.scores.mean():.3f}", fontsize=9)
    few = len(classes) <= 12
    panel.set_xticks(range(len(classes)) if few else [], classes if few else [], fontsize=6, rotation=90)
    panel.set_yticks(range(len(classes)) if few else [], classes if few else [], fontsize=6)


def _projection(panel: Axes, one: Measured) -> None:
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


def _recall(panel: Axes, one: Measured) -> None:
    parts: dict[str, Any] = dict(one.data.parts)
    for queries, answers in (("text", "signal"), ("signal", "text")):
        ranks = first_ranks(
            one.vectors[queries], one.vectors[answers], parts[queries].labels, parts[answers].labels
        )
        cutoffs = np.arange(1, len(parts[answers]) + 1)
        shares = np.searchsorted(np.sort(ranks), cutoffs, side="right") / len(ranks)
        panel.plot(cutoffs, shares, label=f"{queries} to {answers}")
    panel.plot(cutoffs, cutoffs / len(cutoffs), color="grey", linestyle=":", label="chance")
    panel.set_xscale("log")
    panel.set_xlabel("k", fontsize=8)
    panel.set_ylim(0, 1)
    panel.set_title(f"{one.data.name}, pool of {len(cutoffs)}", fontsize=9)
    panel.legend(fontsize=7)
