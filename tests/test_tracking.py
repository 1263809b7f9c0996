"""Runs against a real SQLite MLflow and a real MLflow server."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from lakebed.platform.errors import ConfigError, UnreachableError
from lakebed.platform.tracking import DatasetRef, Tracking

DATA = DatasetRef("GunPoint", "0" * 32, "aeon://GunPoint", 150, "aeon-1.6.0")


@pytest.fixture(params=["mlflow_database", "mlflow_server"])
def tracking(request: pytest.FixtureRequest) -> Tracking:
    return Tracking(request.getfixturevalue(request.param))


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    """Return an experiment of this test's own, as one server serves them all."""
    return f"experiment {tmp_path.name}"


def status_of(tracking: Tracking, run_id: str) -> str:
    return str(tracking._store.client.get_run(run_id).info.status)


def test_what_a_run_logs_is_read_back(tracking: Tracking, experiment: str) -> None:
    scores = pa.table({"row": [0, 1], "score": [1.0, 0.0]})
    with tracking.run(experiment, "first", {"kind": "test"}) as run:
        run.params({"text": "as it is", "probe": {"C": 1.0}})
        run.metrics({"GunPoint/linear_probe/accuracy": 0.5})
        run.metrics({"GunPoint/linear_probe/accuracy": 0.75}, step=1, dataset=DATA)
        run.dataset(DATA, "evaluation")
        run.table(scores, "scores/scores.parquet")
        run.figure(Figure(), "figures/empty.png")
        run.text("{}", "summary.json")
    record = tracking.latest(experiment, {"kind": "test"})
    assert record is not None
    assert (record.id, record.name) == (run.id, "first")
    assert record.params == {"text": "as it is", "probe": '{"C": 1.0}'}
    assert record.metrics == {"GunPoint/linear_probe/accuracy": 0.75}
    assert tracking.table(run.id, "scores/scores.parquet").equals(scores)
    (logged,) = tracking._store.client.get_run(run.id).inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == (DATA.name, DATA.digest)


def test_more_values_than_one_request_takes_are_all_logged(tracking: Tracking, experiment: str) -> None:
    with tracking.run(experiment, "many", {"kind": "many"}) as run:
        run.params({f"p{number}": number for number in range(250)})
        run.metrics({f"m{number}": float(number) for number in range(1500)})
    record = tracking.latest(experiment, {"kind": "many"})
    assert record is not None
    assert (len(record.params), len(record.metrics)) == (250, 1500)


def fail(tracking: Tracking, experiment: str, error: BaseException) -> str:
    with tracking.run(experiment, "ends badly", {"kind": "bad"}) as run:
        run.metrics({"half": 0.5})
        raised = run.id
        raise error
    return raised


@pytest.mark.parametrize(("error", "status"), [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_run_that_ends_by_exception_is_not_finished(
    tracking: Tracking, experiment: str, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)):
        fail(tracking, experiment, error)
    assert tracking.latest(experiment, {"kind": "bad"}) is None
    (run,) = tracking._store.client.search_runs([tracking._store.experiment(experiment)], "tags.kind = 'bad'")
    assert status_of(tracking, run.info.run_id) == status


def test_a_number_that_is_none_is_refused(mlflow_database: str) -> None:
    tracking = Tracking(mlflow_database)
    with pytest.raises(ConfigError, match="'loss' is nan"), tracking.run("scores", "nan") as run:
        run.metrics({"loss": float("nan")})


def test_a_run_whose_process_was_killed_is_ended_as_failed_by_the_next(mlflow_database: str) -> None:
    code = (
        "import os, signal, sys\n"
        "from lakebed.platform.tracking import Tracking\n"
        f"with Tracking({mlflow_database!r}).run('scores', 'killed') as run:\n"
        "    print(run.id, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    tracking = Tracking(mlflow_database)
    assert status_of(tracking, killed.stdout.strip()) == "RUNNING"
    with tracking.run("scores", "next") as run:
        assert status_of(tracking, run.id) == "RUNNING"
    assert status_of(tracking, killed.stdout.strip()) == "FAILED"


def test_two_processes_may_make_the_database_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    code = (
        f"from lakebed.platform.tracking import Tracking\nwith Tracking({uri!r}).run('scores', 'one'):\n    pass\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    assert len(Tracking(uri).finished("scores", {})) == 2


def test_logging_leaves_the_current_folder_and_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    before = dict(os.environ)
    with Tracking(f"sqlite:///{tmp_path}/store/mlflow.db").run("scores", "one") as run:
        run.text("{}", "summary.json")
    assert list(here.iterdir()) == []
    assert {key for key in os.environ if "TRACKING_URI" in key} == {key for key in before if "TRACKING_URI" in key}


def test_a_server_that_is_away_is_one_clear_error(free_port: int) -> None:
    with (
        pytest.raises(UnreachableError, match="no MLflow server answers"),
        Tracking(f"http://127.0.0.1:{free_port}").run("scores", "never"),
    ):
        pass


def test_an_answer_that_is_not_mlflows_is_said_so(s3_endpoint: str) -> None:
    with pytest.raises(UnreachableError, match="not a healthy MLflow server"):
        Tracking(s3_endpoint).latest("scores", {})
