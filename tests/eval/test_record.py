"""A suite on the fake encoder, logged to a real MLflow."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

from lakebed.eval.catalogue import find_suite, shipped_suites
from lakebed.eval.record import EXPERIMENT, Recorded, evaluate_and_record
from lakebed.eval.run import EXAMPLE_SCHEMA, evaluate
from lakebed.eval.subject import Subject, resolve_subject
from lakebed.platform.config.suite import Suite
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.platform.errors import ConfigError, DatasetNotFoundError, LakebedError
from lakebed.platform.registry import Registry
from lakebed.platform.tracking import Tracking

SUITE = Suite.parse(
    {
        "name": "tiny",
        "description": "two bundled sets and a small pool",
        "entries": [
            {"task": "classification", "source": "bundled", "names": ["GunPoint", "BasicMotions"]},
            {"task": "cross_modal", "pool": 30},
        ],
    },
    where="test",
)


@pytest.fixture
def tracking(mlflow_database: str) -> Tracking:
    return Tracking(mlflow_database)


@pytest.fixture
def registry(mlflow_database: str) -> Registry:
    return Registry(mlflow_database)


def recorded(subject: Subject, tracking: Tracking, registry: Registry, suite: Suite = SUITE) -> Recorded:
    return evaluate_and_record(subject, suite, label=suite.name, tracking=tracking, registry=registry)


def test_every_shipped_suite_parses_and_is_named_like_its_file() -> None:
    assert set(shipped_suites()) >= {"smoke", "classification", "cross_modal"}
    for name in shipped_suites():
        assert find_suite(name).name == name


def test_figures_have_a_key_per_data_set_task_and_metric_and_a_mean() -> None:
    figures = evaluate(FakeEncoder(16), SUITE).figures()
    assert {
        "GunPoint/classification/linear_probe_accuracy",
        "BasicMotions/classification/knn_macro_f1",
        "synthetic-30/cross_modal/text_to_signal_r10",
        "mean/classification/linear_probe_accuracy",
        "mean/cross_modal/signal_to_text_median_rank",
        "cost/embed/rows_per_second",
    } <= set(figures)
    each = [figures[f"{name}/classification/knn_accuracy"] for name in ("GunPoint", "BasicMotions")]
    assert figures["mean/classification/knn_accuracy"] == pytest.approx(sum(each) / 2)
    assert all(re.fullmatch(r"[\w.-]+/[\w-]+/[\w-]+", key) for key in figures)


class Counting(FakeEncoder):
    """Counts the vectors it makes."""

    made = 0

    def forward(self, work: Prepared) -> VectorArray:
        type(self).made += len(work)
        return super().forward(work)


def test_scores_of_texts_show_the_texts() -> None:
    entry = {"task": "cross_modal", "pool": 20}
    suite = Suite.parse({"name": "texts", "description": "x", "entries": [entry]}, where="test")
    rows = evaluate(FakeEncoder(16), suite).examples().to_pylist()
    asked = {row["text"] for row in rows if row["metric"].startswith("text_to_signal")}
    assert len(asked) > 10
    assert all(0 < len(text) <= 200 for text in asked)
    assert {row["text"] for row in rows if row["metric"].startswith("signal_to_text")} == {None}


def test_shorter_vectors_are_figures_of_the_same_embedding_pass() -> None:
    entry = {"task": "classification", "source": "bundled", "names": ["BasicMotions"], "dimensions": [4, 16]}
    suite = Suite.parse({"name": "cut", "description": "x", "entries": [entry]}, where="test")
    done = evaluate(Counting(16), suite)
    cut = evaluate(FakeEncoder(16), suite.model_copy(update={"dimensions": 4}))
    figures, metric = done.figures(), "classification/linear_probe_accuracy"
    assert Counting.made == done.rows
    assert figures[f"mean/{metric}_4d"] == figures[f"BasicMotions/{metric}_4d"] == cut.figures()[f"mean/{metric}"]
    assert f"mean/{metric}_16d" not in figures
    assert done.notes == ("vectors have 16 dimensions: no figures at 16",)
    by_example = {"linear_probe_accuracy", "knn_accuracy", "linear_probe_log_loss"}
    assert set(done.examples().column("metric").to_pylist()) == by_example
    assert not any(key.endswith("_4d") for key in done.headlines())


def test_a_folder_of_sets_has_a_mean_of_each_half(tmp_path: Path) -> None:
    header = "@problemName x\n@timeStamps false\n@univariate true\n@classLabel true a b\n@data\n"
    halves: dict[str, list[str]] = {"even": [], "odd": []}
    for name in ("Ant", "Bee", "Cat", "Dog", "Elk"):
        (tmp_path / name).mkdir()
        for split in ("TRAIN", "TEST"):
            (tmp_path / name / f"{name}_{split}.ts").write_text(
                f"{header}1,2,3:a\n4,5,{ord(name[0])}:b\n3,1,2:a\n"
            )
        halves["odd" if int(sha256(name.encode()).hexdigest()[:2], 16) % 2 else "even"].append(name)
    figures = evaluate(FakeEncoder(300), find_suite("classification").with_options(data=tmp_path)).figures()
    assert all(halves.values())
    for half, members in halves.items():
        each = [figures[f"{name}/classification/knn_accuracy_256d"] for name in members]
        assert figures[f"mean_{half}/classification/knn_accuracy_256d"] == pytest.approx(sum(each) / len(each))


def test_the_same_model_and_suite_give_the_same_scores() -> None:
    first, second = (evaluate(FakeEncoder(16), SUITE) for _ in range(2))
    assert first.means() == second.means()
    assert first.examples().equals(second.examples())


def test_a_run_holds_parameters_scores_data_sets_examples_and_pictures(
    tracking: Tracking, registry: Registry
) -> None:
    subject = resolve_subject("fake:16", registry)
    done = recorded(subject, tracking, registry)
    run = tracking.latest(EXPERIMENT, subject.tags)
    assert run is not None
    assert run.id == done.run_id
    assert run.params["model.digest"] == subject.digest
    assert run.params["data.GunPoint"] == done.evaluation.measured[0].data.digest
    assert '"C": 1.0' in run.params["task.classification"]
    figures = done.evaluation.figures()
    assert {key: run.metrics[key] for key in figures} == pytest.approx(figures)
    examples = tracking.table(run.id, "scores.parquet")
    assert examples.schema.names == EXAMPLE_SCHEMA.names
    assert examples.num_rows == 3 * (150 + 40) + 2 * 5 * 30
    client = tracking._store.client
    pictures = [file.path for file in client.list_artifacts(run.id, "figures")]
    assert pictures == ["figures/confusion.png", "figures/projection.png", "figures/recall.png"]
    inputs = client.get_run(run.id).inputs.dataset_inputs
    assert {one.dataset.name for one in inputs} == {"GunPoint", "BasicMotions", "synthetic-30"}


def test_what_is_missing_is_said_before_a_run_is_begun(tracking: Tracking, registry: Registry) -> None:
    subject = resolve_subject("fake:16", registry)
    with pytest.raises(DatasetNotFoundError, match="no data set 'Nope'"):
        recorded(subject, tracking, registry, SUITE.with_options(names=("Nope",)))
    with pytest.raises(ConfigError, match="between 1 and 16"):
        recorded(subject, tracking, registry, SUITE.with_options(dimensions=17))
    assert tracking._store.client.get_experiment_by_name(EXPERIMENT) is None


class Broken(FakeEncoder):
    """Gives a vector that is no number."""

    def forward(self, work: Prepared) -> VectorArray:
        vectors = super().forward(work)
        vectors[0, 0] = float("nan")
        return vectors


def test_vectors_that_are_no_numbers_stop_the_evaluation() -> None:
    with pytest.raises(LakebedError, match=r"data set GunPoint: fake gave \d+ vectors that are not finite"):
        evaluate(Broken(16), SUITE)


def test_the_packaged_models_scores_reach_its_version(
    tracking: Tracking, registry: Registry, tmp_path: Path
) -> None:
    from lakebed.platform.encoder.load import packaged_model

    with tracking.run("training", "train") as training:
        version = registry.register(packaged_model(), "mine", run_id=training.id)
    subject = resolve_subject(version.reference, registry)
    suite = SUITE.with_options(names=("BasicMotions",))
    done = recorded(subject, tracking, registry, suite)
    headlines = done.evaluation.headlines()
    tags = registry.version("mine", "1").tags
    assert {key: tags[f"tiny/{key}"] for key in headlines} == {k: f"{v:.4f}" for k, v in headlines.items()}
    source = tracking.latest("training", {})
    assert source is not None
    assert source.metrics == pytest.approx({f"tiny/{key}": value for key, value in headlines.items()})
    cut = resolve_subject("mine@1#8", registry)
    recorded(cut, tracking, registry, suite.with_options(dimensions=8))
    tags = registry.version("mine", "1").tags
    assert {f"tiny/{key}" for key in headlines} | {f"tiny:8/{key}" for key in headlines} == {
        key for key in tags if "/mean/" in key
    }
    assert done.evaluation.headlines()["mean/classification/linear_probe_accuracy"] >= 0.9
