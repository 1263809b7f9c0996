"""`lakebed eval` without a server, once more on the same, and `lakebed eval sync` and `cache`."""

import shutil
from pathlib import Path

import pytest
from tests.eval.test_cli import Command

from lakebed.cli import console
from lakebed.eval.package import MANIFEST, Package
from lakebed.eval.record import EXPERIMENT, kept
from lakebed.platform.errors import ArtifactError
from lakebed.platform.tracking import Tracking


@pytest.fixture
def lakebed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mlflow_database: str) -> Command:
    monkeypatch.setenv("LAKEBED_TRACKING_URI", mlflow_database)
    monkeypatch.setattr(console.out, "width", 200)
    return Command(monkeypatch, capfd)


@pytest.fixture
def arguments(tmp_path: Path) -> tuple[str, ...]:
    """Measure the fake model by a suite of one small set."""
    path = tmp_path / "own.yaml"
    path.write_text("name: own\ndescription: mine\nentries: [{task: cross_modal, pool: 20}]\n")
    return ("eval", "--model", "fake:16", "--suite", str(path))


def test_the_same_again_is_recognised_and_logged_once(
    lakebed: Command, arguments: tuple[str, ...], mlflow_database: str
) -> None:
    assert lakebed(*arguments) == 0
    first = lakebed.out
    assert lakebed(*arguments) == 0
    runs = Tracking(mlflow_database).finished(EXPERIMENT, {})
    assert f"already measured in run {runs[0].id}" in lakebed.err
    assert lakebed.out == first
    assert len(runs) == 1
    assert lakebed(*arguments, "--again") == 0
    assert lakebed(*arguments, "--limit", "10") == 0
    assert len(Tracking(mlflow_database).finished(EXPERIMENT, {})) == 3


def test_what_no_server_took_is_uploaded_later_and_once(
    lakebed: Command,
    arguments: tuple[str, ...],
    mlflow_database: str,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LAKEBED_TRACKING_URI", f"http://127.0.0.1:{free_port}")
    assert lakebed(*arguments) == 9
    assert "`lakebed eval sync` uploads it" in lakebed.err
    assert "text_to_signal_r10" in lakebed.out
    assert lakebed("eval", "sync") == 4
    [folder] = kept().outbox.waiting()
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.setenv("LAKEBED_TRACKING_URI", mlflow_database)
    junk = folder.with_name("junk")
    junk.mkdir()
    (junk / MANIFEST).write_text("{}")
    assert lakebed("eval", "sync") == 1
    assert "junk: not a kept evaluation" in lakebed.err
    assert "fake:16 on own: MLflow run" in lakebed.out
    assert kept().outbox.waiting() == [junk]
    kept().outbox.remove(junk)
    shutil.copytree(tmp_path / "copy", folder)  # as if the process had been killed before it forgot the folder
    assert lakebed("eval", "sync") == 0
    tracking = Tracking(mlflow_database)
    [run] = tracking.finished(EXPERIMENT, {})
    assert set(tracking.artifacts(run.id)) == {"figures", "figures.json", "scores.parquet"}


def test_nothing_is_kept_of_a_model_whose_code_no_digest_covers(
    lakebed: Command, arguments: tuple[str, ...], mlflow_database: str
) -> None:
    for _ in range(2):
        assert lakebed("eval", "--model", "tests.eval.laned_encoder:Laned", *arguments[3:]) == 0
    assert len(Tracking(mlflow_database).finished(EXPERIMENT, {})) == 2
    assert all(files == 0 for files, _ in kept().sizes().values())


def test_workers_on_ray_print_what_this_process_prints(
    lakebed: Command, arguments: tuple[str, ...], ray_cluster: str
) -> None:
    assert lakebed(*arguments) == 0
    here = lakebed.out
    assert lakebed(*arguments, "--workers", "1", "--again", "--no-cache") == 0
    assert lakebed.out == here
    assert "MLflow run" in lakebed.err


def test_vectors_and_results_are_shown_and_cleared(lakebed: Command, arguments: tuple[str, ...]) -> None:
    assert lakebed(*arguments, "--no-cache") == 0
    assert lakebed("eval", "cache") == 0
    assert "vectors: 0 files" in lakebed.out
    assert lakebed(*arguments, "--again") == 0
    assert lakebed("eval", "cache", "--clear") == 0
    assert "results: 1 files" in lakebed.out
    assert all(files == 0 for files, _ in kept().sizes().values())


def test_a_folder_without_a_whole_manifest_is_no_evaluation(tmp_path: Path) -> None:
    for text in ("", "{}", '{"datasets": [], "metrics": []}'):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(ArtifactError, match="not a kept evaluation"):
            Package.read(tmp_path)
