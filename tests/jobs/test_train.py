"""Training: a seed makes a model, the same seed the same one, and nothing loads of a run that was stopped."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import yaml

from lakebed.jobs import alignment
from lakebed.jobs.canaries import all_items
from lakebed.jobs.projection import leading_directions, random_rotation, within_class_whitening
from lakebed.jobs.train import train
from lakebed.platform.config.recipe import Recipe
from lakebed.platform.encoder.artifact import CARD, CONFIG, TENSORS, write_artifact
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.errors import ArtifactError, ConfigError
from lakebed.platform.items import items_of
from lakebed.platform.synthesis import captioned_series

TINY = Recipe(
    name="tiny", quantiles=(0.5,), corpus=480, views=2, reduced=828, bias_series=16, pairs=64, outlines=32,
    prose=50, phrases=20, batch=32, hidden=16, heads=2, head_width=8, epochs=1,
)  # fmt: skip


def _silent(line):
    """Say nothing."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model trained in seconds."""
    folder, said = tmp_path_factory.mktemp("trained") / "tiny", []
    return folder, train(TINY, folder, said.append), said


def test_a_trained_model_embeds(tiny):
    folder, artifact, _ = tiny
    model = resolve_model(str(folder))
    assert len(model.recorded_vectors()) == len(all_items())
    assert len(model.trained_on()) == 0  # nothing recorded
    encoder = model.load("cpu")
    assert (encoder.info.name, encoder.info.digest, encoder.info.dimensions) == ("tiny", artifact.digest, 768)
    vectors = encode(encoder, items_of(["words", np.arange(30.0)])).vectors
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_same_seed_makes_the_same_model(tiny, tmp_path):
    assert train(TINY, tmp_path / "same", _silent).digest == tiny[1].digest


def test_the_card_says_what_the_model_was_made_of(tiny):
    card = (tiny[0] / "MODEL_CARD.md").read_text()
    assert "from seed 0: 480 unlabelled series in 2 versions, 64" in card
    assert "text_to_signal_r10" in card


def test_a_model_that_is_there_is_not_trained_over(tiny):
    with pytest.raises(ArtifactError, match="is there already"):
        train(TINY, tiny[0], _silent)


def test_a_stopped_training_leaves_nothing_that_loads_and_another_seed_learns_something_else(tiny, tmp_path):
    said = []

    def stop_at_writing(line):
        said.append(line)
        if line.startswith("writing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TINY.model_copy(update={"seed": 1}), tmp_path / "model", stop_at_writing)
    assert not (tmp_path / "model").exists()
    [first], [other] = ([line for line in lines if "loss" in line] for lines in (tiny[2], said))
    assert first != other


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
        ({"pattern": [384, 20]}, "descriptions 32 of the own"),
        ({"level_share": 0.98}, "their sum must be below 1"),
        ({"reduced": 600}, "reduced must be at least 820"),
        ({"quantiles": [0.5, 0.1]}, "quantiles must rise"),
        ({"quantiles": [0.5, 1.5]}, "between 0 and 1"),
        ({"corpus": 10}, "corpus x views is 40, too few: at least 1700"),
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
    gains = np.diag(within_class_whitening(views.astype(np.float32), shrinkage=0.01, power=-0.5, dimensions=3))
    assert gains[0] > gains[1] > gains[2]


def test_leading_directions_keep_most_energy_and_a_rotation_spreads_it_evenly():
    generator = np.random.default_rng(0)
    rows = (
        generator.standard_normal((3000, 150)).astype(np.float32)
        * np.r_[9, 7, 5, np.full(5, 1), np.full(142, 0.1)]
    )
    kept = rows @ leading_directions(rows.astype(np.float32), np.eye(150, dtype=np.float32), 8, generator)
    rotation = random_rotation(8, generator)
    assert np.square(kept).sum() == pytest.approx(np.square(rows[:, :8]).sum(), rel=0.01)
    assert np.allclose(rotation @ rotation.T, np.eye(8), atol=1e-6)
    before, after = np.square(kept).sum(0), np.square(kept @ rotation).sum(0)
    assert after.max() / after.min() < 0.3 * before.max() / before.min()


def test_the_gate_is_shut_for_other_text_and_open_for_descriptions():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 500, 20, generator=generator) + torch.tensor([2.0, -2.0])[:, None, None]
    weight, bias = alignment.fit_gate([rows[0][:400], rows[0][400:]], rows[1])
    sure = (rows @ weight + bias).clamp(0, 1)
    assert (sure[0] == 1).float().mean() > 0.95
    assert (sure[1] == 0).float().mean() > 0.99


def test_the_meaning_of_descriptions_is_a_map_of_the_rank_asked_for():
    generator = torch.Generator().manual_seed(0)
    said = torch.randn(300, 6, generator=generator)
    plain = said @ torch.randn(6, 10, generator=generator) + 3
    meaning, image = alignment.fit_meaning(said, plain, 4)
    assert np.linalg.matrix_rank(meaning, tol=1e-3) == 4
    assert np.allclose(image @ image.T, np.eye(4), atol=1e-5)
    kept = (plain - plain.mean(0)).numpy() @ image.T @ image
    assert np.corrcoef((said.numpy() @ meaning).ravel(), kept.ravel())[0, 1] > 0.99


def test_a_series_is_a_positive_of_every_caption_whose_words_fit():
    pairs = captioned_series(200, seed=0, split="train", brief=0.5)
    names = list(pairs[0].attributes)
    values = alignment._numbered(pairs, names)
    stated = [[name in pair.stated for name in names] for pair in pairs]
    found = alignment.positives(torch.from_numpy(values), torch.tensor(stated)).numpy()
    assert found.diagonal().all()
    for caption, series in ((0, 1), (3, 90), (12, 150), (20, 21)):
        fits = all(
            pairs[series].attributes[name] == pairs[caption].attributes[name] for name in pairs[caption].stated
        )
        assert found[caption, series] == fits
    assert found.sum() > len(pairs)
