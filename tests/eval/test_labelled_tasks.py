"""Calibration, few shots, regression, clustering and pairs against scikit-learn, scipy, aeon and by hand."""

import numpy as np
import pytest
from aeon.benchmarking.metrics.clustering import clustering_accuracy_score
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    accuracy_score,
    adjusted_rand_score,
    average_precision_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)
from sklearn.preprocessing import StandardScaler

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.tasks.calibration import calibration_error, log_losses
from lakebed.eval.tasks.classification import ClassificationTask
from lakebed.eval.tasks.clustering import ClusteringTask, matched
from lakebed.eval.tasks.few_shot import drawn
from lakebed.eval.tasks.pair_classification import PairClassificationTask, auc_shares
from lakebed.eval.tasks.protocol import TaskResult, require_finite
from lakebed.eval.tasks.regression import RegressionTask
from lakebed.platform.config.entries.classification import FewShot, LinearProbe, NearestNeighbours
from lakebed.platform.config.entries.clustering import KMeans
from lakebed.platform.config.entries.regression import RidgeProbe
from lakebed.platform.errors import ConfigError, LakebedError
from lakebed.platform.items import Item


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def part(labels: np.ndarray, kind: str) -> Part:
    return Part([Item.of(text=f"{kind} {number}") for number in range(len(labels))], labels)


def two_parts(train: np.ndarray, test: np.ndarray) -> Dataset:
    return Dataset("made", "1", "here", {"train": part(train, "train"), "test": part(test, "test")})


def classes(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    codes = generator.choice(3, rows, p=(0.5, 0.3, 0.2))
    centres = np.random.default_rng(0).standard_normal((3, 6))
    return unit(centres[codes] + generator.standard_normal((rows, 6))), np.array(["a", "b", "c"])[codes]


def classified(few: FewShot) -> tuple[TaskResult, list[np.ndarray], list[np.ndarray]]:
    (train, known), (test, asked) = classes(80, 1), classes(50, 2)
    task = ClassificationTask(LinearProbe(), NearestNeighbours(), few)
    return task.run(two_parts(known, asked), {"train": train, "test": test}), [train, test], [known, asked]


def test_log_loss_is_scikit_learns() -> None:
    result, (train, test), (known, asked) = classified(FewShot())
    scaler = StandardScaler().fit(train)
    probe = LogisticRegression(max_iter=2000).fit(scaler.transform(train), known)
    expected = log_loss(asked, probe.predict_proba(scaler.transform(test)))
    assert result.metrics["linear_probe_log_loss"] == pytest.approx(expected, abs=1e-6)


def test_a_class_that_was_never_seen_loses_as_much_as_can_be() -> None:
    losses = log_losses(np.array(["a", "z"]), np.array(["a", "b"]), np.array([[0.5, 0.5], [0.5, 0.5]]))
    assert losses.tolist() == pytest.approx([np.log(2), -np.log(np.finfo(float).eps)])


def test_calibration_error_of_a_case_done_by_hand() -> None:
    confidence, right = np.array([0.95, 0.99, 0.55, 0.60, 1.0]), np.array([True, False, True, True, True])
    # The last of 15 bins holds 3 at .98, 2 right; .55 and .60 share the ninth, (8/15, 9/15].
    expected = abs(0.95 + 0.99 + 1.0 - 2) / 5 + abs(0.55 + 0.60 - 2) / 5
    assert calibration_error(confidence, right) == pytest.approx(expected)


def test_few_shots_are_means_over_the_same_draws_for_every_encoder() -> None:
    result, (train, test), (known, asked) = classified(FewShot(shots=(4,), draws=3))
    accuracies, f1 = [], []
    for draw in range(3):
        few = drawn(known, 4, draw, 0)
        assert np.unique(known[few], return_counts=True)[1].tolist() == [4, 4, 4]
        scaler = StandardScaler().fit(train[few])
        probe = LogisticRegression(max_iter=2000).fit(scaler.transform(train[few]), known[few])
        predicted = probe.predict(scaler.transform(test))
        accuracies.append(accuracy_score(asked, predicted))
        f1.append(f1_score(asked, predicted, average="macro"))
    assert result.metrics["few_shot_4_accuracy"] == pytest.approx(np.mean(accuracies))
    assert result.metrics["few_shot_4_accuracy_sd"] == pytest.approx(np.std(accuracies))
    assert result.metrics["few_shot_4_macro_f1"] == pytest.approx(np.mean(f1))
    assert len({tuple(drawn(known, 4, draw, 0)) for draw in range(3)}) == 3


def test_as_many_shots_as_there_are_examples_are_the_whole_probe() -> None:
    result, _, _ = classified(FewShot(shots=(100,)))
    assert result.metrics["few_shot_100_accuracy"] == result.metrics["linear_probe_accuracy"]
    assert result.metrics["few_shot_100_accuracy_sd"] == 0


def regressed(alphas: tuple[float, ...] = (3.0,)) -> tuple[TaskResult, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    train, test = (unit(generator.standard_normal((rows, 5))) for rows in (60, 40))
    known, asked = (
        100 * (values @ np.arange(5) + 0.3 * generator.standard_normal(len(values))) for values in (train, test)
    )
    data = two_parts(known.astype(np.str_), asked.astype(np.str_))
    result = RegressionTask(RidgeProbe(alphas=alphas)).run(data, {"train": train, "test": test})
    scaler = StandardScaler().fit(train.astype(float))
    ridge = Ridge(3.0).fit(scaler.transform(train.astype(float)), known)
    return result, asked, ridge.predict(scaler.transform(test.astype(float)))


def test_regression_is_scikit_learns_ridge() -> None:
    result, gold, predicted = regressed()
    expected = {
        "r2": r2_score(gold, predicted),
        "mae": mean_absolute_error(gold, predicted),
        "rmse": root_mean_squared_error(gold, predicted),
        "spearman": spearmanr(gold, predicted).statistic,
    }
    assert result.metrics == pytest.approx(expected, rel=1e-6)
    for one in result.examples:
        assert one.scores.mean() == pytest.approx(result.metrics[one.metric])


def test_the_train_part_chooses_how_strong_the_penalty_is() -> None:
    result, _, _ = regressed((1e-3, 1.0, 1e6))
    assert result.details["alpha"] in (1e-3, 1.0)
    assert result.metrics["r2"] > 0.8 > result.chance["r2_chance"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["1", "high"], "no numbers"), (["1", "nan"], "not all finite"), (["2", "2"], "all equal")],
)
def test_labels_that_cannot_be_predicted_are_an_error(labels: list[str], message: str) -> None:
    data = two_parts(np.array(labels), np.array(["1", "2"]))
    with pytest.raises(ConfigError, match=message):
        RegressionTask(RidgeProbe()).run(data, {})


def test_clusters_are_matched_to_classes_as_aeon_does() -> None:
    generator = np.random.default_rng(1)
    codes = generator.integers(0, 4, 200)
    clusters = np.where(generator.random(200) < 0.6, (codes + 1) % 4, generator.integers(0, 4, 200))
    labels = np.array(["a", "b", "c", "d"])[codes]
    accuracy = (matched(labels, clusters) == labels).mean()
    assert accuracy == pytest.approx(clustering_accuracy_score(codes, clusters))


def test_clustering_finds_classes_that_lie_apart() -> None:
    labels = np.array(["a", "b", "c"] * 10)
    vectors = unit(np.tile(np.eye(3), (10, 1)) + 0.05 * np.random.default_rng(0).standard_normal((30, 3)))
    result = ClusteringTask(KMeans()).run(two_parts(labels, labels), {"train": vectors, "test": vectors})
    assert result.metrics == pytest.approx({"v_measure": 1, "ari": 1, "ami": 1, "accuracy": 1})
    assert len(set(result.examples[0].keys)) == 60


def test_an_encoder_that_maps_everything_to_one_point_has_one_cluster() -> None:
    labels = np.array(["a", "b"] * 5)
    same = np.ones((10, 4), np.float32) / 2
    result = ClusteringTask(KMeans()).run(two_parts(labels, labels), {"train": same, "test": same})
    assert result.metrics["v_measure"] == 0
    assert result.metrics["ari"] == adjusted_rand_score(labels, np.zeros(10))
    assert result.metrics["accuracy"] == 0.5


def pairs(labels: np.ndarray, similarity: np.ndarray) -> TaskResult:
    data = Dataset("p", "1", "here", {name: part(labels, name) for name in ("first", "second")})
    second = np.stack([similarity, np.sqrt(1 - similarity**2)], axis=1).astype(np.float32)
    first = np.tile(np.array([[1.0, 0.0]], np.float32), (len(labels), 1))
    return PairClassificationTask().run(data, {"first": first, "second": second})


def test_pairs_are_scored_as_scikit_learn_does() -> None:
    generator = np.random.default_rng(2)
    together = generator.random(120) < 0.3
    similarity = np.round(np.clip(0.3 * together + generator.uniform(0, 0.6, 120), 0, 1), 2)  # with ties
    metrics = pairs(np.where(together, "1", "0"), similarity).metrics
    assert metrics["ap"] == pytest.approx(average_precision_score(together, similarity))
    assert metrics["roc_auc"] == pytest.approx(roc_auc_score(together, similarity))
    cuts = [similarity >= cut for cut in (*np.unique(similarity), 2)]
    assert metrics["best_f1"] == pytest.approx(max(f1_score(together, cut, zero_division=0) for cut in cuts))
    assert metrics["best_accuracy"] == pytest.approx(max(accuracy_score(together, cut) for cut in cuts))


def test_the_spread_of_shares_in_the_area_is_that_of_the_area() -> None:
    generator = np.random.default_rng(3)
    positive = np.arange(300) < 90
    scores = positive + 1.5 * generator.standard_normal(300)
    drawn_areas = []
    for _ in range(400):
        rows = np.concatenate([generator.integers(0, 90, 90), generator.integers(90, 300, 210)])
        drawn_areas.append(auc_shares(scores[rows], positive[rows]).mean())
    assert auc_shares(scores, positive).std() / np.sqrt(300) == pytest.approx(np.std(drawn_areas), rel=0.12)


def test_pairs_of_one_label_cannot_be_told_apart() -> None:
    with pytest.raises(ConfigError, match="all pairs have one label"):
        pairs(np.array(["1", "1"]), np.array([0.1, 0.2]))


def test_a_score_that_is_no_number_names_data_set_and_task() -> None:
    task, data = PairClassificationTask(), two_parts(np.array(["1"]), np.array(["0"]))
    with pytest.raises(LakebedError, match="data set made, task pair_classification: no finite number for ap"):
        require_finite(TaskResult({"ap": float("nan")}, []), data, task)
