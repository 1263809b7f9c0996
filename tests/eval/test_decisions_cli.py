"""`lakebed compare`, `promote`, `rollback`, `models --html` and `drift` as a user runs them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from tests.eval.test_cli import Command
from tests.eval.test_compare import log

from lakebed.cli import console
from lakebed.eval.promote import champion_of
from lakebed.eval.subject import resolve_subject
from lakebed.platform.encoder.artifact import write_artifact
from lakebed.platform.registry import Registry
from lakebed.platform.tracking import Tracking

MEAN = "mean/classification/knn_accuracy"


@pytest.fixture
def lakebed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mlflow_database: str) -> Command:
    monkeypatch.setenv("LAKEBED_TRACKING_URI", mlflow_database)
    monkeypatch.setattr(console.out, "width", 200)
    return Command(monkeypatch, capfd)


@pytest.fixture
def measured(lakebed: Command, mlflow_database: str, tmp_path: Path) -> Command:
    """Three versions, each surely better than the one before; the first is the champion."""
    registry, tracking = Registry(mlflow_database), Tracking(mlflow_database)
    for number, right in ((1, 20), (2, 40), (3, 60)):
        folder = tmp_path / str(number)
        write_artifact(folder, {"name": "tiny"}, {"weight": np.full(2, number, np.float32)}, "# Tiny\n")
        registry.register(folder, "tiny", alias="champion" if number == 1 else None)
        scores = [1.0] * right + [0.0] * (80 - right)
        log(tracking, resolve_subject(f"tiny@{number}", registry), {"D": scores, "E": scores[::2]})
    return lakebed


def test_two_are_compared_with_p_values_and_a_report(measured: Command, tmp_path: Path) -> None:
    page, figures = tmp_path / "report.html", tmp_path / "figures.json"
    assert measured("compare", "tiny@1", "tiny@2", "--html", str(page), "--json", str(figures)) == 0
    assert "B won 2, tied 0, lost 0" in measured.out
    assert "Wilcoxon p 0.500, Holm 0.500" in measured.out
    assert "MLflow run" in measured.err
    assert page.read_text().startswith("<!DOCTYPE html>")
    found = json.loads(figures.read_text())
    assert found["D/classification/knn_accuracy/p"] == pytest.approx(2 * 0.5**20)
    assert found[f"{MEAN}/p"] < 0.001


def test_three_are_ranked(measured: Command, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    assert measured("compare", "tiny@1", "tiny@2", "tiny@3", "--json", str(figures)) == 0
    assert "0.7500*" in measured.out
    assert "C - A" in measured.out
    found = json.loads(figures.read_text())
    assert (found[f"{MEAN}/a"], found[f"{MEAN}/c"], found[f"{MEAN}/c_rank"]) == (0.25, 0.75, 1.0)
    assert found[f"{MEAN}/a_c/delta"] == pytest.approx(0.5)
    assert found[f"{MEAN}/a_b/p_holm"] < 0.01


def test_a_version_is_promoted_and_rolled_back(measured: Command, mlflow_database: str) -> None:
    registry = Registry(mlflow_database)

    def champion() -> int:
        found = champion_of("tiny", registry)
        assert found is not None
        return found.version

    assert measured("promote", "tiny@2", "--dry-run") == 0
    assert ("tiny@2 would be the champion" in measured.out, champion()) == (True, 1)
    assert measured("promote", "tiny@2", "--margin", "0.9") == 1
    assert ("is not above 0.9" in measured.err, champion()) == (True, 1)
    assert measured("promote", "tiny@2", "--guard", "knn_macro_f1:0.01") == 0
    assert (champion(), "lakebed rollback tiny" in measured.err) == (2, True)
    assert len(registry.version("tiny", "2").tags["lakebed.promoted_by_run"]) == 32
    assert measured("promote", "tiny@1") == 1
    assert measured("rollback", "tiny", "--dry-run") == 0
    assert ("tiny@1 would be the champion again" in measured.out, champion()) == (True, 2)
    assert measured("rollback", "tiny", "--reason", "slow") == 0
    assert champion() == 1
    assert "slow" in registry.version("tiny", "2").tags["lakebed.rolled_back"]
    assert measured("rollback", "tiny") == 3


def test_versions_are_charted_against_the_champion(measured: Command, tmp_path: Path) -> None:
    page = tmp_path / "versions.html"
    assert measured("models", "tiny", "--suite", "tiny", "--html", str(page)) == 0
    assert "3 versions of tiny on tiny" in measured.out
    text = page.read_text()
    assert "+0.2500" in text
    assert "+0.5000" in text
    assert "reference" in text
    assert measured("models", "tiny", "--suite", "other", "--html", str(page)) == 3
    assert "no version of tiny was evaluated on suite other" in measured.err


def test_what_is_not_there_is_one_line(measured: Command) -> None:
    assert measured("compare", "tiny@1", "tiny@9") == 3
    assert "has no version 9" in measured.err
    assert measured("promote", "tiny@2", "--guard", "knn_accuracy:x") == 2
    assert measured("promote", "tiny@2", "--figure", "recall") == 3
    assert measured("rollback", "nobody") == 3


def test_drift_prints_fails_and_logs(lakebed: Command, tmp_path: Path) -> None:
    for shift in (0.0, 2.0):
        found = np.random.default_rng(int(shift)).standard_normal((100, 4)) + shift
        rows = pa.table({"id": list(range(100)), "embedding": pa.array(found.tolist(), pa.list_(pa.float32()))})
        write_deltalake(str(tmp_path / "t"), rows, mode="overwrite")
    command = ("drift", str(tmp_path / "t"), "--baseline", "0", "--key", "id", "--permutations", "200")
    assert lakebed(*command, "--json", str(tmp_path / "f.json")) == 0
    assert "0 added, 0 removed, 100 changed, 0 same" in lakebed.out
    assert "MLflow run" in lakebed.err
    assert json.loads((tmp_path / "f.json").read_text())["p"] < 0.05
    assert lakebed(*command, "--no-track", "--fail-below", "0.05") == 1
    assert "is below 0.05" in lakebed.err
    assert lakebed("drift", str(tmp_path / "t"), "--baseline", "7") == 3
