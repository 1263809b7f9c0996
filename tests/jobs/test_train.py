"""Training: a seed makes a model, the same seed the same one, and nothing loads of a run that was stopped."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import yaml

from lakebed.jobs import alignment
from lakebed.jobs.projection import principal_rotation, within_class_whitening
from lakebed.jobs.train import train
from lakebed.platform.config.recipe import Recipe
from lakebed.platform.encoder.artifact import CARD, CONFIG, TENSORS, write_artifact
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.errors import ArtifactError, ConfigError
from lakebed.platform.items import items_of
from lakebed.platform.synthesis import captioned_series

TINY = Recipe(
    name="tiny", quantiles=(0.5,), corpus=250, views=2, bias_series=16, pairs=64, batch=32, hidden=16, epochs=1
)


def _silent(line):
    """Say nothing."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model trained in seconds."""
    folder = tmp_path_factory.mktemp("trained") / "tiny"
    return folder, train(TINY, folder, _silent)


def test_a_trained_model_embeds(tiny):
    folder, artifact = tiny
    encoder = resolve_model(str(folder)).load("cpu")
    assert (encoder.info.name, encoder.info.digest, encoder.info.dimensions) == ("tiny", artifact.digest, 768)
    vectors = encode(encoder, items_of(["words", np.arange(30.0)])).vectors
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_same_seed_makes_the_same_model_and_another_seed_another(tiny, tmp_path):
    _, artifact = tiny
    assert train(TINY, tmp_path / "same", _silent).digest == artifact.digest
    assert train(TINY.model_copy(update={"seed": 1}), tmp_path / "other", _silent).digest != artifact.digest


def test_the_card_says_what_the_model_was_made_of(tiny):
    card = (tiny[0] / "MODEL_CARD.md").read_text()
    assert "from seed 0: 250 unlabelled, 64 with captions" in card
    assert "text_to_signal_r10" in card


def test_a_model_that_is_there_is_not_trained_over(tiny):
    with pytest.raises(ArtifactError, match="is there already"):
        train(TINY, tiny[0], _silent)


def test_a_stopped_training_leaves_nothing_that_loads(tmp_path):
    def stop_at_writing(line):
        if line.startswith("writing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path / "model", stop_at_writing)
    assert not (tmp_path / "model").exists()


@contextmanager
def _training(tmp_path, **changes):
    """Run `lakebed train` in a process of its own; whatever a test leaves of it is killed."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(TINY.model_copy(update=changes).model_dump(mode="json")))
    command = [sys.executable, "-m", "lakebed", "train", str(tmp_path / "model"), "--recipe", str(recipe)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_for_line(process, words):
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return
    raise AssertionError("".join(said))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_process_that_is_ended_while_it_trains_leaves_no_folder(tmp_path, number, code):
    with _training(tmp_path, epochs=100_000) as process:
        _wait_for_line(process, "epoch 3/")
        process.send_signal(number)
        assert process.wait() == code
    assert not (tmp_path / "model").exists()


def _wait_for_file(process, path):
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)  # between two looks at the condition


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_that_loads(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    os.mkfifo(folder / CARD)  # a pipe that nobody reads holds the writer there for good
    with _training(tmp_path) as process:
        _wait_for_file(process, folder / TENSORS)
        process.kill()
    (folder / CARD).unlink()
    with pytest.raises(ArtifactError, match=f"no model here: {CONFIG}, {CARD} missing"):
        resolve_model(str(folder))
    (folder / CARD).write_text("# card")  # had it been written, too
    with pytest.raises(ArtifactError, match=f"no model here: {CONFIG} missing"):
        resolve_model(str(folder))
    made = write_artifact(folder, {"name": "again"}, {"weight": np.ones(3)}, "# card")
    assert resolve_model(str(folder)).digest == made.digest


def test_a_pattern_that_does_not_fit_the_text_weights_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="100 shared dimensions, but the text weights have 384"):
        train(TINY.model_copy(update={"pattern": (100, 384)}), tmp_path / "model", _silent)


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ({"pattern": [384]}, "must be even"),
        ({"quantiles": [0.5, 0.1]}, "quantiles must rise"),
        ({"quantiles": [0.5, 1.5]}, "between 0 and 1"),
        ({"corpus": 10}, "too few for 384 detail dimensions"),
        ({"pairs": 10}, "at least one batch"),
        ({"power": 1}, "power"),
        ({"epoch": 3}, "epoch: unknown field"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_before_any_work(field, says):
    with pytest.raises(ConfigError, match=says):
        Recipe.parse(field, where="recipe.yaml")


def test_whitening_weighs_down_what_changes_within_a_series():
    generator = np.random.default_rng(0)
    series = generator.standard_normal((1, 400, 3))
    views = series + generator.standard_normal((5, 400, 3)) * np.array([0.1, 1.0, 3.0])
    gains = np.diag(within_class_whitening(views.astype(np.float32), shrinkage=0.01, power=-0.5))
    assert gains[0] > gains[1] > gains[2]


def test_the_principal_rotation_keeps_lengths_and_puts_energy_first():
    vectors = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32) * np.arange(1, 7)
    rotation = principal_rotation(vectors.astype(np.float32))
    assert np.allclose(rotation.T @ rotation, np.eye(6), atol=1e-5)
    energy = np.square(vectors @ rotation).sum(0)
    assert (np.diff(energy) < 0).all()


def test_a_series_is_a_positive_of_every_caption_whose_words_fit():
    pairs = captioned_series(200, seed=0, split="train", brief=0.5)
    names = alignment._ATTRIBUTES
    values = alignment._numbered(pairs)
    stated = [[name in pair.stated for name in names] for pair in pairs]
    import torch

    found = alignment.positives(torch.from_numpy(values), torch.tensor(stated)).numpy()
    assert found.diagonal().all()
    for caption, series in ((0, 1), (3, 90), (12, 150), (20, 21)):
        fits = all(
            pairs[series].attributes[name] == pairs[caption].attributes[name] for name in pairs[caption].stated
        )
        assert found[caption, series] == fits
    assert found.sum() > len(pairs)
