"""Metrics against independent ways to compute them: numpy by hand, pytrec_eval, hand-made cases."""

import numpy as np
import pytest
import pytrec_eval
from scipy.stats import spearmanr

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.tasks.classification import ClassificationTask
from lakebed.eval.tasks.cross_modal import CrossModalTask, first_ranks
from lakebed.eval.tasks.level import LevelTask
from lakebed.eval.tasks.protocol import TaskResult, lower_is_better
from lakebed.eval.tasks.sts import StsTask, spearman_shares
from lakebed.eval.tasks.zero_shot import ZeroShotTask
from lakebed.platform.config.entries.classification import LinearProbe, NearestNeighbours
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import Item

CLASSES = np.array(["a", "b", "c"])


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def part(labels: np.ndarray, kind: str) -> Part:
    return Part([Item.of(text=f"{kind} {number}") for number in range(len(labels))], labels)


def noisy_classes(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around one centre per class, so noisy that no classifier gets all of them right."""
    generator = np.random.default_rng(seed)
    classes = generator.choice(3, rows, p=(0.6, 0.3, 0.1))
    centres = np.random.default_rng(0).standard_normal((3, 16))
    return unit(centres[classes] + 1.5 * generator.standard_normal((rows, 16))), CLASSES[classes]


def classified() -> tuple[TaskResult, dict[str, np.ndarray], dict[str, np.ndarray]]:
    vectors, labels = {}, {}
    for seed, name in enumerate(("train", "test")):
        vectors[name], labels[name] = noisy_classes(120, seed + 1)
    data = Dataset("noisy", "1", "here", {name: part(labels[name], name) for name in vectors})
    task = ClassificationTask(LinearProbe(), NearestNeighbours())
    return task.run(data, vectors), vectors, labels


def recalls_and_f1(expected: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Balanced accuracy and macro-F1 from counts, without a library."""
    recalls, f1 = [], []
    for label in np.unique(expected):
        right = int(((expected == label) & (predicted == label)).sum())
        called, present = int((predicted == label).sum()), int((expected == label).sum())
        recalls.append(right / present)
        f1.append(2 * right / (called + present))
    return float(np.mean(recalls)), float(np.mean(f1))


def test_nearest_neighbour_is_the_most_similar_training_vector() -> None:
    result, vectors, labels = classified()
    nearest = labels["train"][(vectors["test"] @ vectors["train"].T).argmax(axis=1)]
    balanced, f1 = recalls_and_f1(labels["test"], nearest)
    assert result.metrics["knn_accuracy"] == pytest.approx((nearest == labels["test"]).mean(), abs=1e-12)
    assert result.metrics["knn_balanced_accuracy"] == pytest.approx(balanced, abs=1e-12)
    assert result.metrics["knn_macro_f1"] == pytest.approx(f1, abs=1e-12)


def test_the_probe_is_the_optimum_of_its_stated_objective() -> None:
    """Solve the same penalised likelihood with scipy from scratch, and predict with that."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    result, vectors, labels = classified()
    train, test = vectors["train"].astype(float), vectors["test"].astype(float)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    targets = labels["train"][:, None] == CLASSES

    def loss(flat: np.ndarray) -> float:
        weights, bias = flat[:48].reshape(16, 3), flat[48:]
        scores = train @ weights + bias
        return float((logsumexp(scores, axis=1) - scores[targets]).sum() + 0.5 * (weights**2).sum())

    best = minimize(loss, np.zeros(51), method="L-BFGS-B", options={"maxiter": 2000, "maxfun": 10**6}).x
    predicted = CLASSES[(test @ best[:48].reshape(16, 3) + best[48:]).argmax(axis=1)]
    balanced, f1 = recalls_and_f1(labels["test"], predicted)
    assert result.metrics["linear_probe_accuracy"] == pytest.approx((predicted == labels["test"]).mean())
    assert result.metrics["linear_probe_balanced_accuracy"] == pytest.approx(balanced)
    assert result.metrics["linear_probe_macro_f1"] == pytest.approx(f1)
    assert 0.4 < result.metrics["linear_probe_accuracy"] < 1


def test_per_example_scores_average_to_the_metric_and_say_what_was_predicted() -> None:
    result, _, labels = classified()
    for scores in result.examples:
        assert scores.scores.mean() == pytest.approx(result.metrics[scores.metric])
        assert len(set(scores.keys)) == len(labels["test"])
        if scores.metric.endswith("_accuracy"):
            right = np.array(scores.predicted) == labels["test"]
            assert (right == (scores.scores == 1)).all()


def test_one_class_cannot_be_classified() -> None:
    labels = np.array(["a", "a"])
    data = Dataset("flat", "1", "here", {"train": part(labels, "train"), "test": part(labels, "test")})
    vectors = {"train": np.eye(2, dtype=np.float32), "test": np.eye(2, dtype=np.float32)}
    with pytest.raises(ConfigError, match="flat: training labels hold one class"):
        ClassificationTask(LinearProbe(), NearestNeighbours()).run(data, vectors)


def retrieval(text: np.ndarray, signal: np.ndarray, labels: np.ndarray) -> TaskResult:
    data = Dataset("pairs", "1", "here", {"text": part(labels, "text"), "signal": part(labels, "signal")})
    return CrossModalTask().run(data, {"text": unit(text), "signal": unit(signal)})


def test_retrieval_equals_pytrec_eval_in_both_directions() -> None:
    generator = np.random.default_rng(3)
    signal = unit(generator.standard_normal((300, 8)))
    text = unit(signal + 0.6 * unit(generator.standard_normal((300, 8))))
    labels = np.array([f"caption {number // 2}" for number in range(300)])  # every caption occurs twice
    result = retrieval(text, signal, labels)
    for direction, queries, answers in (("text_to_signal", text, signal), ("signal_to_text", signal, text)):
        relevant = {str(q): {str(a): 1 for a in np.flatnonzero(labels == labels[q])} for q in range(300)}
        ranking = {
            str(q): {str(a): float(score) for a, score in enumerate(queries[q] @ answers.T)} for q in range(300)
        }
        judged = pytrec_eval.RelevanceEvaluator(relevant, {"recip_rank", "success.1,5,10"}).evaluate(ranking)
        for cutoff in (1, 5, 10):
            expected = np.mean([scores[f"success_{cutoff}"] for scores in judged.values()])
            assert result.metrics[f"{direction}_r{cutoff}"] == pytest.approx(expected, abs=1e-6)
        expected = np.mean([scores["recip_rank"] for scores in judged.values()])
        assert result.metrics[f"{direction}_mrr"] == pytest.approx(expected, abs=1e-6)


def test_ranks_of_a_case_done_by_hand() -> None:
    answers = np.eye(3, dtype=np.float32)
    queries = unit(np.array([[3.0, 2, 1], [3, 1, 2], [1, 3, 2]]))
    labels = np.array(["x", "y", "z"])
    assert first_ranks(queries, answers, labels, labels).tolist() == [1, 3, 2]
    result = retrieval(queries, answers, labels)
    assert result.metrics["text_to_signal_r1"] == pytest.approx(1 / 3)
    assert result.metrics["text_to_signal_mrr"] == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    assert result.metrics["text_to_signal_median_rank"] == 2


def test_an_encoder_that_maps_everything_to_one_point_finds_nothing() -> None:
    same = np.ones((20, 4))
    result = retrieval(same, same, np.array([f"caption {number}" for number in range(20)]))
    assert result.metrics["text_to_signal_r10"] == 0
    assert result.metrics["signal_to_text_median_rank"] == 20


def graded(generator: np.random.Generator, rows: int) -> tuple[Dataset, dict[str, np.ndarray]]:
    """Pairs with three attributes of two values each, and vectors that follow them loosely."""
    attributes = generator.choice(["x", "y"], (rows, 3))
    signal = unit((attributes == "x") + 0.3 * generator.standard_normal((rows, 3)))
    text = unit(signal + 0.5 * generator.standard_normal((rows, 3)))
    labels = np.array([f"caption {number}" for number in range(rows)])
    parts = {kind: Part(part(labels, kind).items, labels, attributes) for kind in ("text", "signal")}
    return Dataset("pairs", "1", "here", parts), {"text": text, "signal": signal}


def test_graded_relevance_counts_near_misses() -> None:
    """Discounted gain from its definition, by hand."""
    data, vectors = graded(np.random.default_rng(5), 300)
    result = CrossModalTask().run(data, vectors)
    attributes = data.parts["text"].attributes
    assert attributes is not None
    grades = np.array([[(one == other).mean() for other in attributes] for one in attributes])
    order = (-vectors["text"] @ vectors["signal"].T).argsort(axis=1)[:, :10]
    discounts = 1 / np.log2(np.arange(2, 12))
    best = -np.sort(-grades, axis=1)[:, :10] @ discounts
    expected = (np.take_along_axis(grades, order, axis=1) @ discounts / best).mean()
    assert result.metrics["text_to_signal_ndcg10"] == pytest.approx(expected)
    assert result.metrics["text_to_signal_ndcg10"] > result.chance["text_to_signal_ndcg10_chance"]


def test_a_small_pool_is_a_piece_of_the_whole() -> None:
    data, vectors = graded(np.random.default_rng(6), 250)
    result = CrossModalTask().run(data, vectors)
    labels = data.parts["text"].labels
    pieces = [slice(0, 100), slice(100, 200)]
    ranks = [first_ranks(vectors["text"][p], vectors["signal"][p], labels[p], labels[p]) for p in pieces]
    assert result.metrics["text_to_signal_pool_100_r5"] == (np.concatenate(ranks) <= 5).mean()
    assert "text_to_signal_pool_100_r5" not in CrossModalTask().run(*graded(np.random.default_rng(6), 100)).metrics


def test_a_caption_of_several_series_finds_any_of_them() -> None:
    texts, signals = np.array(["rises", "dips"]), np.array(["dips\nrises", "falls", "rises"])
    answers = np.eye(3, dtype=np.float32)
    queries = unit(np.array([[1.0, 2, 3], [1, 3, 2]]))
    assert first_ranks(queries, answers, texts, signals).tolist() == [1, 3]
    assert first_ranks(answers, queries, signals, texts).tolist() == [1, 3, 1]


def paired_levels(text: list[list[float]], signal: list[list[float]]) -> TaskResult:
    labels = np.array([f"caption {number}" for number in range(len(text))])
    data = Dataset("levels", "1", "here", {"text": part(labels, "text"), "signal": part(labels, "signal")})
    return LevelTask().run(data, {"text": unit(np.array(text)), "signal": unit(np.array(signal))})


def test_each_side_of_a_level_pair_chooses_within_its_pair() -> None:
    result = paired_levels([[2.0, 1], [3, 1], [1, 2], [1, 3]], [[1.0, 0], [0, 1], [0, 1], [1, 0]])
    assert result.metrics == {
        "text_to_signal_accuracy": 0.5,
        "signal_to_text_accuracy": 0.0,
        "accuracy": 0.25,
    }
    assert result.examples[0].predicted == ["own", "other", "own", "other"]


def test_an_encoder_that_sees_no_level_is_right_half_of_the_time() -> None:
    blind = paired_levels([[1.0, 2], [2, 1]], [[1.0, 1], [1, 1]])
    assert blind.metrics["text_to_signal_accuracy"] == 0.5
    assert blind.examples[0].predicted == ["tie", "tie"]


def test_spearman_is_scipys_and_the_mean_of_its_shares() -> None:
    generator = np.random.default_rng(2)
    gold = generator.integers(0, 6, 300).astype(float)  # many ties, as in the benchmark
    similarity = gold + 2 * generator.standard_normal(300)
    shares = spearman_shares(similarity, gold)
    assert shares.mean() == pytest.approx(spearmanr(similarity, gold).statistic)
    assert spearman_shares(np.ones(300), gold).tolist() == [0] * 300


def test_the_spread_of_spearman_shares_is_that_of_the_correlation() -> None:
    generator = np.random.default_rng(3)
    gold = generator.integers(0, 21, 400) / 4
    similarity = gold + 1.5 * generator.standard_normal(400)
    resampled = [
        spearmanr(similarity[drawn], gold[drawn]).statistic for drawn in generator.integers(0, 400, (600, 400))
    ]
    assert spearman_shares(similarity, gold).std() / 20 == pytest.approx(np.std(resampled), rel=0.1)


def test_sentence_pairs_are_compared_by_cosine() -> None:
    gold = np.array(["0.0", "2.5", "5.0"])
    data = Dataset("pairs", "1", "here", {"first": part(gold, "first"), "second": part(gold, "second")})
    first, second = unit(np.ones((3, 2))), unit(np.array([[1.0, -1], [1, 0], [1, 1]]))
    result = StsTask().run(data, {"first": first, "second": second})
    assert result.metrics["spearman"] == pytest.approx(1)
    assert result.metrics["pearson"] == pytest.approx(np.corrcoef([0, 0.5**0.5, 1], [0, 2.5, 5])[0, 1])


def test_equal_gold_scores_cannot_be_correlated_with() -> None:
    same = part(np.array(["1", "1"]), "first")
    data = Dataset("flat", "1", "here", {"first": same, "second": same})
    with pytest.raises(ConfigError, match="all gold scores are equal"):
        StsTask().run(data, {})


def test_a_signal_goes_to_the_nearest_mean_of_a_classes_sentences() -> None:
    words, labels = np.array(["up", "up", "down", "down"]), np.array(["up", "up", "down"])
    sentences = unit(np.array([[1.0, 1], [1, -1], [0, 1], [0, 1]]))  # the two for "up" meet at (1, 0)
    signals = unit(np.array([[3.0, 1], [1, 3], [0, 1]]))
    data = Dataset("moves", "1", "here", {"class": part(words, "class"), "test": part(labels, "test")})
    result = ZeroShotTask(("{}", "a {}")).run(data, {"class": sentences, "test": signals})
    assert result.examples[0].predicted == ["up", "down", "down"]
    assert result.metrics == pytest.approx({"accuracy": 2 / 3, "macro_f1": 2 / 3})
    assert result.chance["chance_accuracy"] == pytest.approx(5 / 9)


def test_ranks_errors_and_losses_are_better_when_lower() -> None:
    assert lower_is_better("pairs/cross_modal/text_to_signal_median_rank")
    assert lower_is_better("pairs/cross_modal/text_to_signal_median_rank_256d")
    assert lower_is_better("mean/regression/mae")
    assert lower_is_better("mean/classification/linear_probe_log_loss")
    assert not lower_is_better("pairs/cross_modal/text_to_signal_mrr")
