"""Anomalies by distance to normal windows: sources in their real forms, scores against aeon and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from aeon.benchmarking.metrics import anomaly_detection as judged_by_aeon

from lakebed.eval.datasets import Dataset
from lakebed.eval.entries import source_of, task_of
from lakebed.eval.monitored import Monitored, parts_of, scored, spread, truth_of
from lakebed.eval.tasks.anomaly import AnomalyTask
from lakebed.platform.config.entries.anomaly import Anomaly
from lakebed.platform.errors import ConfigError, DatasetNotFoundError
from lakebed.platform.synthesis import eventful_series

FEW = Anomaly(task="anomaly", series=2, samples=1024, window=32, stride=8)


def nab_folder(tmp_path: Path, windows: dict[str, list[list[str]]] | None = None, rows: int = 200) -> Anomaly:
    """Two categories of one series each, a minute a sample; one sample is missing."""
    (tmp_path / "labels").mkdir()
    for name in ("real/pump.csv", "made/fan.csv"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True)
        lines = [f"2014-01-01 {row // 60:02d}:{row % 60:02d}:00,{row if row != 7 else ''}" for row in range(rows)]
        path.write_text("\n".join(["timestamp,value", *lines]))
    labels = {"real/pump.csv": [["2014-01-01 02:00:00.000000", "2014-01-01 02:09:00.000000"]], "made/fan.csv": []}
    (tmp_path / "labels" / "combined_windows.json").write_text(json.dumps(labels if windows is None else windows))
    return Anomaly(task="anomaly", source="folder", path=tmp_path, window=16, stride=8, head=0.25)


def noise(rows: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_windows_of_a_head_are_normal_and_the_rest_is_covered_to_its_end() -> None:
    truth = np.zeros(101, np.bool_)
    truth[[10, 60, 61]] = True
    parts = parts_of([Monitored("one", np.arange(101.0)[None], truth, 40)], 16, 8)
    assert parts["train"].attributes is not None
    assert parts["train"].attributes.tolist() == [["16", ""], ["24", ""]]
    rows = np.arange(len(parts["test"]))
    found = truth_of(parts["test"], rows, 16)
    assert found.tolist() == truth[101 - len(found) :].tolist()
    assert 40 <= 101 - len(found) < 48


def test_a_sample_has_the_mean_score_of_its_windows() -> None:
    assert spread(np.array([1.0, 3.0, 8.0]), 4, 2).tolist() == [1, 1, 2, 2, 5.5, 5.5, 8, 8]


def test_scores_are_aeons_on_the_distances_to_the_nearest_normal_windows() -> None:
    (data,) = source_of(FEW).load()
    vectors = {name: noise(len(part), seed) for seed, (name, part) in enumerate(data.parts.items())}
    task = AnomalyTask(window=32, stride=8, neighbours=2, buffer=6)
    result = task.run(data, vectors)
    train, test = data.parts["train"], data.parts["test"]
    pr_auc, volume_pr, _, volume_roc = (one.scores for one in result.examples)
    for name, pr, vus_pr, vus_roc in zip(result.examples[0].keys, pr_auc, volume_pr, volume_roc, strict=True):
        rows = np.flatnonzero(test.labels == name)
        cosines = vectors["test"][rows].astype(float) @ vectors["train"][train.labels == name].T
        nearest = 1 - np.sort(cosines, axis=1)[:, -2:].mean(axis=1)
        held = [
            [row for row in range(len(rows)) if 8 * row <= at < 8 * row + 32] for at in range(8 * len(rows) + 24)
        ]
        samples = np.array([nearest[row].mean() for row in held])
        labels = truth_of(test, rows, 32).astype(int)
        assert pr == pytest.approx(judged_by_aeon.pr_auc_score(labels, samples), abs=1e-6)
        assert vus_pr == pytest.approx(judged_by_aeon.range_pr_vus_score(labels, samples, 6), abs=1e-6)
        assert vus_roc == pytest.approx(judged_by_aeon.range_roc_vus_score(labels, samples, 6), abs=1e-6)
    assert result.metrics["pr_auc"] == pytest.approx(result.examples[0].scores.mean())


def test_windows_far_from_normal_ones_are_found() -> None:
    (data,) = source_of(FEW).load()
    test = data.parts["test"]
    assert test.attributes is not None
    odd = test.attributes[:, 1] != ""
    vectors = {
        "train": np.tile(np.float32([1, 0]), (len(data.parts["train"]), 1)),
        "test": np.eye(2)[odd.astype(int)],
    }
    result = task_of(FEW).run(data, {name: part.astype(np.float32) for name, part in vectors.items()})
    assert result.metrics["roc_auc"] > 0.95
    assert result.metrics["vus_pr"] > 5 * result.chance["pr_auc_chance"]


def test_beside_chance_stands_what_the_nearest_raw_window_finds() -> None:
    truth = np.isin(np.arange(96), np.arange(60, 68))
    values = np.sin(np.arange(96))[None] + 9 * truth  # a jump that no raw window of the head has
    series = Monitored("jump", values, truth, 32)
    data = Dataset("jumps", "1", "here", parts_of([series], 8, 1))
    blind = {name: noise(len(part), 3) for name, part in data.parts.items()}
    result = AnomalyTask(window=8, stride=1, neighbours=1, buffer=2).run(data, blind)
    assert result.chance["pr_auc_raw"] > 0.9 > 3 * result.metrics["pr_auc"]
    assert result.chance["pr_auc_chance"] == pytest.approx(8 / 64)


def test_an_encoder_that_sees_no_difference_finds_nothing() -> None:
    (data,) = source_of(FEW).load()
    same = {name: np.ones((len(part), 4), np.float32) / 2 for name, part in data.parts.items()}
    assert set(task_of(FEW).run(data, same).metrics.values()) == {0.0}


def test_generated_events_lie_after_the_head_and_come_from_the_seed() -> None:
    drawn = eventful_series(4, seed=5, length=2048, head=0.25)
    again = eventful_series(4, seed=5, length=2048, head=0.25)
    for one, other in zip(drawn, again, strict=True):
        assert np.array_equal(one.series, other.series)
        assert len(one.stretches) == 3
        assert all(512 <= start < stop <= 2048 for start, stop in one.stretches)
    assert not np.array_equal(drawn[0].series, eventful_series(1, seed=6, length=2048, head=0.25)[0].series)


def test_a_folder_of_the_benchmark_is_read_by_category(tmp_path: Path) -> None:
    source = source_of(nab_folder(tmp_path))
    assert source.names() == ["real"]  # the other has nothing to find
    (data,) = source.load()
    truth = truth_of(data.parts["test"], np.arange(len(data.parts["test"])), 16)
    assert truth.sum() == 10
    assert data.filled == 1
    assert np.flatnonzero(truth)[0] == len(truth) - 80
    assert data.parts["train"].items[0].series is not None
    np.testing.assert_allclose(
        np.diff(data.parts["train"].items[0].series), np.diff(np.arange(16.0))[None] / 14.43, 1e-3
    )


def test_the_recording_that_aeon_carries_has_its_anomaly() -> None:
    (data,) = source_of(Anomaly(task="anomaly", source="bundled", stride=64)).load()
    assert data.rows > 90
    assert data.parts["test"].attributes is not None
    assert {text for text in data.parts["test"].attributes[:, 1] if text} == {"4187:4199"}


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"real/pump.csv": []}, "no series with labelled anomalies"),
        ({"real/pump.csv": [["soon", "later"]]}, "pump.csv: a timestamp cannot be read"),
    ],
)
def test_labels_that_cannot_be_used_are_named(
    tmp_path: Path, windows: dict[str, list[list[str]]], message: str
) -> None:
    with pytest.raises(DatasetNotFoundError, match=message):
        list(source_of(nab_folder(tmp_path, windows)).load())


def test_labelled_series_that_are_not_there_are_listed(tmp_path: Path) -> None:
    there = ["2014-01-01 02:00:00", "2014-01-01 02:09:00"]
    entry = nab_folder(tmp_path, {"real/pump.csv": [there], "real/gone.csv": [there]})
    assert source_of(entry).missing() == ["real/gone.csv"]


def test_a_head_without_a_normal_window_is_named(tmp_path: Path) -> None:
    entry = nab_folder(tmp_path).model_copy(update={"window": 64})
    with pytest.raises(DatasetNotFoundError, match="real/pump: no normal window of 64 samples in the first 50"):
        list(source_of(entry).load())


def test_a_stride_beyond_the_window_is_refused() -> None:
    with pytest.raises(ConfigError, match="samples between would have no score"):
        Anomaly.parse({"task": "anomaly", "window": 16, "stride": 17}, where="suite")


def test_a_series_without_anything_to_find_is_left_out() -> None:
    flat = Monitored("flat", np.zeros((1, 50)), np.zeros(50, np.bool_), 10)
    marked = Monitored("marked", np.zeros((1, 50)), np.arange(50) == 20, 10)
    assert scored(iter([flat, marked, marked]), 1) == [marked]
    assert isinstance(Dataset("one", "1", "here", parts_of([marked], 8, 4)).digest, str)
