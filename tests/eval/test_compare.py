"""Comparing and promoting, on hand-made scores in a real MLflow."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lakebed.eval import record
from lakebed.eval.compare import Comparison, compare
from lakebed.eval.promote import champion_of, decide, promote, registered
from lakebed.eval.run import EXAMPLE_SCHEMA
from lakebed.eval.subject import Subject, resolve_subject
from lakebed.platform.encoder.artifact import write_artifact
from lakebed.platform.errors import ConfigError, NotFoundError
from lakebed.platform.registry import Registry
from lakebed.platform.tracking import Tracking

Scores = Mapping[str, list[float]]
"""Per-example scores of one metric by data set."""

ACCURACY = "mean/classification/knn_accuracy"


@pytest.fixture
def tracking(mlflow_database: str) -> Tracking:
    return Tracking(mlflow_database)


@pytest.fixture
def registry(mlflow_database: str) -> Registry:
    return Registry(mlflow_database)


def fake(dimensions: int, registry: Registry) -> Subject:
    return resolve_subject(f"fake:{dimensions}", registry)


def log(
    tracking: Tracking,
    subject: Subject,
    scores: Scores,
    *,
    suite: str = "tiny",
    digests: Mapping[str, str] | None = None,
    probe: str = "k=1",
    probed: Scores | None = None,
    nan: bool = False,
) -> None:
    """Log a run as `lakebed eval` does: `scores` of the neighbours, `probed` of the linear probe."""
    digests = digests or dict.fromkeys(scores, "d1")
    by_metric = {"knn_accuracy": scores, "linear_probe_accuracy": probed or {}}
    rows = [
        (name, "classification", metric, f"e{position}", score, "x", "y")
        for metric, found in by_metric.items()
        for name, values in found.items()
        for position, score in enumerate(values)
    ]
    if nan:
        rows[-1] = (*rows[-1][:4], float("nan"), *rows[-1][5:])
    columns = [*(pa.array(column) for column in zip(*rows, strict=True)), pa.nulls(len(rows), pa.string())]
    table = pa.table(columns, names=EXAMPLE_SCHEMA.names)
    headlines = [f"mean/classification/{metric}" for metric, found in by_metric.items() if found]
    with tracking.run(record.EXPERIMENT, subject.label, {**subject.tags, record.SUITE: suite}) as run:
        run.params({f"{record.DATA_PARAM}{name}": digest for name, digest in digests.items()})
        run.params({f"{record.TASK_PARAM}classification": probe})
        run.metrics({f"{name}/classification/knn_macro_f1": 0.5 for name in scores})
        for metric, found in by_metric.items():
            run.metrics({f"{name}/classification/{metric}": float(np.mean(found[name])) for name in found})
        run.table(table.cast(EXAMPLE_SCHEMA), record.EXAMPLES)
        run.tags({record.DATA: str(sorted(digests.items())), record.HEADLINES: json.dumps(headlines)})


def compared(tracking: Tracking, registry: Registry, a: Scores, b: Scores) -> Comparison:
    log(tracking, fake(1, registry), a)
    log(tracking, fake(2, registry), b)
    return compare(fake(1, registry), fake(2, registry), tracking)


def test_differences_means_and_tallies_of_hand_made_scores(tracking: Tracking, registry: Registry) -> None:
    before = {"D": [0, 0, 1, 1] * 10, "E": [1, 0] * 10, "F": [1, 1, 1, 0]}
    after = {"D": [1, 0, 1, 1] * 10, "E": [1, 0] * 10, "F": [1, 1, 0, 0]}
    result = compared(tracking, registry, before, after)
    figures = result.figures()
    assert figures["D/classification/knn_accuracy/a"] == 0.5
    assert figures["D/classification/knn_accuracy/delta"] == 0.25
    assert 0 < figures["D/classification/knn_accuracy/low"] < 0.25 < figures["D/classification/knn_accuracy/high"]
    assert figures["E/classification/knn_accuracy/low"] == figures["E/classification/knn_accuracy/high"] == 0
    assert figures[f"{ACCURACY}/a"] == pytest.approx((0.5 + 0.5 + 0.75) / 3)
    assert figures[f"{ACCURACY}/delta"] == pytest.approx((0.25 + 0 - 0.25) / 3)
    assert [figures[f"{ACCURACY}/{what}"] for what in ("wins", "ties", "losses")] == [1, 1, 1]


def test_a_figure_without_examples_has_a_difference_and_no_interval(
    tracking: Tracking, registry: Registry
) -> None:
    result = compared(tracking, registry, {"D": [0, 1]}, {"D": [1, 1]})
    f1 = result.mean("mean/classification/knn_macro_f1")
    assert (f1.interval.delta, f1.interval.low) == (0, None)
    assert "D/classification/knn_macro_f1/low" not in result.figures()


def test_examples_are_paired_by_name_not_by_order(tracking: Tracking, registry: Registry) -> None:
    scores = np.random.default_rng(0).choice((0.0, 1.0), 50).tolist()
    result = compared(tracking, registry, {"D": scores}, {"D": scores})
    (accuracy,) = [one for one in result.differences if one.key.endswith("knn_accuracy")]
    assert (accuracy.interval.delta, accuracy.interval.low, accuracy.interval.high) == (0, 0, 0)
    assert accuracy.examples == 50


def test_data_sets_that_differ_are_left_out_with_a_note(tracking: Tracking, registry: Registry) -> None:
    a, b = fake(1, registry), fake(2, registry)
    log(tracking, a, {"D": [0, 1], "E": [0, 1]}, digests={"D": "d1", "E": "old"})
    log(tracking, b, {"D": [1, 1], "E": [1, 1]}, digests={"D": "d1", "E": "new"})
    result = compare(a, b, tracking)
    assert {one.key.partition("/")[0] for one in result.differences} == {"D"}
    assert result.notes == ("E: other data in the two runs, left out",)


def test_the_newest_runs_on_the_same_data_are_taken(tracking: Tracking, registry: Registry) -> None:
    a, b = fake(1, registry), fake(2, registry)
    log(tracking, a, {"D": [0, 1]})
    log(tracking, b, {"D": [0, 0]})
    log(tracking, b, {"D": [1, 1]})
    log(tracking, b, {"D": [0]}, digests={"D": "a few rows only"})
    assert compare(a, b, tracking).mean(ACCURACY).b == 1


def test_a_stored_score_that_is_no_number_is_refused(tracking: Tracking, registry: Registry) -> None:
    a, b = fake(1, registry), fake(2, registry)
    log(tracking, a, {"D": [0, 1]})
    log(tracking, b, {"D": [0, 1]}, nan=True)
    with pytest.raises(ConfigError, match="knn_accuracy that is not a finite number, of example e1"):
        compare(a, b, tracking)


def test_other_probes_cannot_be_compared(tracking: Tracking, registry: Registry) -> None:
    a, b = fake(1, registry), fake(2, registry)
    log(tracking, a, {"D": [0, 1]}, probe="k=1")
    log(tracking, b, {"D": [0, 1]}, probe="k=5")
    with pytest.raises(ConfigError, match="different probes"):
        compare(a, b, tracking)


def test_what_was_not_evaluated_is_said_with_the_command_to_run(tracking: Tracking, registry: Registry) -> None:
    a, b = fake(1, registry), fake(2, registry)
    log(tracking, a, {"D": [0, 1]}, suite="one")
    with pytest.raises(NotFoundError, match=r"fake:2 was not evaluated yet .*lakebed eval --model fake:2"):
        compare(a, b, tracking)
    log(tracking, b, {"D": [0, 1]}, suite="two")
    with pytest.raises(NotFoundError, match="nothing in common"):
        compare(a, b, tracking)
    with pytest.raises(NotFoundError, match="fake:1 was not evaluated on suite two"):
        compare(a, b, tracking, "two")


def test_a_truncation_is_a_subject_of_its_own(tracking: Tracking, registry: Registry) -> None:
    full, cut = resolve_subject("fake:8", registry), resolve_subject("fake:8#4", registry)
    log(tracking, cut, {"D": [0, 0]})
    log(tracking, full, {"D": [1, 0]})
    result = compare(cut, full, tracking)
    assert (result.a, result.b) == ("fake:8#4", "fake:8")
    assert result.mean(ACCURACY).interval.delta == 0.5


@pytest.mark.parametrize("bad", ["fake#", "fake#0", "fake#x", "fake#-1"])
def test_a_malformed_truncation_is_an_error(registry: Registry, bad: str) -> None:
    with pytest.raises(ConfigError, match="MODEL#DIMENSIONS"):
        resolve_subject(bad, registry)


def version(registry: Registry, folder: Path, value: float) -> Subject:
    """Register a tiny model and resolve it."""
    write_artifact(folder, {"name": "tiny"}, {"weight": np.full(2, value, np.float32)}, "# Tiny\n")
    return resolve_subject(registry.register(folder, "tiny").reference, registry)


def test_the_first_version_is_promoted_without_a_champion(
    tracking: Tracking, registry: Registry, tmp_path: Path
) -> None:
    first = version(registry, tmp_path / "one", 1.0)
    assert champion_of("tiny", registry) is None
    decision = decide(first, None, tracking, suite=None, figure=None)
    promote(registered(first), decision, registry)
    champion = champion_of("tiny", registry)
    assert champion is not None
    assert (champion.version, decision.holds) == (1, True)
    assert "first" in champion.tags["lakebed.promoted"]


@pytest.mark.parametrize(("scores", "holds"), [([1.0, 1, 1, 0] * 10, True), ([1.0, 0, 0, 0] * 10, False)])
def test_the_gate_holds_only_for_a_better_version(
    tracking: Tracking, registry: Registry, tmp_path: Path, scores: list[float], holds: bool
) -> None:
    champion, candidate = version(registry, tmp_path / "one", 1.0), version(registry, tmp_path / "two", 2.0)
    log(tracking, champion, {"D": [1.0, 1, 0, 0] * 10})
    log(tracking, candidate, {"D": scores})
    decision = decide(candidate, champion, tracking, suite=None, figure=ACCURACY)
    assert decision.holds is holds
    assert "tiny@1" in decision.reason
    assert "95 % interval" in decision.reason


@pytest.mark.parametrize(("probed", "holds"), [([1.0, 1, 0, 0] * 10, True), ([1.0, 0, 0, 0] * 10, False)])
def test_a_gain_is_not_bought_with_a_sure_loss(
    tracking: Tracking, registry: Registry, tmp_path: Path, probed: list[float], holds: bool
) -> None:
    champion, candidate = version(registry, tmp_path / "one", 1.0), version(registry, tmp_path / "two", 2.0)
    log(tracking, champion, {"D": [1.0, 0] * 20}, probed={"D": [1.0, 1, 0, 0] * 10})
    log(tracking, candidate, {"D": [1.0, 1] * 20}, probed={"D": probed})
    decision = decide(candidate, champion, tracking, suite=None, figure=ACCURACY)
    assert decision.holds is holds
    assert ("but mean/classification/linear_probe_accuracy" in decision.reason) is not holds


def test_an_equal_version_is_not_promoted(tracking: Tracking, registry: Registry, tmp_path: Path) -> None:
    champion, candidate = version(registry, tmp_path / "one", 1.0), version(registry, tmp_path / "two", 2.0)
    for subject in (champion, candidate):
        log(tracking, subject, {"D": [1.0, 0.0]})
    assert not decide(candidate, champion, tracking, suite=None, figure=None).holds


def test_only_a_registered_version_at_full_length_can_be_promoted(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not registered"):
        registered(fake(4, registry))
    version(registry, tmp_path / "one", 1.0)
    with pytest.raises(ConfigError, match="a truncation is not a version"):
        registered(resolve_subject("tiny@1#2", registry))


def test_a_folder_with_registered_files_is_that_version(registry: Registry, tmp_path: Path) -> None:
    version(registry, tmp_path / "one", 1.0)
    assert resolve_subject(str(tmp_path / "one"), registry).label == "tiny@1"
