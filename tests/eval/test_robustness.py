"""Perturbed copies of signals: what was done to them, and what classification keeps of its accuracy."""

import numpy as np
import pytest

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.entries import source_of, task_of
from lakebed.eval.perturbations import Perturbation, perturbations
from lakebed.eval.tasks.classification import ClassificationTask
from lakebed.eval.tasks.matryoshka import MatryoshkaTask
from lakebed.platform.config.entries.classification import LinearProbe, NearestNeighbours
from lakebed.platform.config.entries.matryoshka import Matryoshka
from lakebed.platform.config.entries.robustness import Robustness
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import FloatArray, Item

ALL = Robustness(task="robustness", source="bundled", names=("BasicMotions",), examples=10)
WAVES = Item.of(series=np.sin(np.arange(4000) / np.array([[40.0], [90.0]])), sampling_rate=50.0)


def named(name: str) -> Perturbation:
    return next(one for one in perturbations(ALL) if one.name == name)


def changed(name: str, item: Item = WAVES, seed: int = 1) -> FloatArray:
    series = named(name).of(item, seed).series
    assert series is not None
    return series


@pytest.mark.parametrize("decibels", [20, 10, 0])
def test_noise_has_the_power_that_its_ratio_says(decibels: int) -> None:
    assert WAVES.series is not None
    noise = changed(f"noise_{decibels}db") - WAVES.series
    ratio = 10 * np.log10(WAVES.series.var(axis=1) / noise.var(axis=1))
    assert ratio == pytest.approx([decibels, decibels], abs=0.3)


def test_lost_samples_lie_on_lines_between_those_that_are_left() -> None:
    assert WAVES.series is not None
    series = changed("missing_50pct")
    length = series.shape[1]  # lost in all channels at the end, samples are cut off
    assert 3980 < length <= 4000
    kept = series == WAVES.series[:, :length]
    assert kept.mean() == pytest.approx(0.5, abs=0.03)
    places = np.arange(length)
    for channel, here in zip(series, kept, strict=True):
        assert np.allclose(channel, np.interp(places, places[here], channel[here]))


def test_a_slow_wave_survives_another_rate_and_a_fast_one_does_not_alias() -> None:
    assert WAVES.series is not None
    half = named("resampled_0.5x").of(WAVES, 1)
    assert half.series is not None
    assert half.sampling_rate == 25
    assert np.abs(half.series[:, 50:-50] - WAVES.series[:, ::2][:, 50:-50]).max() < 0.01
    assert changed("resampled_2x").shape == (2, 8000)
    fast = Item.of(series=np.cos(np.pi * 0.9 * np.arange(1000)))
    assert np.abs(changed("resampled_0.5x", fast)[:, 50:-50]).max() < 0.1


def test_channels_gain_and_offset_are_changed_as_they_say() -> None:
    assert WAVES.series is not None
    assert np.array_equal(changed("permuted"), WAVES.series[::-1])
    assert np.array_equal(changed("gain_2x"), 2 * WAVES.series)
    shift = changed("offset_1sd") - WAVES.series
    assert np.allclose(shift, WAVES.series.std(axis=1, keepdims=True))


def test_texts_are_mistyped_within_words_and_put_in_capitals() -> None:
    text = Item.of(text="the pump of line 7 vibrates above its limit " * 20)
    assert text.text is not None
    mistyped = named("typos_5pct").of(text, 1).text
    assert mistyped is not None
    assert sorted(mistyped) == sorted(text.text)
    assert [len(word) for word in mistyped.split()] == [len(word) for word in text.text.split()]
    others = sum(one != other for one, other in zip(mistyped, text.text, strict=True)) / len(text.text)
    assert 0.03 < others < 0.12
    assert named("upper_case").of(text, 1).text == text.text.upper()
    assert [one.name for one in perturbations(ALL) if one.applies_to(text)] == ["typos_5pct", "upper_case"]
    assert not named("typos_5pct").applies_to(WAVES)


def test_a_series_is_perturbed_alike_whatever_is_around_it() -> None:
    data = next(source_of(ALL).load(3))
    clean, copies = data.parts["test"].items, data.parts["test~noise_10db"].items
    alone = [named("noise_10db").of(item, ALL.seed).content_key() for item in clean]
    assert alone == [item.content_key() for item in copies]
    assert np.array_equal(changed("noise_10db", seed=4), changed("noise_10db", seed=4))
    assert not np.array_equal(changed("noise_10db", seed=4), changed("noise_10db", seed=5))


def test_copies_are_parts_of_the_data_set_in_the_order_of_the_clean_ones() -> None:
    (data,) = source_of(ALL).load()
    assert source_of(ALL).names() == [data.name] == ["BasicMotions-perturbed"]
    copies = [name for name in data.parts if name.startswith("test~")]
    assert len(copies) == 10
    assert all((data.parts[name].labels == data.parts["test"].labels).all() for name in copies)
    univariate = ALL.model_copy(update={"names": ("GunPoint",)})
    (single,) = source_of(univariate).load(4)
    assert "test~permuted" not in single.parts


def on_a_line(values: list[float]) -> np.ndarray:
    """Unit vectors at these angles."""
    return np.stack([np.cos(values), np.sin(values)], axis=1).astype(np.float32)


def measured_by_hand() -> tuple[Dataset, dict[str, np.ndarray]]:
    """Two classes at angles 0 and 1; of four test examples, copies move none, one, and three across."""
    labels = np.array(["a", "a", "b", "b"])
    items = [Item.of(series=[float(number), 0.0]) for number in range(4)]
    names = ("train", "test", "test~gain_2x", "test~noise_0db")
    data = Dataset("lines", "1", "here", {name: Part(items, labels) for name in names})
    angles = ([0, 0.1, 1, 1.1], [0.05, 0.05, 1, 1], [0.05, 0.9, 1, 1], [0.9, 0.9, 0.1, 1])
    return data, {name: on_a_line(one) for name, one in zip(names, angles, strict=True)}


def test_accuracy_delta_and_retention_of_a_case_done_by_hand() -> None:
    result = task_of(ALL).run(*measured_by_hand())
    for head in ("linear_probe", "knn"):
        assert result.metrics[f"{head}_accuracy"] == 1
        assert result.metrics[f"{head}_accuracy_gain_2x"] == 0.75
        assert result.metrics[f"{head}_delta_noise_0db"] == -0.75
        assert result.metrics[f"{head}_perturbed_accuracy"] == 0.5
        assert result.metrics[f"{head}_retention"] == 0.5
    shares = next(one for one in result.examples if one.metric == "knn_perturbed_accuracy")
    assert shares.scores.tolist() == [0.5, 0, 0.5, 1]
    for one in result.examples:
        assert one.scores.mean() == pytest.approx(result.metrics[one.metric])


def test_signals_that_nothing_applies_to_are_an_error() -> None:
    data, vectors = measured_by_hand()
    bare = Dataset("lines", "1", "here", {name: data.parts[name] for name in ("train", "test")})
    with pytest.raises(ConfigError, match="none of the perturbations applies to it"):
        task_of(ALL).run(bare, vectors)


def test_a_share_beyond_one_cannot_be_lost() -> None:
    with pytest.raises(ConfigError, match="shares must lie between 0 and 1"):
        Robustness.parse({"task": "robustness", "source": "bundled", "missing": [1.0]}, where="suite")


def test_the_curve_is_classification_of_cut_vectors() -> None:
    generator = np.random.default_rng(0)
    labels = generator.choice(["a", "b", "c"], 90)
    vectors = (
        generator.standard_normal((90, 48)) + 1.2 * np.eye(48)[np.unique(labels, return_inverse=True)[1] + 20]
    )
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    items = [Item.of(text=f"item {number}") for number in range(90)]
    halves = {"train": slice(0, 60), "test": slice(60, 90)}
    data = Dataset("cut", "1", "here", {name: Part(items[at], labels[at]) for name, at in halves.items()})
    parts = {name: vectors[at] for name, at in halves.items()}
    task = task_of(Matryoshka(task="matryoshka", source="bundled", lengths=(32, 8, 64)))
    result = task.run(data, parts)
    plain = ClassificationTask(LinearProbe(), NearestNeighbours())
    curve = []
    for length in (8, 32, 48):  # 64 is more than there are
        cut = {
            name: part[:, :length] / np.linalg.norm(part[:, :length], axis=1)[:, None]
            for name, part in parts.items()
        }
        expected = plain.run(data, cut).metrics["knn_accuracy"]
        metric = f"knn_accuracy_{length}d" if length < 48 else "knn_accuracy"
        curve.append(result.metrics[metric])
        assert curve[-1] == pytest.approx(expected)
    for length, kept in zip((8, 32), curve, strict=False):
        assert result.metrics[f"knn_retention_{length}d"] == pytest.approx(kept / curve[2])
    assert curve[0] < curve[2]
    assert result.metrics["knn_over_lengths"] == pytest.approx(np.mean(curve))
    assert not any("64d" in metric for metric in result.metrics)
    assert isinstance(task, MatryoshkaTask)
    assert all(one.scores.mean() == pytest.approx(result.metrics[one.metric]) for one in result.examples)
