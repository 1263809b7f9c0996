"""`lakebed eval`, `compare`, `models`, `register` and `promote` as a user runs them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from lakebed.cli import console
from lakebed.cli.app import main
from lakebed.platform.encoder.artifact import write_artifact
from lakebed.platform.encoder.load import packaged_model
from lakebed.platform.registry import Registry

HERE = str(Path(__file__).parent)


class Command:
    """Runs `lakebed …` in this process and keeps what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        """Return the exit code."""
        self._monkeypatch.setattr(sys, "argv", ["lakebed", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        self.out, self.err = self._capfd.readouterr()
        return int(ended.value.code or 0)


@pytest.fixture
def lakebed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mlflow_database: str) -> Command:
    monkeypatch.setenv("LAKEBED_TRACKING_URI", mlflow_database)
    monkeypatch.setattr(console.out, "width", 200)  # it may have been told another as it was made
    return Command(monkeypatch, capfd)


@pytest.fixture
def suite(tmp_path: Path) -> str:
    """Write a user's own small suite file."""
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\ndescription: mine\nentries:\n"
        "  - {task: classification, source: bundled, names: [GunPoint, BasicMotions]}\n"
        "  - {task: cross_modal, pool: 20}\n"
    )
    return str(path)


def test_eval_prints_scores_and_writes_flat_numbers(lakebed: Command, suite: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    assert lakebed("eval", "--model", "fake:16", "--suite", suite, "--json", str(file)) == 0
    figures = json.loads(file.read_text())
    shown = f"{figures['mean/classification/knn_accuracy']:.4f}"
    assert shown in lakebed.out
    assert "[1/3] GunPoint" in lakebed.err
    assert set(figures.pop("machine")) >= {"processor", "cores", "commit"}
    assert all(isinstance(value, float) for value in figures.values())


def test_two_lengths_are_evaluated_and_compared(lakebed: Command, suite: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    assert lakebed("eval", "--model", "fake:16", "--suite", suite) == 0
    assert lakebed("eval", "--model", "fake:16", "--suite", suite, "--dimensions", "4") == 0
    assert lakebed("compare", "fake:16#4", "fake:16", "--json", str(file)) == 0
    figures = json.loads(file.read_text())
    key = "mean/classification/linear_probe_accuracy"
    assert figures[f"{key}/delta"] == pytest.approx(figures[f"{key}/b"] - figures[f"{key}/a"])
    assert f"{figures[f'{key}/delta']:+.4f}" in lakebed.out
    assert "B won" in lakebed.out


def test_a_version_is_registered_listed_and_promoted(lakebed: Command, tmp_path: Path) -> None:
    write_artifact(tmp_path / "model", {"name": "tiny"}, {"weight": np.ones(2, np.float32)}, "# Tiny\n")
    assert lakebed("register", str(tmp_path / "model"), "--alias", "candidate") == 0
    assert "tiny@1" in lakebed.out
    assert lakebed("promote", "tiny@candidate") == 0
    assert "tiny@1 is the champion: no champion yet" in lakebed.out
    assert lakebed("promote", "tiny@1") == 0
    assert "already" in lakebed.out
    assert lakebed("models", "tiny") == 0
    assert "tiny@1" in lakebed.out
    assert "champion" in lakebed.out
    assert "candidate" in lakebed.out


def test_scores_from_before_a_model_was_registered_are_its_own(
    lakebed: Command, suite: str, mlflow_database: str
) -> None:
    assert lakebed("eval", "--suite", suite, "--only", "BasicMotions", "--limit", "10") == 0
    assert "lakebed register lakebed-embed" in lakebed.err
    assert lakebed("register", "lakebed-embed") == 0
    assert Registry(mlflow_database).version("lakebed-embed").tags == {}  # that was not the whole suite
    assert lakebed("eval", "--model", str(packaged_model()), "--suite", suite) == 0
    scores = Registry(mlflow_database).version("lakebed-embed").tags
    assert lakebed("register", "lakebed-embed", "--name", "again") == 0
    assert Registry(mlflow_database).version("again").tags == scores
    assert "own/mean/classification/linear_probe_accuracy" in scores


def test_the_better_length_wins_on_a_server_too(
    lakebed: Command, suite: str, mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEBED_TRACKING_URI", mlflow_server)
    name = f"server-{tmp_path.name}"
    assert lakebed("register", "lakebed-embed", "--name", name) == 0
    for model in (f"{name}@1#2", f"{name}@1"):
        assert lakebed("eval", "--model", model, "--suite", suite) == 0
        assert "View run" not in lakebed.out  # MLflow's own advertisement, among the results
    assert lakebed("compare", f"{name}@1#2", f"{name}@1", "--suite", "own") == 0
    assert "B won 2, tied 0, lost 0" in lakebed.out
    assert lakebed("models", name) == 0
    assert "linear_probe_accuracy (own:2)" in lakebed.out
    assert "linear_probe_accuracy (own)" in lakebed.out


def test_a_version_without_scores_is_promoted_only_by_force(lakebed: Command, tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        folder = tmp_path / str(value)
        write_artifact(folder, {"name": "tiny"}, {"weight": np.full(2, value, np.float32)}, "# Tiny\n")
        assert lakebed("register", str(folder)) == 0
    assert lakebed("promote", "tiny@1") == 0
    assert lakebed("promote", "tiny@2") == 3
    assert "tiny@1 was not evaluated yet" in lakebed.err
    assert lakebed("promote", "tiny@2", "--force") == 0
    assert lakebed("models", "tiny") == 0
    assert lakebed.out.index("tiny@2") < lakebed.out.index("champion")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("eval", "--suite", "nope"), 3, "no suite named 'nope'"),
        (("eval", "--suite", "./nope.yaml"), 2, "no such file"),
        (("eval", "--model", "nope"), 3, "no model named 'nope'"),
        (("eval", "--model", "./nope"), 3, "no such model directory"),
        (("eval", "--model", "fake", "--suite", "classification"), 2, "--data DIR"),
        (("eval", "--model", "fake", "--suite", "classification", "--data", "/nope"), 3, "no such folder"),
        (("eval", "--model", "fake", "--data", "/tmp"), 2, "reads no folder"),
        (("eval", "--model", "fake", "--suite", "sts"), 2, "--data DIR"),
        (("eval", "--model", "fake", "--suite", "sts", "--data", HERE), 3, "no sts-test.csv here"),
        (("eval", "--model", "fake", "--suite", "zero_shot", "--data", HERE), 3, "no class_names.json"),
        (("eval", "--model", "fake", "--suite", "cross_modal", "--data", HERE), 3, "no captioned series here"),
        (("eval", "--model", "fake", "--only", "Nope"), 3, "no data set 'Nope'"),
        (("eval", "--model", "fake", "--dimensions", "99"), 2, "between 1 and 32"),
        (("compare", "fake", "fake:8"), 3, "was not evaluated yet"),
        (("models", "nope"), 3, "no model named 'nope' is registered"),
        (("register", "/tmp"), 1, "no model here"),
        (("register", "fake"), 2, "only a model directory"),
        (("promote", "fake"), 2, "not registered"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    lakebed: Command, arguments: tuple[str, ...], code: int, message: str
) -> None:
    assert lakebed(*arguments) == code
    assert lakebed.err.startswith("error: ")
    assert message in lakebed.err
    assert len(lakebed.err.strip().splitlines()) == 1


def test_a_server_that_is_away_is_one_line(
    lakebed: Command, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEBED_TRACKING_URI", f"http://127.0.0.1:{free_port}")
    for arguments in (("eval",), ("models",), ("compare", "fake", "fake:8")):
        assert lakebed(*arguments) == 4
        assert "no MLflow server answers" in lakebed.err
        assert len(lakebed.err.strip().splitlines()) == 1


def test_a_wrong_field_of_a_suite_is_named(lakebed: Command, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\ndescription: x\nentries:\n  - {task: classification, sources: bundled}\n")
    assert lakebed("eval", "--model", "fake", "--suite", str(path)) == 2
    assert "sources: unknown field" in lakebed.err


def test_every_shipped_suite_is_named_in_the_help(lakebed: Command) -> None:
    from lakebed.eval.catalogue import shipped_suites

    assert lakebed("eval", "--help") == 0
    assert all(name in lakebed.out for name in shipped_suites())


def test_chance_stands_beside_a_score_and_what_was_left_out_is_said(lakebed: Command, tmp_path: Path) -> None:
    for split in ("TRAIN", "TEST"):
        path = tmp_path / "Hills" / f"Hills_{split}.ts"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "@problemName Hills\n@timeStamps false\n@classLabel true 1 2\n@data\n1,2:1\n2,1:2\n3,4:1\n"
        )
    names = {"names": {"1": "up", "2": "down"}}
    (tmp_path / "class_names.json").write_text(json.dumps({"Hills": names, "Absent": names}))
    assert lakebed("eval", "--model", "fake", "--suite", "zero_shot", "--data", str(tmp_path)) == 0
    assert "(0.5556)" in lakebed.out  # accuracy of guessing: 4/9 + 1/9
    assert "note: zero_shot: not there and left out: Absent" in lakebed.err


def test_the_packaged_model_keeps_the_text_quality_of_its_tower(lakebed: Command, tmp_path: Path) -> None:
    sentences = [
        ("5.0", "A man is playing a guitar.", "A man plays the guitar."),
        ("4.0", "A dog runs in the snow.", "A dog is running through snow."),
        ("1.0", "A man is playing a guitar.", "A woman is cutting onions."),
        ("0.0", "The stock market fell.", "A dog runs in the snow."),
    ]
    lines = [f"g\tf\ty\t{number}\t{score}\t{a}\t{b}\n" for number, (score, a, b) in enumerate(sentences)]
    (tmp_path / "sts-test.csv").write_text("".join(lines))
    file = tmp_path / "figures.json"
    assert lakebed("eval", "--suite", "sts", "--data", str(tmp_path), "--json", str(file)) == 0
    figures = json.loads(file.read_text())
    assert figures["mean/sts/spearman"] >= 0.7
    assert figures["mean/sts/spearman_256d"] >= 0.7
